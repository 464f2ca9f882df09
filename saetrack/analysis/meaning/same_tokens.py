"""Random occurrences of the tokens of a feature's contexts: is it more than its tokens?

Contexts of related tokens are alike wherever these stand. So each context is replaced by a random
occurrence of its own token, drawn without repetition from those that could be contexts: positions
that take part, one of each row and of each text where top contexts have it so. A feature's own
contexts are among them: where a token is rare, little can be told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saetrack.analysis.contexts.top_contexts import WINDOW, text_keys
from saetrack.data.exclusion import NOTHING, Excluded

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray


class Occurrences:
    """Where each token of a text occurs, in random order."""

    def __init__(
        self,
        token_rows: Int[ndarray, "rows context"],
        vocabulary: int,
        seed: int,
        excluded: Excluded = NOTHING,
        *,
        distinct: bool = True,
    ) -> None:
        """For a text.

        Args:
            token_rows: of the analysis split.
            vocabulary: tokens that there are.
            seed: of the order.
            excluded: positions that are left out.
            distinct: whether of a row, and of a text, an occurrence of a token counts once.
        """
        self._context_size = token_rows.shape[1]
        at = np.flatnonzero(excluded.kept_in(token_rows).reshape(-1))
        generator = np.random.default_rng(seed)
        at = at[generator.permutation(len(at))]
        token_ids = token_rows.reshape(-1).astype(np.int64)[at]
        if distinct:
            keys = text_keys(token_rows, *WINDOW).reshape(-1)[at]
            of_text = _first_of(token_ids, keys)
            at, token_ids = at[of_text], token_ids[of_text]
            of_row = _first_of(token_ids, (at // self._context_size).astype(np.uint64))
            at, token_ids = at[of_row], token_ids[of_row]
        order = np.argsort(token_ids, kind="stable")
        self._at = at[order]
        self._begins = np.searchsorted(token_ids[order], np.arange(vocabulary + 1))

    def draw(
        self, token_ids: Int[ndarray, "features k"], generator: np.random.Generator
    ) -> tuple[Int[ndarray, "features k"], Int[ndarray, "features k"]]:
        """A random occurrence of each token: rows and positions; -1 where there is none.

        Those of one feature differ, unless it has a token more often than there are occurrences.
        """
        features, k = token_ids.shape
        inside = token_ids >= 0
        of_feature, _ = np.nonzero(inside)
        tokens = token_ids[inside].astype(np.int64)
        counts = np.diff(self._begins)[tokens]
        # Equal tokens of a feature stand evenly in the random order, from a random start on.
        group = of_feature * len(self._begins) + tokens
        _, first, inverse, sizes = np.unique(
            group, return_index=True, return_inverse=True, return_counts=True
        )
        order = np.argsort(inverse, kind="stable")
        rank = np.empty(len(group), np.int64)
        rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        start = generator.random(len(first))[inverse]
        number = (start * counts).astype(np.int64) + rank * counts // sizes[inverse]
        found = counts > 0
        at = np.full(len(group), -1)
        at[found] = self._at[(self._begins[tokens] + number % np.maximum(counts, 1))[found]]
        rows, positions = np.full((features, k), -1), np.full((features, k), -1)
        rows[inside] = np.where(at < 0, -1, at // self._context_size)
        positions[inside] = np.where(at < 0, -1, at % self._context_size)
        return rows, positions


def _first_of(tokens: Int[ndarray, " found"], keys: ndarray) -> Int[ndarray, " kept"]:
    """Indices, ascending, of the first of each token and key."""
    factors = np.random.default_rng(1).integers(2**63, size=2, dtype=np.uint64) * 2 + 1
    both = tokens.astype(np.uint64) * factors[0] + keys * factors[1]
    return np.sort(np.unique(both, return_index=True)[1])


def share_that_passes(
    likeness_of_draws: Float[ndarray, "features draws"],
    mean: Float[ndarray, " features"],
    spread: Float[ndarray, " features"],
    min_coherence_z: float,
) -> Float[ndarray, " features"]:
    """Share of each feature's draws that are coherent enough for a concept.

    Args:
        likeness_of_draws: S of random occurrences of each feature's tokens, draw by draw.
        mean: of S over matched random sets, which are the same: frequencies are those of tokens.
        spread: their standard deviation.
        min_coherence_z: that a concept takes.
    """
    passes: Float[ndarray, " features"]
    passes = (likeness_of_draws - mean[:, None] >= min_coherence_z * spread[:, None]).mean(axis=1)
    return passes
