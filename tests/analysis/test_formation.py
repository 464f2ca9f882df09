"""Similarities against a double loop; progress, formation and phases where they were planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from saetrack.analysis.formation.phases import find_phases, formed_from, progress_formation
from saetrack.analysis.formation.progress_measure import (
    MEASURES,
    FollowedSets,
    PointActivations,
    baseline_spread,
    class_curves,
    measure_progress,
)
from saetrack.analysis.formation.segments import SegmentFits
from saetrack.analysis.geometry import similarity
from saetrack.analysis.geometry.similarity import cosine, jaccard, sparse_cosine
from tests.support.planted_semantics import planted_chain

POINTS, D_SAE, D_IN = 40, 30, 6
RANDOM = np.random.default_rng(0)
ACTS = RANDOM.random((POINTS, D_SAE)) * (RANDOM.random((POINTS, D_SAE)) < 0.3)
ACTS[[5, 6]] = 0  # zero vectors
SPARSE = sparse.csr_array(ACTS)
X = RANDOM.normal(size=(POINTS, D_IN)) + 2
X[5] = 0
SETS = np.stack([RANDOM.permutation(POINTS)[:7] for _ in range(11)])
SETS[0, :2] = 5, 6
SETS[1, 3:] = SETS[2, 2:] = SETS[3, 1:] = SETS[4] = -1


def pairwise(sim, vectors: np.ndarray) -> np.ndarray:
    """Eq 8 as it is written."""
    means = []
    for members in SETS:
        chosen = members[members >= 0]
        values = [
            sim(vectors[p], vectors[q])
            for i, p in enumerate(chosen)
            for j, q in enumerate(chosen)
            if i != j
        ]
        means.append(np.mean(values) if values else np.nan)
    return np.array(means)


def slow_cosine(u: np.ndarray, v: np.ndarray) -> float:
    norms = np.linalg.norm(u) * np.linalg.norm(v)
    return u @ v / norms if norms > 0 else 0.0


def slow_jaccard(u: np.ndarray, v: np.ndarray) -> float:
    union = ((u > 0) | (v > 0)).sum()
    return ((u > 0) & (v > 0)).sum() / union if union else 0.0


def slow_weighted_jaccard(u: np.ndarray, v: np.ndarray) -> float:
    most = np.maximum(u, v).sum()
    return np.minimum(u, v).sum() / most if most else 0.0


@pytest.mark.parametrize("chunk", [1, 300, 2**22])
def test_similarities_are_those_of_a_double_loop(chunk: int, monkeypatch) -> None:
    monkeypatch.setattr(similarity, "CHUNK_NUMBERS", chunk)
    x, mean = torch.from_numpy(X), X.mean(axis=0)
    assert_close = np.testing.assert_allclose
    assert_close(cosine(x, SETS), pairwise(slow_cosine, X), atol=1e-6)
    centred = cosine(x.half().float(), SETS, torch.from_numpy(mean))
    assert_close(centred, pairwise(slow_cosine, X - mean), atol=2e-3)
    assert_close(
        cosine(x, SETS, torch.from_numpy(mean)), pairwise(slow_cosine, X - mean), atol=1e-6
    )
    assert_close(sparse_cosine(SPARSE, SETS), pairwise(slow_cosine, ACTS), atol=1e-12)
    mean = ACTS.mean(axis=0)
    assert_close(sparse_cosine(SPARSE, SETS, mean), pairwise(slow_cosine, ACTS - mean), atol=1e-12)
    found = jaccard(SPARSE, SETS)
    assert_close(found.jaccard, pairwise(slow_jaccard, ACTS), atol=1e-12)
    assert_close(found.weighted, pairwise(slow_weighted_jaccard, ACTS), atol=1e-12)


def test_the_similarity_of_no_sets_is_nothing() -> None:
    none = np.empty((0, 4), int)
    assert len(cosine(torch.from_numpy(X), none)) == len(sparse_cosine(SPARSE, none)) == 0
    assert len(jaccard(SPARSE, none).weighted) == 0


K, STEPS = 25, [0, 1, 2, 4, 8, 16]
APPEARS = {2: 0, 4: 3, 7: 5, 9: 99}  # feature: the checkpoint at which it appears; 99: never
CLASSES = {"final": pd.Series({2: "token", 4: "concept", 7: "concept", 9: "contextual"})}


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    xs, acts, sets, random = planted_chain(len(STEPS), K, APPEARS)
    followed = {
        "final": FollowedSets(np.array(list(sets)), np.stack(list(sets.values()))),
        "random_directions": FollowedSets(np.arange(4), random[:100].reshape(4, 25)),
    }
    baseline = random.reshape(6, 20)
    parts = [
        measure_progress(PointActivations(step, index, x, z), followed, baseline)
        for index, (step, x, z) in enumerate(zip(STEPS, xs, acts, strict=True))
    ]
    progress, spread = (pd.concat(part, ignore_index=True) for part in zip(*parts, strict=True))
    return progress, spread


def test_the_progress_measure_is_the_difference_of_eq_7(tables) -> None:
    progress, baseline = tables
    xs, acts, sets, random = planted_chain(len(STEPS), K, APPEARS)
    draws = random.reshape(6, 20)
    assert len(progress) == len(STEPS) * 8 and len(baseline) == len(STEPS) * 6
    row = progress[(progress["lm_step"] == 4) & (progress["feature"] == 4)].iloc[0]
    places = sets[4][None]
    mean = xs[3][random].mean(dim=0)
    centred = cosine(xs[3], places, mean) - cosine(xs[3], draws, mean).mean()
    assert row["activation_cosine_centred"] == pytest.approx(centred[0], abs=1e-6)
    weighted = jaccard(acts[3], places).weighted - jaccard(acts[3], draws).weighted.mean()
    assert row["feature_weighted_jaccard"] == pytest.approx(weighted[0], abs=1e-6)
    spread = baseline_spread(baseline, ["activation_cosine"])
    at_once = baseline[baseline["lm_step"] == 8]["activation_cosine"]
    found = spread[spread["lm_step"] == 8].iloc[0]
    assert found["draws"] == 6 and found["std"] == pytest.approx(at_once.std())
    with pytest.raises(ValueError, match="4 draws of the baseline, fewer than 5"):
        measure_progress(PointActivations(0, 0, xs[0], None), {}, draws[:4])


@pytest.mark.parametrize("measure", MEASURES)
def test_features_are_formed_where_they_appear(tables, measure: str) -> None:
    progress, _ = tables
    final = progress[progress["chosen"] == "final"]
    formed = progress_formation(final, measure, share=0.7, min_final=0.05).set_index("feature")
    assert formed["formed_lm_step"].loc[[2, 4, 7]].tolist() == [0, 4, 16]
    assert formed["formed_checkpoint_index"].loc[[2, 4, 7]].tolist() == [0, 3, 5]
    assert np.isnan(formed.loc[9, "formed_lm_step"])


def test_curves_of_classes_show_the_planted_rise(tables) -> None:
    progress, _ = tables
    curves = class_curves(progress, CLASSES, ["feature_cosine"])
    curves = curves.set_index(["chosen", "class", "lm_step"])
    concept = curves.loc["final", "concept"]
    assert (concept["features"] == 2).all()
    assert (concept["q0.9"].loc[:2] < 0.2).all() and (concept["q0.1"].loc[16] > 0.8)
    assert (concept.loc[[4, 8], "q0.9"] > 0.7).all() and (concept.loc[[4, 8], "q0.1"] < 0.3).all()
    assert (curves.loc["final", "token"]["mean"] > 0.7).all()
    assert (curves.loc["random_directions", "random_directions"]["features"] == 4).all()
    assert curves["mean"].loc["random_directions"].abs().max() < 0.1


def test_formed_is_what_stays() -> None:
    stable = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 0]], bool)
    assert formed_from(stable).tolist() == [0, 1, 2, -1, -1]


LONG = [0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048]


@pytest.fixture(scope="module")
def fits() -> SegmentFits:
    return SegmentFits(LONG)


def planted(borders: tuple[int, int], noise: float = 0.01, features: int = 60) -> pd.DataFrame:
    """Features that rise between two checkpoints, by more or less and each with its own noise."""
    generator = np.random.default_rng(0)
    x = np.log2(np.array(LONG) + 1)
    mean = np.interp(x, [x[0], *x[list(borders)], x[-1]], [0.1, 0.1, 0.6, 0.6])
    rise = generator.uniform(0.5, 1.5, (features, 1))
    wobble = generator.normal(0, noise * features**0.5, (features, len(LONG)))
    return pd.DataFrame(rise * mean + wobble, columns=LONG)


def test_lines_and_random_walks_have_one_segment(fits: SegmentFits) -> None:
    generator = np.random.default_rng(1)
    x = np.log2(np.array(LONG) + 1)
    steps = generator.normal(size=(200, len(LONG)))
    assert (fits.count(steps.cumsum(axis=1)) > 1).mean() <= 0.05
    assert (fits.count(3 * x + steps.cumsum(axis=1)) > 1).mean() <= 0.05  # that go somewhere
    assert (fits.count(x + 0.3 * steps) == 1).all()  # a line with noise
    assert fits.count(np.stack([x, 0 * x + 0.1])).tolist() == [1, 1]
    assert SegmentFits(LONG[:6]).count(np.array([[0.0, 0, 0, 1, 1, 1]])).tolist() == [1]


def test_planted_segments_are_found_within_a_checkpoint(fits: SegmentFits) -> None:
    x = np.log2(np.array(LONG) + 1)
    noise = np.random.default_rng(2).normal(0, 0.02, (20, len(LONG)))
    for first, second in ((7, 13), (9, 17), (4, 10)):
        curve = np.interp(x, [x[0], x[first], x[second], x[-1]], [0, 0, 1, 1])
        assert (fits.count(curve + noise) == 3).mean() > 0.9
        joints = np.array(fits.joints[3])[fits.best(curve + noise, 3)[1]]
        assert np.abs(joints - [first, second]).max() <= 1
    hinge = np.maximum(x - x[10], 0) / 5 + noise
    assert (fits.count(hinge) == 2).mean() > 0.9
    assert np.abs(np.array(fits.joints[2])[fits.best(hinge, 2)[1]] - 10).max() <= 1
    slopes = fits.slopes(np.interp(x, [x[0], x[7], x[-1]], [0, 0, 1]), (7,))
    assert slopes.tolist() == pytest.approx([0, 1 / (x[-1] - x[7])])


def test_phases_begin_where_they_were_planted_and_are_none_where_there_are_none() -> None:
    rise = planted((7, 13))
    gaps = rise.mask(np.random.default_rng(3).random(rise.shape) < 0.2)
    there_and_back = rise - 1.5 * planted((13, 19))
    walk = rise * 0 + np.random.default_rng(4).normal(size=len(LONG)).cumsum()
    table = find_phases(
        {
            "rise": rise,
            "fall": 1 - rise,
            "gaps": gaps,
            "there and back": there_and_back,
            "walk": walk,
            "of few": rise[:10],
            "small": rise / 100,
            "nothing": rise * np.nan,
        },
        draws=100,
    ).set_index("curve")
    borders = table[["emergent_lm_step", "convergent_lm_step"]]
    for name in ("rise", "fall", "gaps"):
        assert borders.loc[name].tolist() == [24, 192]
        low, high = table.loc[name, ["joint_1_low", "joint_1_high"]]
        assert 16 <= low <= 24 <= high <= 32 and table.loc[name, "agreeing"] > 0.9
    assert borders.drop(["rise", "fall", "gaps"]).isna().all(axis=None)
    # It turns, but its steepest segment is not on the way from its first to its last value.
    assert table.loc["there and back", "segments"] == 3
    assert table.loc["there and back", "joint_1"] > 0
    assert (table.loc[["walk", "of few", "small", "nothing"], "segments"] == 1).all()
    assert table["features"].tolist() == [60] * 5 + [10, 60, 0]
    assert table.loc["fall", "final"] < table.loc["fall", "first"]


def test_a_border_that_is_not_sure_has_a_wide_interval() -> None:
    generator = np.random.default_rng(0)
    early, late = planted((4, 10)), planted((10, 16))
    both = pd.concat([early, late], ignore_index=True).iloc[generator.permutation(120)[:40]]
    sure, unsure = (
        find_phases({"rise": table}, draws=200).iloc[0] for table in (planted((7, 13)), both)
    )
    width = [
        LONG.index(row["joint_1_high"]) - LONG.index(row["joint_1_low"]) for row in (sure, unsure)
    ]
    assert width[0] <= 1 < width[1]
    again = find_phases({"rise": both}, draws=200).iloc[0]
    assert again.equals(unsure)
