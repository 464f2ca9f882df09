"""Which feature of one SAE corresponds to which of another: assignment by decoder cosine.

A feature's index means the same thing only within a chain. Across chains, seeds and conventionally
trained SAEs, features are matched; the quality of the match is part of the result. The paper holds
a chain beside a conventional SAE by their losses (appendix I.1); here the question is whether the
two hold the same features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from saetrack.analysis.matching.assignment import CANDIDATES, DENSE_PAIRS, assign
from saetrack.analysis.matching.match_quality import match_quality
from saetrack.analysis.matching.scores import ProductScores

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from saetrack.sae.model import SAE

Comparison = Literal["link_conventional", "conventional_seeds", "random_directions"]

# Cosines from which on a pair is called similar, and nearly the same.
SIMILAR, NEARLY_SAME = 0.7, 0.9


class Pairing(NamedTuple):
    """What was matched with what.

    Attributes:
        lm_step: of the checkpoint that both SAEs were trained on.
        comparison: `link_conventional`; `conventional_seeds`, the yardstick: how alike two SAEs are
            that differ in their seed alone; or `random_directions`, the chance level.
        seeds: of the SAEs, such as "0" or "0, 1"; distinguishes pairings of one comparison.
    """

    lm_step: int
    comparison: Comparison
    seeds: str


@dataclass(frozen=True)
class Matching:
    """Pairs of features, one to one, with the largest summed decoder cosine.

    As many pairs as the side with fewer live features has. With unequal sides the features of the
    other that are left over stay unmatched.

    Attributes:
        left: feature indices of the left SAE, ascending, (pairs,).
        right: the index of each one's partner in the right SAE, (pairs,).
        cosine: decoder cosine of each pair, in [-1, 1], (pairs,).
        left_live: live features of the left SAE.
        left_dead: features of the left SAE that were left out.
        right_live: live features of the right SAE.
        right_dead: features of the right SAE that were left out.
        margin: cosine of each pair less the best that either could have had with another, (pairs,);
            see `saetrack.analysis.matching.match_quality`.
        mutual_best: whether each is the other's favourite, (pairs,).
        outside: the pair is no candidate of either feature, (pairs,); see
            `saetrack.analysis.matching.assignment`.
    """

    left: Int[Tensor, " pairs"]
    right: Int[Tensor, " pairs"]
    cosine: Float[Tensor, " pairs"]
    left_live: int
    left_dead: int
    right_live: int
    right_dead: int
    margin: Float[Tensor, " pairs"]
    mutual_best: Bool[Tensor, " pairs"]
    outside: Bool[Tensor, " pairs"]

    def scalars(self) -> dict[str, float]:
        """The summary by name: `pairs`, `median_cosine`, and the two shares OF THE MATCHED PAIRS.

        Without a pair (a side is all dead) median and shares are NaN.
        """
        return {
            "pairs": len(self.cosine),
            "median_cosine": float(self.cosine.quantile(0.5)) if len(self.cosine) else torch.nan,
            "share_above_0.7": float((self.cosine > SIMILAR).double().mean()),
            "share_above_0.9": float((self.cosine > NEARLY_SAME).double().mean()),
            "share_mutual_best": float(self.mutual_best.double().mean()),
            "left_live": self.left_live,
            "left_dead": self.left_dead,
            "right_live": self.right_live,
            "right_dead": self.right_dead,
            "left_unmatched": self.left_live - len(self.cosine),
            "right_unmatched": self.right_live - len(self.cosine),
            "share_outside_candidates": float(self.outside.double().mean()),
        }


@torch.no_grad()
def match_features(
    left: SAE,
    right: SAE,
    left_density: Float[Tensor, " left_d_sae"],
    right_density: Float[Tensor, " right_d_sae"],
    *,
    dense_pairs: int = DENSE_PAIRS,
    candidates: int = CANDIDATES,
    device: str = "cpu",
) -> Matching:
    """Match the live features of two SAEs of one residual stream.

    By cosines in float64, on the full matrix or among candidates
    (`saetrack.analysis.matching.assignment`).

    Args:
        left: one SAE.
        right: another, of the same `d_in`; `d_sae` may differ.
        left_density: share of held-out tokens on which each feature fires (`Evaluation`); a
            feature with 0 is dead and takes no part.
        right_density: the same for `right`.
        dense_pairs: up to so many pairs of live features all cosines are held at once.
        candidates: per feature, beyond that.
        device: of the blockwise products; the assignment itself runs on the CPU.

    Raises:
        ValueError: the SAEs differ in `d_in`, or a density has not one entry per feature.
    """
    if left.d_in != right.d_in:
        raise ValueError(f"d_in={left.d_in} and d_in={right.d_in}: not the same residual stream")
    sides = (
        _Side(_live_features(left, left_density), left.d_sae),
        _Side(_live_features(right, right_density), right.d_sae),
    )
    directions = (
        _directions(sae.W_dec, side.live).to(device)
        for sae, side in zip((left, right), sides, strict=True)
    )
    return _match(ProductScores(*directions), *sides, dense_pairs, candidates)


@torch.no_grad()
def match_random(sae: SAE, feature_density: Float[Tensor, " d_sae"], seed: int) -> Matching:
    """The chance level: the same match between an SAE and as many random directions.

    The directions are normalised Gaussians, as many as `sae` has live features. With n of them in
    d_in dimensions the median matched cosine is close to the value that a random pair exceeds with
    probability 1/n: 0.27 for n = 1,000 and d_in = 128.

    Args:
        sae: its live features are the left side.
        feature_density: share of held-out tokens on which each feature fires; 0 is dead.
        seed: of the random directions.

    Raises:
        ValueError: the density has not one entry per feature.
    """
    rows = _live_features(sae, feature_density)
    # Not torch's generator: SAEs start from it, perhaps at this very seed.
    gaussian = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(rows), sae.d_in)))
    scores = ProductScores(
        _directions(sae.W_dec, rows), _directions(gaussian, torch.arange(len(rows)))
    )
    return _match(scores, _Side(rows, sae.d_sae), _Side(torch.arange(len(rows)), len(rows)))


class _Side(NamedTuple):
    """The live features of one side, and how many it has in all."""

    live: Int[Tensor, " live"]
    d_sae: int


def _live_features(sae: SAE, feature_density: Float[Tensor, " d_sae"]) -> Int[Tensor, " live"]:
    if len(feature_density) != sae.d_sae:
        raise ValueError(f"{len(feature_density)} densities for d_sae={sae.d_sae} features")
    return feature_density.cpu().nonzero().squeeze(1)


def _directions(
    rows: Float[Tensor, "d_sae d_in"], features: Int[Tensor, " live"]
) -> Float[Tensor, "live d_in"]:
    # On the CPU and in float64: the assignment runs there, and ties break alike everywhere. A zero
    # row stays zero: its cosine with everything is 0.
    return normalize(rows.detach().cpu()[features].double(), dim=1)


def _match(
    scores: ProductScores,
    left: _Side,
    right: _Side,
    dense_pairs: int = DENSE_PAIRS,
    candidates: int = CANDIDATES,
) -> Matching:
    """The assignment, and how clear each pair is."""
    found = assign(scores, candidates, dense_pairs)
    quality = match_quality(scores, found)
    return Matching(
        left=left.live[torch.from_numpy(found.rows)],
        right=right.live[torch.from_numpy(found.columns)],
        cosine=torch.from_numpy(found.score),
        left_live=len(left.live),
        left_dead=left.d_sae - len(left.live),
        right_live=len(right.live),
        right_dead=right.d_sae - len(right.live),
        margin=torch.tensor(quality["margin"].to_numpy(float)),
        mutual_best=torch.tensor(quality["mutual_best"].to_numpy(bool)),
        outside=torch.from_numpy(found.outside),
    )


def matching_table(matchings: Mapping[Pairing, Matching]) -> pd.DataFrame:
    """One row per pairing: `lm_step`, `comparison`, `seeds`, and the columns of `scalars`."""
    return pd.DataFrame(
        [{**pairing._asdict(), **matching.scalars()} for pairing, matching in matchings.items()]
    )


def cosine_table(matchings: Mapping[Pairing, Matching]) -> pd.DataFrame:
    """One row per matched pair of features, for figures.

    Columns: `lm_step`, `comparison`, `seeds`, `left`, `right` (feature indices), `cosine`.
    """
    return pd.concat(
        [
            pd.DataFrame(
                {
                    **pairing._asdict(),
                    "left": matching.left.numpy(),
                    "right": matching.right.numpy(),
                    "cosine": matching.cosine.numpy(),
                }
            )
            for pairing, matching in matchings.items()
        ],
        ignore_index=True,
    )
