"""Chains in columns on one scale, and their numbers in a row each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from saetrack.analysis.comparison.side_by_side import summary_table
from saetrack.analysis.figures.side_by_side import side_by_side_figure
from saetrack.utils.figures.steps import Setting
from tests.support.planted_figures import STEPS, kept_figures, planted_tables

SETTING = Setting("two layers", "versions 1 to 14")


@pytest.fixture(scope="module")
def pages() -> dict[str, dict]:
    """Two chains; the second without a control, and with its progress at half."""
    first, second = planted_tables(), planted_tables()
    del second["drift_beside_controls"]
    values = [name for name in second["curves"] if name.startswith("q0.")]
    second["curves"][values] /= 2
    return {"layer 1": first, "layer 2": second}


def figure_of(pages: dict, kind: str, monkeypatch: pytest.MonkeyPatch) -> Figure:
    figures = kept_figures(monkeypatch)
    side_by_side_figure(pages, kind, SETTING, Path(kind))
    return figures[0]


def test_progress_of_chains_stands_on_one_scale(
    pages: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = figure_of(pages, "progress", monkeypatch).axes
    assert left.get_ylim() == right.get_ylim()
    curves = pages["layer 1"]["curves"]
    tokens = curves[
        (curves["measure"] == "activation_cosine_centred") & (curves["class"] == "token")
    ]
    whole, half = (
        next(part.get_ydata() for part in axes.lines if len(part.get_xdata()) == len(STEPS))
        for axes in (left, right)
    )
    assert whole == pytest.approx(tokens["q0.5"].to_numpy())
    assert half == pytest.approx(tokens["q0.5"].to_numpy() / 2)


def test_drift_of_a_chain_stands_before_its_noise(
    pages: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = figure_of(pages, "drift", monkeypatch)
    left, right = figure.axes
    of_chain = [
        [part.get_ydata() for part in axes.lines if len(part.get_xdata()) == len(STEPS)]
        for axes in (left, right)
    ]
    assert [len(lines) for lines in of_chain] == [2, 1]
    noise, chain = of_chain[0]
    assert (noise[:-1] > chain[:-1]).all()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "chain: median, quartiles, 5–95 %",
        "still (training noise)",
    ]


@pytest.mark.parametrize("kind", ["meanings", "collapse"])
def test_collapse_is_hatched_in_each_chains_panel(
    pages: dict, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = figure_of(pages, kind, monkeypatch)
    for axes in figure.axes:
        assert sum(patch.get_hatch() is not None for patch in axes.patches) == 1
    assert "Hatched" in str(figure.get_supxlabel())


def test_the_summary_has_a_row_of_planted_numbers_for_each_chain(pages: dict) -> None:
    table = summary_table(pages).set_index("chain")
    assert table.index.tolist() == ["layer 1", "layer 2"]
    first = table.loc["layer 1"]
    counts = pages["layer 1"]["label_counts"].set_index(["lm_step", "label"])["features"]
    assert first["concept_first"] == counts[0, "concept"]
    assert first["concept_final"] == counts[2048, "concept"]
    assert first["live_features"] == sum(
        counts[2048, label]
        for label in (
            "token",
            "several_tokens",
            "weak_concept",
            "concept",
            "contextual",
            "insufficient",
        )
    )
    assert table["concept_rise"].iloc[1] == pytest.approx(table["concept_rise"].iloc[0] / 2)
    assert 0 < first["control_rise"] < first["concept_rise"]
    assert first["noise_cosine_to_final"] > first["first_cosine_to_final"]
    assert np.isnan(table.loc["layer 2", "noise_cosine_to_final"])
    assert first["most_collapsed_lm_step"] == 64 and first["most_collapsed"] == 0.97
    assert first["continuity"] == 0.9
