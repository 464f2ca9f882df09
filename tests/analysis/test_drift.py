"""Drift, its controls and trajectories, on chains whose every angle is planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from saetrack.analysis.drift.controls import (
    ControlDrift,
    align,
    compare_with_controls,
    drift_after_formation,
)
from saetrack.analysis.drift.measure import (
    QUANTILES,
    Drift,
    angles_between,
    feature_table,
    measure_drift,
    quantile_table,
)
from saetrack.analysis.drift.trajectories import (
    choose_features,
    collect_rows,
    trajectory_table,
)
from saetrack.analysis.figures.drift import class_drift_figure, drift_figure, feature_drift_figure
from saetrack.analysis.figures.trajectories import trajectory_figure
from saetrack.utils.figures.steps import Setting, step_axis
from tests.support.planted_chain import LM_STEPS, phased_angles, rotating
from tests.support.planted_figures import drawn_svg


def drift_of(angles: np.ndarray, dead: np.ndarray | None = None, **rest) -> Drift:
    links = rotating(angles, dead, **rest)
    return measure_drift(iter(links), links[-1])


def test_every_quantity_is_the_planted_angle() -> None:
    angles = phased_angles(20)
    drift = drift_of(angles)
    assert drift.lm_steps.tolist() == LM_STEPS
    assert drift.checkpoint_indices.tolist() == list(range(len(LM_STEPS)))
    assert drift.cosine_to_final == pytest.approx(np.cos(angles - angles[-1]), abs=1e-6)
    assert drift.cosine_to_first == pytest.approx(np.cos(angles), abs=1e-6)
    assert drift.cosine_to_previous[1:] == pytest.approx(np.cos(np.diff(angles, axis=0)), abs=1e-6)
    assert np.isnan(drift.cosine_to_previous[0]).all()
    assert drift.path_length == pytest.approx(angles, abs=1e-5)
    assert not drift.excluded.any() and drift.always_alive.all()


def test_a_path_there_and_back_is_long_though_nothing_has_drifted() -> None:
    drift = drift_of(np.array([[0.0], [0.4], [0.0]]))
    assert drift.cosine_to_final[:, 0] == pytest.approx([1, np.cos(0.4), 1], abs=1e-6)
    assert drift.path_length[:, 0] == pytest.approx([0, 0.4, 0.8], abs=1e-5)


def test_small_angles_are_exact() -> None:
    rows = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    assert (angles_between(rows, rows) == 0).all()
    tiny = torch.tensor([[1.0, 1e-6], [1.0, 1e-3], [0.0, 0.0]])
    found = angles_between(tiny, torch.tensor([[1.0, 0.0]] * 3))
    assert found[:2].tolist() == pytest.approx([1e-6, 1e-3], rel=1e-5)
    assert found[2].isnan()
    direct = torch.arccos(torch.cosine_similarity(rows.double(), rows.double().roll(1, 0)))
    torch.testing.assert_close(angles_between(rows, rows.roll(1, 0)), direct)


def test_dead_rows_are_excluded_and_counted() -> None:
    angles = phased_angles(10)
    dead = np.zeros_like(angles, dtype=bool)
    dead[4:, 0] = True  # dies, stands still from then on: a cosine of 1 that means nothing
    angles[4:, 0] = angles[4, 0]
    dead[2:4, 1] = True  # revives
    angles[:, 2] = 0.3  # alive, and never moves
    drift = drift_of(angles, dead)
    assert drift.excluded[:, 0].all()
    assert drift.excluded[:, 1].tolist() == dead[:, 1].tolist()
    table = quantile_table(drift).query("quantity == 'cosine_to_final'").set_index("link")
    assert table["excluded"].tolist() == [1, 1, 2, 2] + [1] * 10
    assert (table["features"] + table["excluded"] == 10).all()
    assert table["unmoved"].tolist() == [0] + [1] * 13
    kept = drift.cosine_to_final[5, 1:]
    assert table.loc[5, "mean"] == pytest.approx(kept.mean())
    assert table.loc[5, "share_above_0.9"] == pytest.approx((kept > 0.9).mean())
    assert [table.loc[5, name] for name in QUANTILES] == pytest.approx(
        np.quantile(kept, list(QUANTILES.values()))
    )
    assert drift.always_alive.tolist() == [False, False] + [True] * 8
    links = rotating(angles, dead)
    silent = [link._replace(feature_density=0 * link.feature_density) for link in links]
    assert measure_drift(silent, silent[-1]).excluded.all()
    nothing = quantile_table(measure_drift(silent, silent[-1]))
    assert (nothing["features"] == 0).all() and nothing["q50"].isna().all()


def test_classes_have_their_own_rows() -> None:
    labels = ["token"] * 6 + ["concept"] * 4
    angles = np.outer(np.linspace(1, 0, 5), [0.1] * 6 + [1.0] * 4)
    table = quantile_table(drift_of(angles), labels, chain="mini")
    first = table.query("quantity == 'cosine_to_final' and link == 0").set_index("feature_class")
    assert first["features"].to_dict() == {"all": 10, "token": 6, "concept": 4}
    assert first.loc["token", "q50"] == pytest.approx(np.cos(0.1), abs=1e-6)
    assert first.loc["concept", "q50"] == pytest.approx(np.cos(1), abs=1e-6)
    assert (table["chain"] == "mini").all() and len(table) == 4 * 3 * 5
    lengths = table[table["quantity"] == "path_length"]
    assert lengths["share_above_0.9"].isna().all() and lengths["q50"].notna().all()


def test_unlike_links_are_refused() -> None:
    links = rotating(phased_angles(4))
    with pytest.raises(ValueError, match="not the last of the chain"):
        measure_drift(links[:-1], links[-1])
    with pytest.raises(ValueError, match=r"\(4, 16\) and \(5, 16\)"):
        measure_drift(links, rotating(phased_angles(5))[-1])
    with pytest.raises(ValueError, match="without links"):
        measure_drift([], links[-1])


def steady(per_link: float, links: int = len(LM_STEPS), d_sae: int = 30) -> np.ndarray:
    """Every feature turns by about the same at every link, as on a frozen checkpoint."""
    return np.outer(np.arange(links) * per_link, np.linspace(0.9, 1.1, d_sae))


def controls_of(noise: float = 0.02, links: int = len(LM_STEPS)) -> list[ControlDrift]:
    frozen = drift_of(steady(noise, links), lm_steps=[3000] * links)
    return [
        ControlDrift.of("frozen", "noise", frozen),
        ControlDrift.of("second seed", "replicate", drift_of(phased_angles(30, seed=1))),
    ]


def test_a_control_is_laid_beside_by_links_to_the_end() -> None:
    claim = quantile_table(drift_of(phased_angles(30)))
    short = quantile_table(drift_of(steady(0.02, links=6), lm_steps=[3000] * 6))
    beside = align(claim, short)
    to_final = beside[beside["quantity"] == "cosine_to_final"]
    assert to_final["lm_step"].tolist() == LM_STEPS[-6:]
    assert to_final["q50"].iloc[0] == pytest.approx(np.cos(0.1), abs=1e-5)
    assert to_final["q50"].iloc[-1] == 1
    path = beside[beside["quantity"] == "path_length"]
    assert path["lm_step"].tolist() == LM_STEPS[:6]
    assert path["q50"].tolist() == pytest.approx(list(np.arange(6) * 0.02), abs=1e-5)


def test_the_share_of_noise_is_that_of_the_planted_angles() -> None:
    claim = quantile_table(drift_of(phased_angles(30)))
    held = compare_with_controls(claim, controls_of())
    frozen = held.query("control == 'frozen' and quantity == 'cosine_to_final'")
    first = frozen.iloc[0]
    total = 1.2 * (4 * 0.35 + 9 * 0.02)
    assert first["control_drift"] == pytest.approx(-np.log(np.cos(13 * 0.02)), abs=1e-4)
    assert first["claim_drift"] == np.inf and np.cos(total) < 0  # further than a right angle
    assert first["noise_share"] == 0
    # Cosines of independent turns multiply: of twice the log, half is noise.
    fourth = frozen.iloc[9]
    turned = -np.log(fourth["claim_q50"])
    assert fourth["noise_share"] == pytest.approx(-np.log(np.cos(4 * 0.02)) / turned, abs=1e-3)
    assert first["outside"]
    assert np.isnan(frozen["noise_share"].iloc[-1])
    path = held.query("control == 'frozen' and quantity == 'path_length'").iloc[-1]
    assert path["noise_share"] == pytest.approx(1.2 * 13 * 0.02 / total, rel=0.1)
    assert held.query("role == 'replicate'")["noise_share"].isna().all()
    replicate = held.query("role == 'replicate' and quantity == 'cosine_to_final'")
    assert replicate["difference"].abs().max() < 0.1 and not replicate["outside"].any()


def test_drift_after_formation() -> None:
    angles = phased_angles(30)
    dead = np.zeros_like(angles, dtype=bool)
    dead[:, 3] = True
    formation_link = np.full(30, 6)
    formation_link[:3] = (-1, 13, 10)  # never; at the end; when all is quiet
    drift = drift_of(angles, dead)
    table = drift_after_formation(drift, formation_link, controls_of()[0].quantiles)
    assert table["feature"].tolist() == [2, *range(4, 30)]
    quiet, fast = table.iloc[0], table.iloc[5]
    assert (quiet["lm_step"], quiet["links_left"]) == (LM_STEPS[10], 3)
    left = angles[-1] - angles[formation_link, np.arange(30)]
    assert table["path_after"].to_numpy() == pytest.approx(left[table["feature"]], abs=1e-5)
    assert table["cosine_at_formation"].to_numpy() == pytest.approx(
        np.cos(left[table["feature"]]), abs=1e-6
    )
    assert quiet["control_q50"] == pytest.approx(np.cos(3 * 0.02), abs=1e-5)
    assert fast["beyond_noise"] and table["beyond_noise"].iloc[1:].all()
    assert table["residual_cosine"].isna().all()  # no residuals were followed
    without = drift_after_formation(drift, formation_link)
    assert without["beyond_noise"].isna().all()


def test_features_are_drawn_by_seed_among_the_eligible() -> None:
    eligible = np.arange(100) % 2 == 0
    chosen = choose_features(eligible, 10, seed=3)
    assert len(set(chosen)) == 10 and (chosen % 2 == 0).all() and (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, choose_features(eligible, 10, seed=3))
    assert not np.array_equal(chosen, choose_features(eligible, 10, seed=4))
    assert len(choose_features(eligible, 99, seed=0)) == 50


def test_a_plane_shows_the_planted_turn_whole() -> None:
    angles = phased_angles(5)
    features = [1, 4]
    rows = collect_rows(rotating(angles), features)
    assert np.linalg.norm(rows, axis=-1) == pytest.approx(1)
    steps, indices = LM_STEPS, range(len(LM_STEPS))
    one, never = (
        trajectory_table(rows[i : i + 1], features[i : i + 1], steps, list(indices), [formed])
        for i, formed in enumerate([7, -1])
    )
    table = pd.concat([one, never])
    assert table["feature_explained"].to_numpy() == pytest.approx(1)
    assert (table["explained_pc1"] + table["explained_pc2"]).to_numpy() == pytest.approx(1)
    # In its plane, distances are those of points on the unit circle.
    points, turned = one[["pc1", "pc2"]].to_numpy(), angles[:, 1]
    apart = np.linalg.norm(points[0] - points, axis=1)
    assert apart == pytest.approx(2 * np.abs(np.sin((turned - turned[0]) / 2)), abs=1e-6)
    assert one["formed"].tolist() == [False] * 7 + [True] * 7
    assert never["feature"].unique().tolist() == [4] and not never["formed"].any()


def test_a_joint_plane_is_the_first_two_singular_directions() -> None:
    rows = collect_rows(rotating(phased_angles(3)), [0, 1, 2])
    table = trajectory_table(rows, [0, 1, 2], LM_STEPS, range(14), [0, 0, 0])
    flat = rows.reshape(-1, rows.shape[-1])
    centred = flat - flat.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    shares = singular**2 / (singular**2).sum()
    assert table["explained_pc1"].iloc[0] == pytest.approx(shares[0])
    assert table["explained_pc2"].iloc[0] == pytest.approx(shares[1])
    points = np.abs(table[["pc1", "pc2"]].to_numpy())  # an axis may point either way
    assert points == pytest.approx(np.abs(centred @ axes[:2].T))
    with pytest.raises(ValueError, match="2 links"):
        trajectory_table(rows[:, :2], [0, 1, 2], LM_STEPS[:2], [0, 1], [0, 0, 0])


SETTING = Setting(
    "planted", "versions 1 to 14", {"quiet": (0, 16), "fast": (16, 256)}, collapsed=[4]
)


def test_figures_of_drift(tmp_path: Path) -> None:
    drift = drift_of(phased_angles(30))
    claim = quantile_table(drift, ["token", "concept"] * 15)
    controls, path = controls_of(), tmp_path / "figure"
    assert "Hatched" in drawn_svg(lambda path: drift_figure(claim, controls, SETTING, path), path)
    plain = Setting("planted")
    svg = drawn_svg(lambda path: class_drift_figure(claim, controls, plain, path), path)
    assert "concept: 15 features" in svg and "Hatched" not in svg
    single = feature_table(drift, [3, 8])
    assert len(single) == 2 * len(LM_STEPS)
    labels = {3: "token", 8: "contextual"}
    drawn_svg(lambda path: feature_drift_figure(single, claim, [], plain, path, labels), path)


def test_figures_of_trajectories(tmp_path: Path) -> None:
    rows = collect_rows(rotating(phased_angles(2)), [0, 1])
    table = trajectory_table(rows, range(2), LM_STEPS, range(14), [-1, 5])
    planted = Setting("planted", "seed 0", replaced_before=16)
    drawn_svg(lambda path: trajectory_figure(table, planted, path), tmp_path / "figure")


def test_step_0_has_its_place_on_a_log_axis() -> None:
    from matplotlib.figure import Figure

    for steps, scale in (
        (LM_STEPS, "symlog"),
        (range(0, 100, 10), "linear"),
        ([64, 640, 64000], "symlog"),
    ):
        axes = Figure().subplots()
        step_axis(axes, list(steps))
        assert axes.get_xscale() == scale
        left, right = axes.transData.transform([(steps[0], 0), (steps[-1], 0)])[:, 0]
        assert np.isfinite([left, right]).all() and left < right
    assert pd.Series(axes.get_xticks()).tolist() == [64, 640, 64000]
