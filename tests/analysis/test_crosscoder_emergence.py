"""Emergence by decoder norms, and its agreement with another order of features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from saetrack.analysis.comparison.crosscoder import (
    agreement,
    emergence_counts,
    emergence_table,
    rivals_summary,
    spearman,
)

STEPS = [0, 10, 100]


def test_a_feature_emerges_where_its_norm_exceeds_half_of_its_largest_for_good() -> None:
    norms = np.array(
        [
            [1.0, 0.1, 0.2, 1.0, 0.9, 0.0],
            [1.0, 0.6, 0.2, 0.2, 0.3, 0.0],
            [1.0, 1.0, 2.0, 0.5, 1.0, 0.0],
        ]
    )
    table = emergence_table(norms, np.array([0.1] * 5 + [0.0]), STEPS)
    assert table["feature"].tolist() == [0, 1, 2, 3, 4]
    # Feature 3 has but half at the end and is lost; feature 4 was lost in between.
    np.testing.assert_array_equal(table["lm_step"], [0, 10, 100, np.nan, 100])
    assert table["largest_lm_step"].tolist() == [0, 100, 100, 0, 100]
    counts = emergence_counts(table, STEPS)
    assert counts["features"].tolist() == [1, 1, 2, 1]
    assert counts["share"].sum() == pytest.approx(1)


def test_rank_correlations_are_scipys() -> None:
    rng = np.random.default_rng(0)
    left = rng.integers(0, 4, 200)
    right = left + rng.integers(0, 5, 200)
    found = agreement(left * 1.0, right * 1.0, seed=0)
    assert found["spearman"] == pytest.approx(stats.spearmanr(left, right).statistic)
    assert found["low"] < found["spearman"] < found["high"]
    assert -0.25 < found["shuffled_low"] < 0 < found["shuffled_high"] < 0.25
    bootstrap = [
        stats.spearmanr(left[chosen], right[chosen]).statistic
        for chosen in rng.integers(0, 200, (500, 200))
    ]
    assert (found["low"], found["high"]) == pytest.approx(
        tuple(np.quantile(bootstrap, (0.025, 0.975))), abs=0.02
    )


def test_features_without_a_step_are_left_out() -> None:
    left = np.array([0.0] * 10 + [1.0] * 10 + [np.nan] * 5)
    right = np.concatenate([left[:20], np.ones(5)])
    found = agreement(left, right, seed=0)
    assert found["pairs"] == 20
    assert found["spearman"] == pytest.approx(1)
    assert np.isnan(agreement(left[:9], right[:9], seed=0)["spearman"])
    assert np.isnan(agreement(np.zeros(20), right[:20], seed=0)["spearman"])
    assert np.isnan(spearman(np.array([[[5, 5]]]))[0])


def test_the_summary_has_means_over_checkpoints_and_the_range_of_seeds() -> None:
    numbers = ("explained_variance", "explained_variance_at_l0", "ce_loss_recovered", "l0", "dead")
    quality = pd.DataFrame(
        {"rival": "chain", "seed": seed, "lm_step": step} | dict.fromkeys(numbers, seed + step)
        for seed in (0, 2)
        for step in (0, 10)
    )
    costs = pd.DataFrame(
        {"rival": ["chain"] * 2, "seed": [0, 2], "tokens": 5, "lm_tokens": 5, "train_s": [1.0, 2.0]}
    )
    (row,) = rivals_summary(quality, costs).to_dict("records")
    assert (row["l0_min"], row["l0_mean"], row["l0_max"]) == (5, 6, 7)
    assert (row["seeds"], row["tokens_mean"], row["train_s_mean"]) == (2, 5, 1.5)
