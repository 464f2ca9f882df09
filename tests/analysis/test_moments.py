"""When features reach something for good, and which comes first, of planted moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saetrack.analysis.effects.moments import (
    first_for_good,
    moment_counts,
    moment_table,
    pairwise_order,
    which_first,
)
from saetrack.analysis.figures.effects import effects_figure
from saetrack.analysis.figures.moments import moments_figure
from saetrack.utils.figures.steps import Setting
from tests.support.planted_figures import drawn_svg, kept_figures

STEPS = [0, 1, 4, 16, 64]


def test_for_good_means_to_the_end_and_not_at_the_end_alone() -> None:
    holds = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 1]], bool)
    assert first_for_good(holds).tolist() == [2, 1, -1, -1]


def test_what_is_unknown_neither_begins_nor_ends_it() -> None:
    holds = np.array([[0, 0, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0], [1, 0, 1, 0]], bool)
    unknown = np.array([[1, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 1], [0, 1, 0, 1]], bool)
    assert first_for_good(holds, unknown).tolist() == [1, -1, 0, -1]


def planted() -> pd.DataFrame:
    """Of 90 features 60 form at link 1 and 30 at 3; all cause at 2; every third never predicts."""
    features = np.arange(90)
    found = {
        "forms": np.where(features < 60, 1, 3),
        "converges": np.full(90, 4),
        "predicts": np.where(features % 3 == 0, -1, 2),
        "causes": np.full(90, 2),
    }
    return moment_table(found, features, STEPS)


def test_never_is_told_from_a_step() -> None:
    table = planted()
    assert len(table) == 4 * 90
    never = table[~table["reached"]]
    assert never["lm_step"].isna().all() and (never["moment"] == "predicts").all()
    counts: Any = moment_counts(table, seed=0).set_index("moment")
    reached = {"forms": 90, "converges": 90, "predicts": 60, "causes": 90}
    assert counts["reached"].to_dict() == reached
    assert counts["median_lm_step"].to_dict() == dict(zip(reached, (1, 64, 4, 4), strict=True))


def test_counts_have_the_interval_of_a_bootstrap() -> None:
    features = np.arange(90)
    close = moment_table({"forms": np.where(features < 46, 1, 3)}, features, STEPS)
    counts: Any = moment_counts(pd.concat([planted(), close.assign(of="close")]), seed=0)
    row = counts.set_index(["of", "moment"]).loc[("features", "predicts")]
    half = 1.96 * np.sqrt(2 / 9 / 90)  # of a share of 2/3 among 90
    assert row["share_low"] == pytest.approx(2 / 3 - half, abs=0.03)
    assert row["share_high"] == pytest.approx(2 / 3 + half, abs=0.03)
    row = counts.set_index("of").loc["close"]
    assert row["median_lm_step"] == 1 == row["median_lm_step_low"]
    assert row["median_lm_step_high"] == 16, "nearly half form later"
    never = moment_counts(moment_table({"causes": np.full(3, -1)}, np.arange(3), STEPS), seed=0)
    assert never["share"].tolist() == [0] and never["median_lm_step"].isna().all()


def test_which_comes_first_shares_ties() -> None:
    first: Any = which_first(planted(), seed=0)
    first = first[first["among"] == "all"].set_index("moment")
    assert set(first["features"]) == {60}, "that have all"
    assert first["share"].to_dict() == pytest.approx(
        {"forms": 2 / 3, "converges": 0, "predicts": 1 / 6, "causes": 1 / 6}
    )
    assert first.loc["forms", "share_low"] < 2 / 3 < first.loc["forms", "share_high"]
    assert first["share"].sum() == pytest.approx(1) == first["shuffled"].sum()


def test_what_never_comes_is_not_first() -> None:
    found = {"forms": np.array([-1, 2, -1, -1]), "causes": np.array([3, 1, 4, -1])}
    first: Any = which_first(moment_table(found, np.arange(4), STEPS), seed=0)
    any_of = first[first["among"] == "any"].set_index("moment")
    assert set(any_of["features"]) == {3} and any_of["share"].to_dict() == {"forms": 0, "causes": 1}


def test_of_two_moments_the_order_is_counted() -> None:
    order: Any = pairwise_order(planted(), seed=0).set_index(["moment", "other"])
    row = order.loc[("forms", "causes")]
    assert (row["features"], row["before"], row["same"]) == (90, pytest.approx(2 / 3), 0)
    assert row["lead"] == pytest.approx(1 / 3)
    assert row["lead_low"] < 1 / 3 < row["lead_high"]
    assert order.loc[("predicts", "causes"), "same"] == 1
    assert np.isnan(row["spearman"]), "all cause at the same link"


def test_moments_of_the_same_features_are_told_from_equal_medians() -> None:
    early = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], 25))
    found = {"forms": early, "predicts": early, "causes": early[::-1].copy()}
    order: Any = pairwise_order(moment_table(found, np.arange(100), STEPS), seed=0)
    order = order.set_index(["moment", "other"])
    assert order.loc[("forms", "predicts"), "spearman"] == pytest.approx(1)
    assert abs(order.loc[("forms", "causes"), "spearman"]) < 0.25
    assert order.loc[("forms", "causes"), "p_value"] > 0.05


def test_nothing_has_all_moments() -> None:
    found = {"forms": np.array([1]), "causes": np.array([-1])}
    table = moment_table(found, np.array([5]), STEPS)
    assert set(which_first(table, seed=0)["among"]) == {"any"}
    assert pairwise_order(table, seed=0)["before"].isna().all()


def test_the_figure_says_how_many_have_which_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = planted()
    control = moment_table(
        {"causes": np.where(np.arange(90) < 4, 3, -1)}, np.arange(90), STEPS, "control"
    )
    both = pd.concat([features, control], ignore_index=True)
    tables = {
        "moments": both,
        "moment_counts": moment_counts(both, seed=0),
        "moment_first": which_first(features, seed=0),
        "moment_order": pairwise_order(features, seed=0),
    }
    drawn_svg(
        lambda path: moments_figure(tables, STEPS, Setting("planted"), path), tmp_path / "figure"
    )
    figures = kept_figures(monkeypatch)
    moments_figure(tables, STEPS, Setting("planted"), Path("moments"))
    caption = " ".join(str(figures[0].get_supxlabel()).split())
    assert "predictive (logits) 60" in caption and "causal (effect) 90 (control 4)" in caption
    assert "the 60 features that have all, and, hatched, the 90 that have any" in caption
    patches: Any = figures[0].axes[1].patches
    bars = [bar.get_height() for bar in patches]
    assert bars[:4] == pytest.approx([2 / 3, 0, 1 / 6, 1 / 6])
    assert bars[4:] == pytest.approx([2 / 3, 0, 1 / 9, 2 / 9]), "30 of them never predict"


def test_the_figure_of_effects_draws_what_was_measured(tmp_path: Path) -> None:
    rows = [
        {"lm_step": step, "quantity": quantity, "feature_class": name, "features": 80}
        | {"q25": 0.8, "q50": 1 + number / 5, "q75": 2.0, "control": "random directions"}
        | {"control_q05": 0.7, "control_q95": 1.3}
        for number, step in enumerate(STEPS)
        for quantity in ("effect", "size_over_random")
        for name in ("all", "token", "concept")
    ]
    calibrated = pd.DataFrame(
        {"lm_step": STEPS, "features": 16, "rows": 64, "spearman": 0.9, "spearman_of_sizes": 0.95}
        | {"slope": 1.1, "slope_low": 0.9, "slope_high": 1.3}
    )
    effects = pd.DataFrame(rows)
    drawn_svg(
        lambda path: effects_figure(effects, calibrated, Setting("planted"), path),
        tmp_path / "figure",
    )
    none = calibrated.assign(**dict.fromkeys(("spearman", "slope"), np.nan), features=0, rows=0)
    drawn_svg(
        lambda path: effects_figure(effects, none, Setting("planted"), path), tmp_path / "none"
    )
