"""Intervals of shares against scipy's and the published examples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from saetrack.utils.intervals import difference_interval, share_interval


def test_the_interval_of_a_share_is_scipys() -> None:
    found, total = np.array([0, 1, 9, 20, 40]), 40
    expected = [stats.binomtest(count, total).proportion_ci(method="wilson") for count in found]
    low, high = share_interval(found / total, total)
    np.testing.assert_allclose(low, [of.low for of in expected], atol=1e-12)
    np.testing.assert_allclose(high, [of.high for of in expected], atol=1e-12)


def test_none_of_few_and_all_of_few_are_not_sure() -> None:
    assert share_interval(0.0, 10)[1] == pytest.approx(0.278, abs=1e-3)
    assert share_interval(1.0, 10)[0] == pytest.approx(0.722, abs=1e-3)
    assert share_interval(0.0, 0) == share_interval(0.0, 1), "of none nothing is known"


# Newcombe, Statistics in Medicine 17 (1998), table II, method 10.
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(
    first: tuple[int, int], second: tuple[int, int], expected: tuple[float, float]
) -> None:
    (one, total), (less, total_of_less) = first, second
    found = difference_interval(one / total, total, less / total_of_less, total_of_less)
    assert found == pytest.approx(expected, abs=6e-5)
