"""Documents to tokens, each with the split that it belongs to."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from saetrack.data.splits import Split, split_of
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BATCH_DOCUMENTS = 256


def bos_of(tokenizer: PreTrainedTokenizerFast) -> int:
    """The id that begins documents: BOS, or EOS where a tokenizer has no BOS.

    Raises:
        UserError: it has neither.
    """
    for token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    raise UserError("corpus: the LM's tokenizer has neither a BOS nor an EOS token")


def tokenised(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    missing_rows: Mapping[Split, int],
) -> Iterator[tuple[Split, list[int]]]:
    """The documents of those splits that still lack rows, as tokens without BOS.

    Args:
        documents: read until no split lacks any rows.
        tokenizer: of the LM.
        missing_rows: of each split; the caller counts them down while it takes documents.
    """
    wanted = _wanted(documents, missing_rows)
    while batch := list(itertools.islice(wanted, BATCH_DOCUMENTS)):
        texts = [document for _, document in batch]
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        yield from zip((split for split, _ in batch), encoded, strict=True)


def _wanted(
    documents: Iterable[str], missing_rows: Mapping[Split, int]
) -> Iterator[tuple[Split, str]]:
    for document in documents:
        if not any(missing_rows.values()):
            return
        split = split_of(document)
        if missing_rows[split]:
            yield split, document
