"""Some successive features with all their active pairs, ready to be looked up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray

    from saetrack.analysis.life_store.spool import Pairs


@dataclass(frozen=True)
class Block:
    """Features and their pairs; within the block features are counted from 0.

    Attributes:
        first: the first feature, as the SAE counts.
        pairs: of the features.
        tokens: of the flattened split, all of which any pair's token is one.
    """

    first: int
    pairs: Pairs
    tokens: int

    @property
    def features(self) -> int:
        """How many there are."""
        return len(self.pairs.offsets) - 1

    @cached_property
    def counts(self) -> Int[ndarray, " features"]:
        """Pairs of each feature."""
        return np.diff(self.pairs.offsets)

    @cached_property
    def of_pair(self) -> Int[ndarray, " pairs"]:
        """The feature of each pair."""
        return np.repeat(np.arange(self.features), self.counts)

    @cached_property
    def keys(self) -> Int[ndarray, " pairs"]:
        """Feature and token of each pair as one number, ascending."""
        found: Int[ndarray, " pairs"] = self.of_pair * self.tokens + self.pairs.tokens
        return found

    @cached_property
    def max_acts(self) -> Float[ndarray, " features"]:
        """The largest activation of each feature; 0 if it never fires."""
        found: Float[ndarray, " features"]
        found = self.reduced(np.maximum, self.pairs.acts, np.float32(0))
        return found

    def reduced(self, how: np.ufunc, values: ndarray, empty: np.generic) -> ndarray:
        """One value for each feature of those of its pairs; `empty` where it has none."""
        found = np.full(self.features, empty)
        fires = self.counts > 0
        if fires.any():
            found[fires] = how.reduceat(values, self.pairs.offsets[:-1][fires])
        return found

    def find(self, tokens: Int[ndarray, "features k"]) -> Int[ndarray, "features k"]:
        """The pair of each feature and token; -1 where the feature does not fire on it.

        Args:
            tokens: of each feature; -1 for none.
        """
        keys = np.arange(self.features)[:, None] * self.tokens + tokens
        if not len(self.keys):
            return np.full(tokens.shape, -1)
        index = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where((self.keys[index] == keys) & (tokens >= 0), index, -1)
