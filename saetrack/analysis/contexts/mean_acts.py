"""The mean activation of every feature where it fires."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from saetrack.data.exclusion import NOTHING, Excluded

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray

    from saetrack.analysis.contexts.top_contexts import Firings, TokenBatch


class MeanActs:
    """Sums activations of a stream of batches."""

    def __init__(self, d_sae: int, excluded: Excluded = NOTHING) -> None:
        """Nothing is summed yet.

        Args:
            d_sae: features.
            excluded: positions that are left out.
        """
        self._excluded = excluded
        self._sums = np.zeros(d_sae)
        self._fires = np.zeros(d_sae, np.int64)

    def add(self, firings: Firings, batch: TokenBatch) -> None:
        """Take in what fires in one batch of rows."""
        features, tokens, acts = firings
        kept = torch.from_numpy(self._excluded.kept_in(batch.token_ids).reshape(-1))
        wanted = (acts > 0) & kept.to(tokens.device)[tokens]
        of_features, d_sae = features[wanted], len(self._sums)
        sums = torch.bincount(of_features, acts[wanted].double(), minlength=d_sae)
        self._sums += sums.cpu().numpy()
        self._fires += torch.bincount(of_features, minlength=d_sae).cpu().numpy()

    def result(self) -> Float[ndarray, " d_sae"]:
        """Of each feature, 0 if it never fires."""
        return self._sums / np.maximum(self._fires, 1)
