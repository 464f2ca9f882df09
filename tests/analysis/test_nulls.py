"""Concepts beside those that there would be without any: thresholds, expectations, intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from saetrack.analysis.figures.nulls import nulls_line
from saetrack.analysis.meaning.labels import COHERENCE_Z
from saetrack.analysis.meaning.nulls import (
    DIRECTIONS,
    MIN_DIRECTIONS,
    SAME_TOKENS,
    against_nulls,
    calibrate,
)
from saetrack.analysis.meaning.same_tokens import Occurrences, share_that_passes
from saetrack.data.exclusion import Excluded


def judged(z: np.ndarray, threshold: float, others: int = 0) -> pd.DataFrame:
    """Contextual features of several stems, some of them concepts; and token features."""
    table = pd.DataFrame({"coherence_z": z, "distinct_stems": 9})
    table["label"] = np.where(z >= threshold, "concept", "contextual")
    tokens = pd.DataFrame({"coherence_z": [99.0] * others, "distinct_stems": 9, "label": "token"})
    # To the paper a list of tokens may be a concept too: here the first of the token features.
    table["paper_label"], tokens["paper_label"] = table["label"], "token"
    tokens.loc[:0, "paper_label"] = "concept"
    return pd.concat([table, tokens], ignore_index=True)


def test_a_threshold_is_that_of_directions_that_are_not_token_level() -> None:
    z = np.arange(100) / 4.0
    found = calibrate(judged(z, np.inf, others=50))
    assert found.is_own and found.directions == 100
    assert found.min_coherence_z == pytest.approx(np.quantile(z, 0.95))
    low = calibrate(judged(z / 10, np.inf, others=50))
    assert low.min_coherence_z == COHERENCE_Z, "beyond matched random contexts in any case"
    few = calibrate(judged(z[: MIN_DIRECTIONS - 1], np.inf, others=50))
    assert not few.is_own and few.min_coherence_z == 99, "then that of all directions"


def beside(z: np.ndarray, of_directions: np.ndarray, by_tokens: np.ndarray) -> pd.DataFrame:
    threshold = calibrate(judged(of_directions, np.inf, others=5))
    at = threshold.min_coherence_z
    found = against_nulls(
        judged(z, at, others=70), judged(of_directions, at), threshold, pd.Series(by_tokens), seed=0
    )
    return found.set_index("null")


def test_without_concepts_there_is_no_excess() -> None:
    """Features as coherent as directions are: by either null all that is found is expected."""
    generator = np.random.default_rng(0)
    draw = np.exp(generator.normal(1.5, 0.6, 2400))
    z, of_directions = draw[:2000], draw[2000:]
    found = beside(z, of_directions, np.full(2000, 0.035))
    assert found["judged"].eq(2070).all() and found["candidates"].eq(2000).all()
    assert 60 < found["concepts"].iloc[0] < 160 and found.loc[DIRECTIONS, "measured"] == 400
    for row in found.itertuples():
        assert row.excess_low < 0 < row.excess_high
        assert row.false_discovery_rate > 0.7 and row.rate_low < row.rate_high
        assert row.excess == pytest.approx(row.concepts - row.expected)


def test_concepts_beyond_a_null_are_counted() -> None:
    generator = np.random.default_rng(1)
    draw = np.exp(generator.normal(1.5, 0.6, 1400))
    z = np.concatenate([draw[:1000], np.full(300, 80.0)])  # 300 planted concepts
    passes = np.concatenate([np.full(1000, 0.03), np.full(300, 0.5)])
    found = beside(z, draw[1000:], passes)
    directions = found.loc[DIRECTIONS]
    assert directions["expected"] == pytest.approx(1300 * 21 / 401), "a permutation test's share"
    assert directions["excess_low"] < 300 < directions["excess_high"]
    assert directions["false_discovery_rate"] < 0.25
    tokens = found.loc[SAME_TOKENS]
    assert tokens["expected"] == pytest.approx(1000 * 0.03 + 300 * 0.5)
    concept = z >= tokens["min_coherence_z"]
    assert tokens["surviving_share"] == pytest.approx(passes[concept].mean())
    with_list = np.append(passes, 1.0)
    again = beside(z, draw[1000:], with_list).loc[SAME_TOKENS]
    assert again["expected"] == tokens["expected"], "a list of tokens is no candidate"
    of_paper = with_list[np.append(concept, True)].mean()
    assert again["paper_surviving_share"] == pytest.approx(of_paper)
    assert tokens["excess_low"] < tokens["excess"] < tokens["excess_high"]


def test_with_few_directions_nothing_is_told_of_them() -> None:
    z = np.linspace(0, 30, 200)
    found = beside(z, z[:10], np.full(200, 0.1))
    told = found.loc[DIRECTIONS, ["expected", "excess", "false_discovery_rate", "rate_high"]]
    assert told.isna().all() and found.loc[DIRECTIONS, "measured"] == 10
    assert found.loc[SAME_TOKENS, "expected"] == pytest.approx(20)


def test_without_candidates_nothing_is_expected() -> None:
    of_directions = judged(np.arange(40.0), np.inf)
    threshold = calibrate(of_directions)
    nothing = pd.Series(np.empty(0), index=np.empty(0, int))
    labels = judged(np.empty(0), 5, others=3)
    found = against_nulls(labels, of_directions, threshold, nothing, seed=0)
    assert found["expected"].tolist() == [0, 0] and found["concepts"].tolist() == [0, 0]
    assert found["false_discovery_rate"].isna().all()


ROWS, LENGTH, VOCABULARY = 60, 20, 30
TOKENS = np.random.default_rng(2).integers(1, VOCABULARY, (ROWS, LENGTH))
TOKENS[7] = TOKENS[3]  # a row's repeat


def test_occurrences_are_of_the_same_tokens_and_could_be_contexts() -> None:
    excluded = Excluded((5,), first_positions=2)
    occurrences = Occurrences(TOKENS, VOCABULARY, 0, excluded)
    generator = np.random.default_rng(0)
    ids = np.array([[1, 1, 1, 2, 3], [4, 4, 9, 9, -1], [5, 1, -1, -1, -1]])
    seen = set()
    for _ in range(200):
        rows, positions = occurrences.draw(ids, generator)
        inside = ids >= 0
        inside[2, 0] = False  # which never takes part
        assert ((rows >= 0) == inside).all() and ((positions >= 2) == inside).all()
        assert (TOKENS[rows, positions] == ids)[inside].all()
        for feature in range(3):
            for token in set(ids[feature][inside[feature]]):
                of_token = rows[feature][ids[feature] == token]
                assert len(set(of_token)) == len(of_token), "a row counts once"
                assert len({3, 7} & set(of_token)) < 2, "a text counts once"
        seen |= set(zip(rows[0, :3], positions[0, :3], strict=True))
    places = {(row, at) for row, at in np.argwhere(TOKENS == 1) if at >= 2}
    assert len(seen) >= len({row for row, _ in places} - {7}), "each row has its chance"
    again = Occurrences(TOKENS, VOCABULARY, 0, excluded).draw(ids, np.random.default_rng(0))
    first = occurrences.draw(ids, np.random.default_rng(0))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))


def test_a_draw_passes_by_the_features_own_yardstick() -> None:
    likeness = np.array([[0.1, 0.3, 0.5], [0.1, 0.3, 0.5]])
    mean, spread = np.array([0.1, 0.0]), np.array([0.02, 0.2])
    found = share_that_passes(likeness, mean, spread, min_coherence_z=6)
    np.testing.assert_allclose(found, [2 / 3, 0])


def test_the_last_checkpoint_is_told_in_a_line() -> None:
    nulls = pd.DataFrame(
        {
            "lm_step": [0, 0, 16, 16],
            "null": [DIRECTIONS, SAME_TOKENS] * 2,
            "concepts": [5, 5, 1017, 1017],
            "expected": [1.0, 1.0, np.nan, 16.25],
            "excess": [4.0, 4.0, np.nan, 1000.75],
            "excess_low": [3.0, 3.0, np.nan, 981.0],
            "excess_high": [5.0, 5.0, np.nan, 1003.5],
        }
    )
    assert nulls_line(nulls) == (
        "At the last link 1,017 features are concepts; how many there would be by the measure of "
        "random directions cannot be told; in random occurrences of the same tokens there would be "
        "16.2 (excess 1,000.8, 95 % interval 981.0 to 1,003.5)."
    )
