"""How well an explanation holds at a link, with intervals; chance is a half."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from saetrack.utils.intervals import difference_interval

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray

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
    p, q = sum(of_fitting) / len(of_fitting), sum(of_others) / len(of_others)
    # The halves of the sum move like a difference of one share and the other's complement.
    low, high = difference_interval(p, len(of_fitting), 1 - q, len(of_others))
    return Score((p + q) / 2, (1 + float(low)) / 2, (1 + float(high)) / 2, len(right))


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
