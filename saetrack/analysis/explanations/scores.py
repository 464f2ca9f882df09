"""How well an explanation holds at a link, with intervals; chance is a half."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray

Z95 = 1.96
RESAMPLES = 400


class Score(NamedTuple):
    """A balanced accuracy, with its 95 % interval; NaN where nothing was judged.

    Attributes:
        value: the mean of the shares of right answers about texts that fit and that do not.
        low: of the interval.
        high: of the interval.
        texts: that were judged.
    """

    value: float
    low: float
    high: float
    texts: int


NO_SCORE = Score(math.nan, math.nan, math.nan, 0)


def balanced_accuracy(verdicts: Sequence[bool], truth: Sequence[bool]) -> Score:
    """Balanced accuracy with an interval made of Wilson's two (Newcombe's method for a sum)."""
    right = [verdict == true for verdict, true in zip(verdicts, truth, strict=True)]
    of_fitting = [one for one, true in zip(right, truth, strict=True) if true]
    of_others = [one for one, true in zip(right, truth, strict=True) if not true]
    if not of_fitting or not of_others:
        return NO_SCORE
    (p, p_low, p_high), (q, q_low, q_high) = (
        wilson(sum(part), len(part)) for part in (of_fitting, of_others)
    )
    value = (p + q) / 2
    return Score(
        value,
        value - math.hypot(p - p_low, q - q_low) / 2,
        value + math.hypot(p_high - p, q_high - q) / 2,
        len(right),
    )


def wilson(right: int, total: int) -> tuple[float, float, float]:
    """A share with its 95 % interval.

    Example:
        >>> [round(value, 3) for value in wilson(9, 10)]
        [0.9, 0.596, 0.982]
    """
    share = right / total
    scale = 1 + Z95**2 / total
    centre = (share + Z95**2 / (2 * total)) / scale
    half = Z95 * math.sqrt(share * (1 - share) / total + Z95**2 / (4 * total**2)) / scale
    return share, max(centre - half, 0.0), min(centre + half, 1.0)


def mean_of_features(
    values: Float[ndarray, "features links"], seed: int
) -> Float[ndarray, "3 links"]:
    """Mean over the features that were judged at each link, with its 95 % interval.

    The interval is a bootstrap over features; NaN where no feature was judged.
    """
    if not len(values):
        return np.full((3, values.shape[1]), np.nan)
    known = np.isfinite(values)
    filled = np.where(known, values, 0)
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    weights = np.apply_along_axis(np.bincount, 1, draws, minlength=len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=0) / known.sum(axis=0)
        resampled = (weights @ filled) / (weights @ known)
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    judged = known.any(axis=0)
    if judged.any():
        low[judged], high[judged] = np.nanquantile(resampled[:, judged], [0.025, 0.975], axis=0)
    return np.stack([mean, low, high])
