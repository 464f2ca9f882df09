"""Positions that no SAE is trained or measured on: of chosen tokens, and the first of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from saetrack.data.config import CorpusConfig
from saetrack.utils.errors import UserError, shown

if TYPE_CHECKING:
    from jaxtyping import Bool, Int
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Excluded:
    """What is left out of training and metrics.

    Attributes:
        token_ids: wherever they stand.
        first_positions: how many at the beginning of each row.
    """

    token_ids: tuple[int, ...] = ()
    first_positions: int = 0

    @classmethod
    def of(cls, config: CorpusConfig, tokenizer: PreTrainedTokenizerFast) -> Excluded:
        """What a config leaves out, BOS aside.

        Raises:
            UserError: a token is none of the tokenizer's.
        """
        ids = {_token_id(token, tokenizer) for token in config.exclude_tokens}
        return cls(tuple(sorted(ids)), config.exclude_first_positions)

    def kept(self, rows: Int[Tensor, "rows context"]) -> Bool[Tensor, "rows context"]:
        """Which positions of rows of tokens remain."""
        kept = torch.ones_like(rows, dtype=torch.bool)
        if self.token_ids:
            kept = ~torch.isin(rows, torch.tensor(self.token_ids, device=rows.device))
        kept[:, : self.first_positions] = False
        return kept

    def kept_in(self, rows: Int[np.ndarray, "rows context"]) -> Bool[np.ndarray, "rows context"]:
        """The same of an array."""
        kept: Bool[np.ndarray, "rows context"] = self.kept(
            torch.from_numpy(rows.astype(np.int64))
        ).numpy()
        return kept

    def and_token(self, token_id: int) -> Excluded:
        """The same, and a token wherever it stands."""
        return replace(self, token_ids=tuple(sorted({*self.token_ids, token_id})))

    def __or__(self, other: Excluded) -> Excluded:
        """What one of two leaves out."""
        token_ids = tuple(sorted({*self.token_ids, *other.token_ids}))
        return Excluded(token_ids, max(self.first_positions, other.first_positions))


NOTHING = Excluded()


def _token_id(token: int | str, tokenizer: PreTrainedTokenizerFast) -> int:
    if isinstance(token, int):
        if 0 <= token < len(tokenizer):
            return token
        raise UserError(
            f"corpus.exclude_tokens={token}: the LM's tokenizer has ids 0 to {len(tokenizer) - 1}"
        )
    known = tokenizer.get_vocab()
    if token in known:
        return int(known[token])
    ids = tokenizer(token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise UserError(
            f"corpus.exclude_tokens={shown(token)}: must be one token of the LM's tokenizer, by "
            f"its text or its id; this text is {len(ids)} tokens: "
            f"{shown(tokenizer.convert_ids_to_tokens(ids))}"
        )
    return int(ids[0])
