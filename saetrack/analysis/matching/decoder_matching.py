"""Which feature of one SAE corresponds to which of another: assignment by decoder cosine.

A feature's index means the same thing only within a chain. Across chains, seeds and conventionally
trained SAEs, features are matched; the quality of the match is part of the result. The paper holds
a chain beside a conventional SAE by their losses (appendix I.1); here the question is whether the
two hold the same features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from saetrack.analysis.matching.assignment import CANDIDATES
from saetrack.analysis.matching.matching import Matching, Side, match
from saetrack.analysis.matching.scores import DENSE_PAIRS, ProductScores, precision

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.registry.received import Decoder

Comparison = Literal["link_conventional", "conventional_seeds", "random_directions"]


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


@torch.no_grad()
def match_features(
    left: Decoder,
    right: Decoder,
    *,
    dense_pairs: int = DENSE_PAIRS,
    candidates: int = CANDIDATES,
    device: torch.device | str = "cpu",
) -> Matching:
    """Match the live features of two SAEs of one residual stream, by cosines.

    Args:
        left: of one SAE; a feature with density 0 is dead and takes no part.
        right: of another, of the same `d_in`; `d_sae` may differ.
        dense_pairs: up to so many pairs of live features all cosines are held at once.
        candidates: per feature, beyond that.
        device: of the blockwise products; the assignment itself runs on the CPU.

    Raises:
        ValueError: the SAEs differ in `d_in`, or a density has not one entry per feature.
    """
    widths = [decoder.W_dec.shape[1] for decoder in (left, right)]
    if widths[0] != widths[1]:
        raise ValueError(f"d_in={widths[0]} and d_in={widths[1]}: not the same residual stream")
    sides = _live_side(left), _live_side(right)
    scores = _cosines(left.W_dec, right.W_dec, sides, device)
    return match(scores, *sides, candidates, dense_pairs)


@torch.no_grad()
def match_random(decoder: Decoder, seed: int, device: torch.device | str = "cpu") -> Matching:
    """The chance level: the same match between an SAE and as many random directions.

    The directions are normalised Gaussians, as many as the SAE has live features. With n of them in
    d_in dimensions the median matched cosine is close to the value that a random pair exceeds with
    probability 1/n: 0.27 for n = 1,000 and d_in = 128.

    Raises:
        ValueError: the density has not one entry per feature.
    """
    left = _live_side(decoder)
    right = Side(np.arange(len(left.live)), len(left.live))
    # Not torch's generator: SAEs start from it, perhaps at this very seed.
    shape = len(left.live), decoder.W_dec.shape[1]
    gaussian = torch.from_numpy(np.random.default_rng(seed).normal(size=shape))
    return match(_cosines(decoder.W_dec, gaussian, (left, right), device), left, right)


def _live_side(decoder: Decoder) -> Side:
    density, d_sae = decoder.feature_density, len(decoder.W_dec)
    if len(density) != d_sae:
        raise ValueError(f"{len(density)} densities for d_sae={d_sae} features")
    return Side(np.flatnonzero(density.cpu().numpy()), d_sae)


def _cosines(
    left: Tensor, right: Tensor, sides: tuple[Side, Side], device: torch.device | str
) -> ProductScores:
    dtype = precision(len(sides[0].live) * len(sides[1].live))
    both = (
        _directions(rows, side.live).to(device, dtype)
        for rows, side in zip((left, right), sides, strict=True)
    )
    return ProductScores(*both)


def _directions(
    rows: Float[Tensor, "d_sae d_in"], features: Int[np.ndarray, " live"]
) -> Float[Tensor, "live d_in"]:
    # A zero row stays zero: its cosine with everything is 0.
    return normalize(rows.detach().cpu()[torch.from_numpy(features)].double(), dim=1)


def matching_table(matchings: Mapping[Pairing, Matching]) -> pd.DataFrame:
    """One row per pairing: `lm_step`, `comparison`, `seeds`, and the columns of `scalars`."""
    return pd.DataFrame(
        [{**pairing._asdict(), **matching.scalars()} for pairing, matching in matchings.items()]
    )


def cosine_table(matchings: Mapping[Pairing, Matching]) -> pd.DataFrame:
    """One row per matched pair of features, for figures.

    Columns: `lm_step`, `comparison`, `seeds`, `left`, `right` (feature indices), `cosine`.
    """
    parts = [
        matching.pairs[["left", "right", "score"]].assign(**pairing._asdict())
        for pairing, matching in matchings.items()
    ]
    table = pd.concat(parts, ignore_index=True).rename(columns={"score": "cosine"})
    return table[["lm_step", "comparison", "seeds", "left", "right", "cosine"]]
