"""The features of a registered chain on a text of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch

from saetrack.lm.token_texts import texts_together
from saetrack.utils.errors import UserError, shown

if TYPE_CHECKING:
    from saetrack.analysis.pipeline.feature_pass import FeaturePass
    from saetrack.analysis.pipeline.registered_chain import RegisteredChain
    from saetrack.lm.token_texts import TokenText


def token_ids_of(registered: RegisteredChain, text: str) -> list[int]:
    """A text in the tokens of a chain's LM.

    Raises:
        UserError: the text is no str or has no token.
    """
    if not isinstance(text, str):
        raise UserError(f"text={shown(text)}: must be one text (str)")
    tokenizer, _ = registered.ready.source.tokenizer()
    token_ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not token_ids:
        raise UserError(f"text={text!r}: must have a token at least")
    return token_ids


def token_texts_of(registered: RegisteredChain, token_ids: list[int]) -> list[TokenText]:
    """What each token of a text is as text."""
    tokenizer, _ = registered.ready.source.tokenizer()
    return texts_together(tokenizer, token_ids)


def activations_at(
    registered: RegisteredChain, opened: FeaturePass, token_ids: list[int]
) -> pd.DataFrame:
    """The feature activations of a text at one checkpoint, (tokens, d_sae).

    The text is cut into rows as the corpus is, each beginning with BOS, which is left out.

    Args:
        registered: the chain.
        opened: one of its links, with its LM.
        token_ids: of the text.

    Returns:
        A row per token, indexed by the token's text (`token_texts_of`); a column per feature.
    """
    corpus = registered.chain.corpus
    row_tokens = corpus.context_size - 1
    parts = []
    for start in range(0, len(token_ids), row_tokens):
        row = [corpus.bos_token_id, *token_ids[start : start + row_tokens]]
        x = opened.lm.activations(torch.tensor([row]))[0, 0, 1:]
        parts.append(opened.sae.encode(x).detach().cpu())
    texts = [token.text for token in token_texts_of(registered, token_ids)]
    index = pd.Index(texts, name="token")
    return pd.DataFrame(torch.cat(parts).numpy(), index=index)
