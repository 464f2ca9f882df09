"""Which feature of one SAE fires where one of another does: assignment by activation correlation.

Decoder cosines compare directions of one residual stream. Between two layers, or two LMs, there is
no common stream, but the tokens are the same: there, features are matched by the Pearson
correlation of their activations over tokens, most of which are zero. Where both measures exist,
their agreement says how far a match can be trusted.

    r_ij = (sum_t a_it b_jt / n - mean_i mean_j) / (sd_i sd_j)          sums over all n tokens

Only active pairs are kept: 50 per token, 600 MB for 1 M tokens, whatever the dictionary's size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array, hstack
from torch.nn.functional import normalize

from saetrack.analysis.matching.assignment import CANDIDATES, Assignment, assign
from saetrack.analysis.matching.match_quality import match_quality

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.sae.kernels.sparse import ActivePairs


class SharedTokens:
    """The activations of two SAEs on the same tokens, taken in batch by batch."""

    def __init__(self) -> None:
        self._left: list[csr_array] = []
        self._right: list[csr_array] = []

    def add(
        self,
        left: ActivePairs | Float[Tensor, "tokens left_d_sae"],
        right: ActivePairs | Float[Tensor, "tokens right_d_sae"],
    ) -> None:
        """Take in one batch: active pairs (`saetrack.sae.kernels.sparse`), or all activations.

        Raises:
            ValueError: the sides have different numbers of tokens.
        """
        both = by_feature(left), by_feature(right)
        if both[0].shape[1] != both[1].shape[1]:
            raise ValueError(f"{both[0].shape[1]} and {both[1].shape[1]} tokens: not the same ones")
        self._left.append(both[0])
        self._right.append(both[1])

    def correlations(self) -> CorrelationScores:
        """The correlations of all features that vary; those of the others do not exist."""
        left, right = (_FeatureActs.of(hstack(side, "csr")) for side in (self._left, self._right))
        return CorrelationScores(left, right)


def by_feature(feature_acts: ActivePairs | Float[Tensor, "tokens d_sae"]) -> csr_array:
    """The activations as a sparse (d_sae, tokens) array of float64."""
    if isinstance(feature_acts, torch.Tensor):
        return csr_array(feature_acts.detach().cpu().double().numpy().T)
    values, tokens, offsets = (
        part.detach().cpu().numpy()
        for part in (feature_acts.feature_acts, feature_acts.tokens, feature_acts.offsets)
    )
    shape = (len(offsets) - 1, feature_acts.batch_tokens)
    return csr_array((values.astype(np.float64), tokens, offsets), shape=shape)


@dataclass(frozen=True)
class _FeatureActs:
    """One side: the features that vary.

    Attributes:
        acts: (live, tokens).
        mean: over tokens, (live,).
        sd: over tokens, divisor n, (live,).
        features: indices in the dictionary, (live,).
        d_sae: of the dictionary.
    """

    acts: csr_array
    mean: Float[np.ndarray, " live"]
    sd: Float[np.ndarray, " live"]
    features: Int[np.ndarray, " live"]
    d_sae: int

    @classmethod
    def of(cls, acts: Any) -> _FeatureActs:
        tokens = acts.shape[1]
        mean = np.asarray(acts.sum(axis=1)).ravel() / tokens
        square = np.asarray(acts.multiply(acts).sum(axis=1)).ravel() / tokens
        variance = square - mean**2
        live = np.flatnonzero(variance > 1e-12 * square)
        return cls(acts[live], mean[live], np.sqrt(variance[live]), live, acts.shape[0])


@dataclass(frozen=True)
class CorrelationScores:
    """Pearson correlations of the live features of two SAEs, in blocks of rows.

    Attributes:
        left: one SAE's activations.
        right: the other's, on the same tokens.
    """

    left: _FeatureActs
    right: _FeatureActs

    @property
    def shape(self) -> tuple[int, int]:
        """Live features of both."""
        return len(self.left.features), len(self.right.features)

    @property
    def T(self) -> CorrelationScores:  # noqa: N802
        """The same with sides exchanged."""
        return CorrelationScores(self.right, self.left)

    def shuffled(self, seed: int) -> CorrelationScores:
        """The chance level: the right side's tokens in random order."""
        right = self.right
        order = np.random.default_rng(seed).permutation(right.acts.shape[1])
        return CorrelationScores(self.left, replace(right, acts=right.acts[:, order]))

    def rows(self, block: slice) -> Float[Tensor, "block columns"]:
        """Of some left features with all right ones."""
        left, right = self.left, self.right
        products = (left.acts[block] @ right.acts.T).toarray() / left.acts.shape[1]
        products -= np.outer(left.mean[block], right.mean)
        products /= left.sd[block, None] * right.sd
        return torch.from_numpy(products)


def match_activations(
    scores: CorrelationScores,
    candidates: int = CANDIDATES,
    decoders: tuple[Float[Tensor, "left_d_sae d_in"], Float[Tensor, "right_d_sae d_in"]]
    | None = None,
) -> tuple[Assignment, pd.DataFrame]:
    """Match features by the correlation of their activations, one to one.

    Args:
        scores: as `SharedTokens.correlations` gives them.
        candidates: see `saetrack.analysis.matching.assignment.assign`.
        decoders: decoder rows of both, if they share a residual stream.

    Returns:
        The assignment, whose rows and columns count live features, and one row per pair with

        - `left`, `right`: indices in the dictionaries; `correlation`;
        - `left_runner_up`, `right_runner_up`, `margin`, `mutual_best`: see
          `saetrack.analysis.matching.match_quality`;
        - `left_density`, `right_density`: shares of tokens on which they fire;
        - `decoder_cosine`: NaN without `decoders`.
    """
    found = assign(scores, candidates)
    table = match_quality(scores, found).rename(
        columns={
            "row": "left",
            "column": "right",
            "score": "correlation",
            "row_runner_up": "left_runner_up",
            "column_runner_up": "right_runner_up",
        }
    )
    for name, side, chosen in (
        ("left", scores.left, found.rows),
        ("right", scores.right, found.columns),
    ):
        table[name] = side.features[chosen]
        active = np.diff(side.acts.indptr)[chosen]
        table[f"{name}_density"] = active / side.acts.shape[1]
    table["decoder_cosine"] = np.nan
    if decoders is not None:
        rows = (
            normalize(W_dec.detach().cpu()[torch.tensor(table[name].to_numpy())].double(), dim=1)
            for name, W_dec in zip(("left", "right"), decoders, strict=True)
        )
        left, right = rows
        table["decoder_cosine"] = (left * right).sum(dim=1).numpy()
    return found, table


def match_summary(scores: CorrelationScores, found: Assignment, table: pd.DataFrame) -> pd.Series:
    """One matching in numbers: pairs, medians, shares, and what was left out.

    `left_unmatched` and `right_unmatched` count live features for which the other side had none
    left; `share_outside_candidates` is the share of pairs that are no candidate of either feature
    (`saetrack.analysis.matching.assignment`).
    """
    left, right = scores.left, scores.right
    return pd.Series(
        {
            "pairs": len(table),
            "tokens": left.acts.shape[1],
            "median_correlation": table["correlation"].median(),
            "share_above_0.7": (table["correlation"] > 0.7).mean(),
            "share_above_0.9": (table["correlation"] > 0.9).mean(),
            "share_mutual_best": table["mutual_best"].mean(),
            "median_decoder_cosine": table["decoder_cosine"].median(),
            "left_dead": left.d_sae - len(left.features),
            "right_dead": right.d_sae - len(right.features),
            "left_unmatched": len(left.features) - len(table),
            "right_unmatched": len(right.features) - len(table),
            "share_outside_candidates": found.outside.mean() if len(table) else np.nan,
        }
    )
