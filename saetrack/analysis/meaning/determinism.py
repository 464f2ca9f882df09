"""How much of a feature's activation the token alone explains, over all tokens of the split.

    eta^2 = 1 - sum (f - m)^2 / sum (f - o)^2

where m is the mean activation on the token's *other* occurrences and o that on all other tokens: no
token is predicted from itself, so that a feature of rare tokens does not look explained. A token
that occurs once is predicted by o. The number is that of all active pairs, at every link, of every
feature; it depends on no top list. Also on how many of a token's occurrences a feature fires, from
which the loss of polysemy is read (appendix G).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from saetrack.data.exclusion import NOTHING, Excluded

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray

    from saetrack.analysis.life_store.spool import Pairs

# From this on a feature is determined by the token.
TOKEN_DETERMINISM = 0.8


@dataclass(frozen=True)
class Sums:
    """What of some features' activations the shares need; each is one value per feature.

    Attributes:
        weighted: of squared activations, each times `TokenStatistics.weights` of its token.
        of_tokens: over tokens of the squared sum of activations, times
            `TokenStatistics.of_squares`.
        total: of activations.
        squares: of squared activations.
        once: of activations on tokens that occur once.
        once_squares: of squared ones there.
    """

    weighted: Float[ndarray, " features"]
    of_tokens: Float[ndarray, " features"]
    total: Float[ndarray, " features"]
    squares: Float[ndarray, " features"]
    once: Float[ndarray, " features"]
    once_squares: Float[ndarray, " features"]


class TokenStatistics:
    """What tokens explain of features, on one text."""

    def __init__(
        self,
        token_rows: Int[ndarray, "rows context"],
        vocabulary: int,
        excluded: Excluded = NOTHING,
    ) -> None:
        """For a text.

        Args:
            token_rows: of the analysis split.
            vocabulary: tokens that there are.
            excluded: positions that are left out, also by whoever gives pairs.
        """
        self.flat = token_rows.reshape(-1).astype(np.int64)
        self.vocabulary = vocabulary
        kept = excluded.kept_in(token_rows).reshape(-1)
        self.counts = np.bincount(self.flat[kept], minlength=vocabulary)

    @cached_property
    def weights(self) -> Float[ndarray, " vocabulary"]:
        """By token: what a squared distance to its mean weighs when the mean is of the others."""
        often = self.counts > 1
        found: Float[ndarray, " vocabulary"]
        found = np.where(often, (self.counts / np.maximum(self.counts - 1, 1)) ** 2, 0.0)
        return found

    @cached_property
    def of_squares(self) -> Float[ndarray, " vocabulary"]:
        """By token: the same weight over the token's occurrences."""
        found: Float[ndarray, " vocabulary"] = self.weights / np.maximum(self.counts, 1)
        return found

    def determinism(self, sums: Sums) -> Float[ndarray, " features"]:
        """Eta squared; negative where tokens mislead, NaN for what does not vary."""
        tokens, once = int(self.counts.sum()), int((self.counts == 1).sum())
        mean, of_others = sums.total / max(tokens, 1), (tokens / max(tokens - 1, 1)) ** 2
        error = sums.weighted - sums.of_tokens
        error += of_others * (sums.once_squares - 2 * mean * sums.once + once * mean**2)
        variation = of_others * (sums.squares - sums.total * mean)
        varies = variation > 1e-12 * np.maximum(sums.squares, 1e-300)
        eta = np.full(len(mean), np.nan)
        eta[varies] = 1 - error[varies] / variation[varies]
        return eta

    def of_pairs(self, pairs: Pairs) -> Float[ndarray, " features"]:
        """Eta squared of successive features by their active pairs; NaN for those without any."""
        features = len(pairs.offsets) - 1
        of_pair = np.repeat(np.arange(features), np.diff(pairs.offsets))
        token_ids, acts = self.flat[pairs.tokens], pairs.acts.astype(np.float64)
        squares, once = acts**2, (self.counts == 1)[token_ids]
        where, shape = (of_pair, token_ids), (features, self.vocabulary)
        sums = sparse.csr_array(sparse.coo_array((acts, where), shape=shape))

        def summed(values: ndarray) -> Float[ndarray, " features"]:
            return np.bincount(of_pair, values, minlength=features)

        return self.determinism(
            Sums(
                weighted=summed(squares * self.weights[token_ids]),
                of_tokens=sums.power(2) @ self.of_squares,
                total=summed(acts),
                squares=summed(squares),
                once=summed(acts * once),
                once_squares=summed(squares * once),
            )
        )

    def recall(
        self,
        pairs: Pairs,
        texts: Int[ndarray, " features"],
        text_ids: Int[ndarray, " vocabulary"],
    ) -> Float[ndarray, " features"]:
        """Of the occurrences of each feature's text, the share on which the feature fires.

        Args:
            pairs: of successive features.
            texts: per feature the number of a text; -1 for none, which gives NaN.
            text_ids: for each token the number of its normalised text.
        """
        of_pair = np.repeat(np.arange(len(texts)), np.diff(pairs.offsets))
        is_text = text_ids[self.flat[pairs.tokens]] == texts[of_pair]
        fires = np.bincount(of_pair[is_text], minlength=len(texts))
        occurs = np.bincount(text_ids, self.counts)[texts]
        known = (texts >= 0) & (occurs > 0)
        shares = np.full(len(texts), np.nan)
        shares[known] = fires[known] / occurs[known]
        return shares

    def of_all(
        self,
        blocks: Iterable[tuple[slice, Pairs]],
        texts: Int[ndarray, " features"],
        text_ids: Int[ndarray, " vocabulary"],
    ) -> tuple[Float[ndarray, " features"], Float[ndarray, " features"]]:
        """Eta squared and recall of all features, block by block; in memory is one block."""
        eta, recall = np.full(len(texts), np.nan), np.full(len(texts), np.nan)
        for features, pairs in blocks:
            eta[features] = self.of_pairs(pairs)
            recall[features] = self.recall(pairs, texts[features], text_ids)
        return eta, recall
