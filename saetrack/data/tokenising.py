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


class Counted:
    """An iterator over documents that knows how many it has given."""

    def __init__(self, documents: Iterable[str], count: int = 0) -> None:
        """Leave out the first `count` documents, which count as given."""
        self.count = count
        self._documents = itertools.islice(documents, count, None)

    def __iter__(self) -> Iterator[str]:
        for document in self._documents:
            self.count += 1
            yield document


def tokenised(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    missing_rows: Mapping[Split, int],
    removed: frozenset[int] = frozenset(),
) -> Iterator[list[tuple[Split, list[int]]]]:
    """The documents of those splits that still lack rows, as tokens without BOS, in batches.

    Args:
        documents: read until no split lacks any rows.
        tokenizer: of the LM.
        missing_rows: of each split; the caller counts them down while it takes batches.
        removed: ids that are left out.
    """
    wanted = _wanted(documents, missing_rows)
    while batch := list(itertools.islice(wanted, BATCH_DOCUMENTS)):
        texts = [document for _, document in batch]
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        if removed:
            encoded = [[token for token in tokens if token not in removed] for tokens in encoded]
        yield list(zip((split for split, _ in batch), encoded, strict=True))


def special_ids(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """The ids of all special tokens: BOS and its like, and those that mark the turns of a chat."""
    added = tokenizer.added_tokens_decoder
    return frozenset(tokenizer.all_special_ids) | {
        token_id for token_id, token in added.items() if token.special
    }


def _wanted(
    documents: Iterable[str], missing_rows: Mapping[Split, int]
) -> Iterator[tuple[Split, str]]:
    for document in documents:
        if not any(missing_rows.values()):
            return
        split = split_of(document)
        if missing_rows[split]:
            yield split, document
