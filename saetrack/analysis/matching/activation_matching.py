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
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_array, hstack
from torch.nn.functional import normalize

from saetrack.analysis.matching.assignment import CANDIDATES
from saetrack.analysis.matching.matching import Matching, Side, match
from saetrack.analysis.matching.scores import precision

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from saetrack.sae.kernels.sparse import ActivePairs

CPU = torch.device("cpu")
NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


class SharedTokens:
    """The activations of two SAEs on the same tokens, taken in batch by batch."""

    def __init__(self) -> None:
        self._left: list[csr_array] = []
        self._right: list[csr_array] = []

    def add(self, left: ActivePairs, right: ActivePairs) -> None:
        """Take in one batch.

        Raises:
            ValueError: the sides have different numbers of tokens.
        """
        if left.batch_tokens != right.batch_tokens:
            raise ValueError(
                f"{left.batch_tokens} and {right.batch_tokens} tokens: not the same ones"
            )
        self._left.append(by_feature(left))
        self._right.append(by_feature(right))

    def correlations(self, device: torch.device = CPU) -> CorrelationScores:
        """The correlations of all features that vary; those of the others do not exist."""
        left, right = (FeatureActs.of(hstack(side, "csr")) for side in (self._left, self._right))
        return CorrelationScores(left, right, device)


def by_feature(pairs: ActivePairs) -> csr_array:
    """The activations as a sparse (d_sae, tokens) array of float64."""
    values, tokens, offsets = (
        part.detach().cpu().numpy() for part in (pairs.feature_acts, pairs.tokens, pairs.offsets)
    )
    shape = (len(offsets) - 1, pairs.batch_tokens)
    return csr_array((values.astype(np.float64), tokens, offsets), shape=shape)


@dataclass(frozen=True)
class FeatureActs:
    """One side: the features that vary.

    Attributes:
        acts: (live, tokens).
        mean: over tokens, (live,).
        sd: over tokens, divisor n, (live,).
        side: which features these are.
    """

    acts: csr_array
    mean: Float[Tensor, " live"]
    sd: Float[Tensor, " live"]
    side: Side

    @classmethod
    def of(cls, acts: Any) -> FeatureActs:
        """Of the activations of a whole dictionary."""
        tokens = acts.shape[1]
        mean = np.asarray(acts.sum(axis=1)).ravel() / tokens
        square = np.asarray(acts.multiply(acts).sum(axis=1)).ravel() / tokens
        variance = square - mean**2
        live = np.flatnonzero(variance > 1e-12 * square)
        moments = torch.from_numpy(mean[live]), torch.from_numpy(np.sqrt(variance[live]))
        return cls(acts[live], *moments, Side(live, acts.shape[0]))


@dataclass(frozen=True)
class CorrelationScores:
    """Pearson correlations of the live features of two SAEs, in blocks of rows.

    Attributes:
        left: one SAE's activations.
        right: the other's, on the same tokens.
        device: of the products. A GPU multiplies the right side by dense blocks of the left one; on
            a CPU products of sparse arrays take a fortieth of that.
    """

    left: FeatureActs
    right: FeatureActs
    device: torch.device = CPU

    @property
    def shape(self) -> tuple[int, int]:
        """Live features of both."""
        return len(self.left.sd), len(self.right.sd)

    @property
    def T(self) -> CorrelationScores:  # noqa: N802
        """The same with sides exchanged."""
        return replace(self, left=self.right, right=self.left)

    def shuffled(self, seed: int) -> CorrelationScores:
        """The chance level: the right side's tokens in random order."""
        acts = self.right.acts
        order = np.random.default_rng(seed).permutation(acts.shape[1])
        return replace(self, right=replace(self.right, acts=acts[:, order]))

    def rows(self, block: slice) -> Float[Tensor, "block columns"]:
        """Of some left features with all right ones."""
        left, right = self.left, self.right
        scores = self._products(left.acts[block])
        means, sds = (
            [values.to(scores.device, scores.dtype) for values in both]
            for both in ((left.mean[block], right.mean), (left.sd[block], right.sd))
        )
        # In place: a block of scores is read and written as seldom as can be.
        scores.addr_(*means, beta=1 / left.acts.shape[1], alpha=-1)
        return scores.div_(sds[0][:, None]).div_(sds[1])

    def _products(self, left: csr_array) -> Float[Tensor, "block columns"]:
        """Sums over tokens, in the precision of the scores."""
        dtype = precision(self.shape[0] * self.shape[1])
        if self.device.type == "cpu":
            products = left @ self._right_by_token
            return torch.from_numpy(products.astype(NUMPY[dtype], copy=False).toarray())
        return multiply_on_device(self._right_there, left).to(dtype)

    @cached_property
    def _right_by_token(self) -> csr_array:
        return csr_array(self.right.acts.T)

    @cached_property
    def _right_there(self) -> Tensor:
        return on_device(self.right.acts, self.device)


def on_device(acts: csr_array, device: torch.device) -> Tensor:
    """The same as a sparse tensor."""
    pairs = acts.tocoo()
    where, values = torch.from_numpy(np.stack(pairs.coords)), torch.from_numpy(pairs.data)
    there = torch.sparse_coo_tensor(
        where, values, acts.shape, is_coalesced=True, check_invariants=False
    )
    return there.to(device)


def multiply_on_device(right: Tensor, left: csr_array) -> Float[Tensor, "block columns"]:
    """The products of all rows of both, (left rows, right rows)."""
    dense = torch.from_numpy(left.toarray()).to(right.device)
    return (right @ dense.T.contiguous()).T.contiguous()


def match_activations(
    scores: CorrelationScores,
    decoders: tuple[Float[Tensor, "left_d_sae d_in"], Float[Tensor, "right_d_sae d_in"]]
    | None = None,
    candidates: int = CANDIDATES,
) -> Matching:
    """Match features by the correlation of their activations, one to one.

    Args:
        scores: as `SharedTokens.correlations` gives them.
        decoders: decoder rows of both, if they share a residual stream: the pairs then have a
            `decoder_cosine` that is not NaN.
        candidates: see `saetrack.analysis.matching.assignment.assign`.
    """
    found = match(scores, scores.left.side, scores.right.side, candidates)
    cosine: Any = np.nan
    if decoders is not None:
        left, right = (
            normalize(W_dec.detach().cpu()[torch.tensor(found.pairs[name])].double(), dim=1)
            for name, W_dec in zip(("left", "right"), decoders, strict=True)
        )
        cosine = (left * right).sum(dim=1).numpy()
    return replace(found, pairs=found.pairs.assign(decoder_cosine=cosine))


def correlation_numbers(scores: CorrelationScores, found: Matching) -> dict[str, float]:
    """One such matching in numbers: those of `Matching.scalars`, tokens and decoder cosines."""
    numbers = found.scalars("correlation")
    del numbers["left_live"], numbers["right_live"]  # here a feature lives that varies
    return {
        "pairs": numbers.pop("pairs"),
        "tokens": scores.left.acts.shape[1],
        **numbers,
        "median_decoder_cosine": float(found.pairs["decoder_cosine"].median()),
    }
