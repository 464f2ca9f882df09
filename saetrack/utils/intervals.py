"""Intervals of shares, of a few features too: what none of ten has is not known to be 0."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Z = NormalDist().inv_cdf(0.975)

Numbers = Float[ndarray, "..."]


def share_interval(share: Numbers | float, total: float) -> tuple[Numbers, Numbers]:
    """95 % of a share, after Wilson (1927).

    Args:
        share: that was found, or several of the same total.
        total: of how many; of none, the interval is that of one.

    Returns:
        Its lower and its upper end, both from 0 to 1.

    Example:
        >>> [round(float(end), 3) for end in share_interval(0.9, 10)]
        [0.596, 0.982]
    """
    total = max(1.0, total)
    scale = 1 + Z**2 / total
    centre = (np.asarray(share) + Z**2 / (2 * total)) / scale
    half = Z * np.sqrt(share * (1 - np.asarray(share)) / total + Z**2 / (4 * total**2)) / scale
    # Of none it ends at 0 and of all at 1: exactly, without what rounding leaves.
    low = np.where(np.asarray(share) <= 0, 0.0, centre - half)
    high = np.where(np.asarray(share) >= 1, 1.0, centre + half)
    return np.maximum(low, 0.0), np.minimum(high, 1.0)


def difference_interval(
    share: Numbers | float, total: float, less: Numbers | float, total_of_less: float
) -> tuple[Numbers, Numbers]:
    """95 % of the difference of two shares of different features, after Newcombe (1998, method 10).

    Args:
        share: of the first features, or several.
        total: how many they are.
        less: share of the second features that is taken away, or as many.
        total_of_less: how many these are.

    Returns:
        Its lower and its upper end, both from -1 to 1.
    """
    low, high = share_interval(share, total)
    low_of_less, high_of_less = share_interval(less, total_of_less)
    more = np.asarray(share) - less
    return more - np.hypot(share - low, high_of_less - less), more + np.hypot(
        high - share, less - low_of_less
    )
