"""How much of a feature's activation the token alone decides, over all tokens of the split.

    eta^2 = 1 - E[(f - m(token))^2] / Var(f)

with m the mean activation per token id, learned on the rows of even number and judged on the
others. Unlike a top list's purity it depends on no k: it is a check of the labels. Also how many
of a token's occurrences a feature fires on, from which the loss of polysemy is read (appendix G).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from saetrack.analysis.geometry.similarity import row_sums
from saetrack.data.exclusion import NOTHING, Excluded

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray

    from saetrack.analysis.contexts.top_contexts import Firings, TokenBatch

# Entries that are gathered before they are summed.
BUFFER_PAIRS = 2**20
# From these on a feature is decided by the token, or in part.
TOKEN_DETERMINISM, MIXED_DETERMINISM = 0.8, 0.5


class TokenStatistics:
    """Sums of activations by feature and token id, in one pass.

    Memory is that of the (feature, token id) pairs that ever occur, 40 bytes each: of a large
    dictionary take a sample of features.
    """

    def __init__(
        self, features: Int[ndarray, " sampled"], vocabulary: int, excluded: Excluded = NOTHING
    ) -> None:
        """Nothing is summed yet.

        Args:
            features: whose activations are looked at, ascending.
            vocabulary: tokens that there are.
            excluded: positions that are left out.
        """
        self.features, self.vocabulary = np.asarray(features), vocabulary
        self._excluded = excluded
        shape = (len(features), vocabulary)
        # Of the learning and the judging half: the activations' count, sum and sum of squares.
        self._sums = [[sparse.csr_array(shape) for _ in range(3)] for _ in range(2)]
        self._token_counts = np.zeros((2, vocabulary), np.int64)
        self._buffer: list[list[ndarray]] = []
        self._buffered = 0

    def add(self, firings: Firings, batch: TokenBatch) -> None:
        """Take in what fires in one batch of rows."""
        ids = batch.token_ids.astype(np.int64)
        half = batch.row_numbers % 2
        kept = self._excluded.kept_in(ids)
        for number in range(2):
            of_half = ids[half == number][kept[half == number]]
            self._token_counts[number] += np.bincount(of_half, minlength=self.vocabulary)
        of_pair, index_of_token = firings.features.cpu().numpy(), firings.tokens.cpu().numpy()
        acts = firings.feature_acts.double().cpu().numpy()
        index = np.searchsorted(self.features, of_pair).clip(0, len(self.features) - 1)
        token_ids = ids.reshape(-1)[index_of_token]
        wanted = (self.features[index] == of_pair) & (acts > 0)
        wanted &= kept.reshape(-1)[index_of_token]
        half_of_pair = half[index_of_token // ids.shape[1]]
        columns = (half_of_pair, index, token_ids, acts)
        self._buffer.append([column[wanted] for column in columns])
        self._buffered += int(wanted.sum())
        if self._buffered >= BUFFER_PAIRS:
            self._merge()

    def _merge(self) -> None:
        if not self._buffered:
            return
        halves, indices, ids, acts = (
            np.concatenate(part) for part in zip(*self._buffer, strict=True)
        )
        for number, sums in enumerate(self._sums):
            here = halves == number
            where = (indices[here], ids[here])
            for power, held in enumerate(sums):
                new = sparse.coo_array((acts[here] ** power, where), shape=held.shape)
                sums[power] = sparse.csr_array(held + new.tocsr())
        self._buffer, self._buffered = [], 0

    def determinism(self) -> pd.DataFrame:
        """Explained by the token, on the half that was not learned from.

        Returns:
            One row per feature: `feature`, `determinism` (eta^2, negative where the token's mean
            misleads; NaN for a feature that is constant there), `determined`: `token`, `mixed`,
            `contextual` or, where there is no number, None.
        """
        self._merge()
        learn, judge = self._token_counts
        (_, sums, _), (_, judged, squares) = self._sums
        overall = row_sums(sums) / max(learn.sum(), 1)
        # A token that was never learned is expected to have the feature's overall mean.
        known = learn > 0
        means = sparse.csr_array(sums @ sparse.diags_array(1 / np.maximum(learn, 1)))
        squared, unknown = row_sums(squares), row_sums(judged[:, ~known])
        error = squared - 2 * row_sums(means.multiply(judged))
        error += means.multiply(means) @ judge - 2 * overall * unknown
        error += overall**2 * judge[~known].sum()
        variation = squared - row_sums(judged) ** 2 / max(judge.sum(), 1)
        varies = variation > 1e-12 * np.maximum(squared, 1e-300)
        eta = np.full(len(variation), np.nan)
        eta[varies] = 1 - error[varies] / variation[varies]
        bounds = [eta >= TOKEN_DETERMINISM, eta >= MIXED_DETERMINISM, ~np.isnan(eta)]
        determined = np.select(bounds, ["token", "mixed", "contextual"], "")
        return pd.DataFrame(
            {
                "feature": self.features,
                "determinism": eta,
                "determined": np.where(determined == "", None, determined),  # type: ignore[call-overload]
            }
        )

    def recall(
        self, texts: Int[ndarray, " sampled"], text_ids: Int[ndarray, " vocabulary"]
    ) -> Float[ndarray, " sampled"]:
        """Of the occurrences of each feature's text, the share on which the feature fires.

        Args:
            texts: per feature the number of a text; -1 for none, which gives NaN.
            text_ids: for each token the number of its normalised text.
        """
        self._merge()
        known = np.flatnonzero(texts >= 0)
        # The tokens that are a feature's text, as ones.
        to_text = sparse.csr_array(
            (np.ones(self.vocabulary), (text_ids, np.arange(self.vocabulary)))
        )
        wanted = to_text[texts[known]]
        fires = row_sums(wanted.multiply((self._sums[0][0] + self._sums[1][0])[known]))
        occurs = wanted @ self._token_counts.sum(axis=0)
        shares = np.full(len(texts), np.nan)
        shares[known] = np.divide(fires, occurs, out=np.full(len(known), np.nan), where=occurs > 0)
        return shares
