"""Figures of formation, meanings and projections: drawn from planted tables, never blank."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from saetrack.analysis.drift.measure import histogram_table
from saetrack.analysis.figures.drift_histograms import drift_histogram_figure
from saetrack.analysis.figures.formation import progress_figure, regions_figure
from saetrack.analysis.figures.matching import matched_features_figure
from saetrack.analysis.figures.meaning import formed_figure, labels_figure, patterns_figure
from saetrack.analysis.figures.nulls import nulls_figure
from saetrack.analysis.figures.polysemy import polysemy_figure
from saetrack.analysis.figures.progress_of_features import progress_of_features_figure
from saetrack.analysis.figures.umap import umap_figure
from saetrack.analysis.formation.phases import PHASED, find_phases, phase_borders, phase_spans
from saetrack.analysis.meaning.classes import LABEL_NAMES, PAPER_NAMES
from saetrack.utils.figures.steps import Setting, step_axis
from tests.support.planted_figures import (
    CLASSES,
    SETTING,
    STEPS,
    drawn_svg,
    kept_figures,
    planted_curves,
    planted_drift,
    planted_labels,
    planted_labels_of,
    planted_nulls,
    planted_pairs,
    planted_paper_labels,
    planted_paper_patterns,
    planted_patterns,
    planted_polysemy,
    planted_progress,
    planted_rise,
)
from tests.support.planted_projection import planted_layout, planted_points

SIMILARITY_PANELS = ("feature_cosine", "feature_jaccard", "feature_weighted_jaccard")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    return kept_figures(monkeypatch)


def caption(figure: Figure) -> str:
    return " ".join(str(figure.get_supxlabel()).split())


def test_figure_of_the_progress(tmp_path: Path) -> None:
    curves, baseline = planted_curves()
    alone = curves[(curves["measure"] == "activation_cosine") & (curves["chosen"] == "final")]
    measures = ["activation_cosine", "feature_jaccard"]  # the second was not measured
    drawn_svg(
        lambda path: progress_figure(alone, baseline, SETTING, path, measures), tmp_path / "figure"
    )


def test_progress_has_a_panel_for_each_measure_and_the_medians_as_lines(
    figures: list[Figure],
) -> None:
    curves, baseline = planted_curves()
    progress_figure(curves, baseline, Setting("plain"), Path("progress"), SIMILARITY_PANELS)
    assert len(figures[0].axes) == 3
    for axes, measure in zip(figures[0].axes, SIMILARITY_PANELS, strict=True):
        rows = curves[(curves["measure"] == measure) & (curves["class"] == "concept")]
        lines = [part.get_ydata() for part in axes.lines if len(part.get_xdata()) == len(STEPS)]
        assert any(np.allclose(values, rows["q0.5"]) for values in lines)


def planted_regions() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    feature, region = (part.reshape(-1) for part in np.mgrid[:90, :5])
    rise = (region / 4) * (feature % 3 + 1) / 4 + generator.normal(0, 0.05, 450)
    return pd.DataFrame(
        {"feature": feature, "region": region, "low": region / 5, "high": (region + 1) / 5}
        | {"datapoints": 25, "token_purity": 0.2 + rise, "activation_cosine_centred": rise}
        | {"feature_cosine_centred": rise / 2}
    )


def test_figure_of_the_regions(tmp_path: Path) -> None:
    labels = pd.Series([("contextual", "concept", "token")[i % 3] for i in range(90)])
    drawn_svg(
        lambda path: regions_figure(planted_regions(), labels, SETTING, path), tmp_path / "figure"
    )


def test_figure_of_the_labels(tmp_path: Path) -> None:
    counts, of_paper = planted_labels(), planted_paper_labels()
    svg = drawn_svg(lambda path: labels_figure(counts, of_paper, SETTING, path), tmp_path / "a")
    for name in (*LABEL_NAMES.values(), *PAPER_NAMES.values()):
        assert f"<!-- {name} -->" in svg


def test_collapse_is_hatched_over_the_stack_of_labels(figures: list[Figure]) -> None:
    labels_figure(planted_labels(), planted_paper_labels(), SETTING, Path("labels"))
    top = figures[0].axes[0]
    hatched = [patch for patch in top.patches if patch.get_hatch()]
    assert len(hatched) == len(SETTING.collapsed)
    stack = max(part.get_zorder() for part in top.collections)
    assert min(patch.get_zorder() for patch in hatched) > stack


def test_concepts_stand_beside_what_nulls_expect(figures: list[Figure]) -> None:
    nulls_figure(planted_nulls(), SETTING, Path("nulls"))
    counts, excess = figures[0].axes
    concepts, of_directions, of_tokens = counts.lines[:3]
    assert concepts.get_ydata()[-1] == 89 and (of_tokens.get_ydata() == 40).all()
    assert np.isnan(of_directions.get_ydata()[:7]).all(), "not drawn where it cannot be told"
    assert excess.lines[1].get_ydata()[-1] == 81
    told = caption(figures[0])
    assert "At 7 of 14 checkpoints fewer than 20 qualify" in told
    assert "still one in 20% of draws" in told and "in 78%." in told


def test_histograms_stand_at_as_many_links_before_the_end(figures: list[Figure]) -> None:
    chain, short = planted_drift(1.5), planted_drift(0.3, links=5)
    table = histogram_table(chain)
    by_link = table.groupby("link").agg({"features": "sum", "share": "sum", "excluded": "max"})
    # The first feature dies at link 3, and only there.
    assert by_link["features"].tolist() == [199 if link == 3 else 200 for link in range(14)]
    assert by_link["share"].to_numpy() == pytest.approx(1)
    assert by_link["excluded"].sum() == 1
    here = table[table["link"] == 2]
    inside = (chain.cosine_to_final[2][:, None] >= here["low"].to_numpy()) & (
        chain.cosine_to_final[2][:, None] < here["high"].to_numpy()
    )
    assert here["features"].tolist() == inside.sum(axis=0).tolist()
    drift_histogram_figure(table, {"still": histogram_table(short)}, SETTING, Path("histograms"))
    axes = figures[0].axes[0]
    filled = [part for part in axes.patches if part.get_fill()]
    outlines = [part for part in axes.patches if not part.get_fill()]
    # Links 0, 2, 3, 5, 6, 8, 9, 10, 12: of 5 links, the control has those of the last three ridges.
    assert len(filled) == 9 and len(outlines) == 3
    assert [tick.get_text() for tick in axes.get_yticklabels()][:3] == ["0", "2", "4"]
    assert "199 to 200 features per link; excluded: 0 to 1" in caption(figures[0])


def test_lines_of_features_and_the_median_of_their_class(figures: list[Figure]) -> None:
    progress, labels = planted_progress(), planted_labels_of()
    progress_of_features_figure(progress, labels, range(0, 200, 2), SETTING, Path("lines"))
    final = progress[progress["chosen"] == "final"]
    wide = final.pivot_table(index="feature", columns="lm_step", values="activation_cosine_centred")
    assert len(figures[0].axes) == 4
    for axes, label in zip(figures[0].axes, CLASSES, strict=True):
        of_class = wide[labels == label]
        curves = [part for part in axes.lines if len(part.get_xdata()) == len(STEPS)]
        thin, thick = curves[:-2], curves[-1]
        assert thick.get_ydata() == pytest.approx(of_class.median().to_numpy())
        allowed = of_class[of_class.index < 200].to_numpy()
        assert len(thin) == 20 and len(allowed) > 20
        for curve in thin:
            assert np.isclose(allowed, curve.get_ydata()).all(axis=1).any()


def test_polysemy_shows_who_lost_senses(figures: list[Figure]) -> None:
    statistics, polysemy = planted_polysemy()
    polysemy_figure(statistics, polysemy, SETTING, Path("polysemy"))
    recall, coherence, determinism = figures[0].axes
    lost = statistics[statistics["feature"].isin(range(0, 80, 8))].groupby("lm_step")
    for axes, column in ((recall, "recall"), (coherence, "coherence_other")):
        all_of_them, losing = (part for part in axes.lines if len(part.get_xdata()) == len(STEPS))
        assert losing.get_ydata() == pytest.approx(lost[column].median().to_numpy())
        assert all_of_them.get_ydata()[-1] != pytest.approx(losing.get_ydata()[-1], abs=0.1)
    assert [part.get_label() for part in determinism.lines][:2] == ["one token", "concept"]


def test_identity_shows_correlations_where_there_is_no_common_stream(
    figures: list[Figure],
) -> None:
    pairs = planted_pairs()
    matched_features_figure(pairs, SETTING, Path("matched_features"))
    seed, layer, agreement, nothing = figures[0].axes
    assert seed.get_xlabel() == "decoder cosine c"
    assert layer.get_xlabel() == "correlation of activations r"
    assert agreement.get_visible() and not nothing.get_visible()
    other = pairs[pairs["other"] == "layer 3"]
    (shown,) = (part for part in layer.lines if len(part.get_xdata()) > 2)
    middle = float(np.interp(0.5, shown.get_ydata(), shown.get_xdata()))
    assert middle == pytest.approx(other["score"].median(), abs=0.01)
    here = pairs[(pairs["by"] == "activations") & (pairs["other"] == "second seed")]
    assert sum(len(part.get_offsets()) for part in agreement.collections) == len(here)


def test_figure_of_the_patterns(tmp_path: Path) -> None:
    counts, of_paper = planted_patterns(), planted_paper_patterns()
    svg = drawn_svg(lambda path: patterns_figure(counts, of_paper, SETTING, path), tmp_path / "a")
    assert "maintaining 30.0%" in svg and "none of them 52.0%" in svg


def planted_formed() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    labels = generator.choice(["token", "weak_concept", "concept", "contextual"], 300)
    formed = generator.choice(STEPS, 300).astype(float)
    return pd.DataFrame({"final_label": labels, "formed_lm_step": formed})


def test_figure_of_formation_points(tmp_path: Path) -> None:
    drawn_svg(
        lambda path: formed_figure(planted_formed(), STEPS, SETTING, path), tmp_path / "figure"
    )


def test_names_of_narrow_phases_do_not_overlap(figures: list[Figure]) -> None:
    names = {"warm-up": (0, 48), "emergent": (48, 1500), "convergent": (1500, 2048)}
    late = Setting("late", phases=names)
    progress_of_features_figure(planted_progress(), planted_labels_of(), [], late, Path("late"))
    figures[0].canvas.draw()
    for axes in figures[0].axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert [text.get_text() for text in axes.texts] == list(names)[::-1]
        panel = axes.get_window_extent()
        assert all(box.x1 <= panel.x1 + 2 for box in boxes)
        assert all(left.x1 < right.x0 for right, left in pairwise(boxes))


def test_phases_of_a_planted_curve_become_spans() -> None:
    flat = planted_rise() * 0 + 1
    table = find_phases({PHASED: planted_rise(), "flat": flat, "late": planted_late()}, draws=20)
    spans = phase_spans(table, STEPS)
    assert spans == {"warm-up": (0, 8), "emergent": (8, 256), "convergent": (256, 2048)}
    assert phase_borders(table) == {"emergent": (8, 8, 8), "convergent": (256, 256, 256)}
    assert phase_spans(table, STEPS, "flat") == {} == phase_borders(table, "flat")
    assert phase_spans(table, STEPS, "late") == {"warm-up": (0, 256), "emergent": (256, 2048)}
    assert phase_spans(table, STEPS, "of no chain") == {}


def planted_late() -> pd.DataFrame:
    x = np.log2(np.array(STEPS) + 1)
    return planted_rise() * 0 + np.maximum(x - x[9], 0)


def test_a_caption_says_how_sure_borders_are(figures: list[Figure]) -> None:
    borders = {"emergent": (24.0, 16.0, 64.0)}
    shaded = Setting("sure", phases={"warm-up": (0, 24), "emergent": (24, 2048)}, borders=borders)
    progress_of_features_figure(planted_progress(), planted_labels_of(), [], shaded, Path("sure"))
    assert "the emergent one begins at step 24 (16 to 64)" in caption(figures[0])
    bars = [part.get_xy() for part in figures[0].axes[0].patches if part.get_height() < 0.05]
    assert len(bars) == 1 and (bars[0][0] if np.ndim(bars[0]) == 1 else bars[0][0][0]) == 16


@pytest.mark.parametrize("fit", ["separate", "joint"])
def test_figure_of_a_projection(fit: str, tmp_path: Path) -> None:
    drawn_svg(
        lambda path: umap_figure(planted_layout(fit), planted_points()[2], SETTING, path),
        tmp_path / "figure",
    )


def test_a_projection_shows_who_lies_together(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    run = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(root)}
    subprocess.run(
        [sys.executable, "-m", "tests.support.planted_projection"],
        cwd=tmp_path,
        env=run,
        check=True,
    )
    separate, joint, again = (
        pd.read_csv(tmp_path / f"{name}.csv") for name in ("separate", "joint", "again")
    )
    for points in (separate, joint):
        assert len(points) == 2 * 7 * 6
        at_end = points[points["lm_step"] == 2048]
        centres = at_end.groupby("feature")[["u", "v"]].mean().loc[at_end["feature"]].to_numpy()
        places = at_end[["u", "v"]].to_numpy()
        nearest = np.hypot(*(places[:, None] - centres).T).argmin(axis=0)
        assert (at_end["feature"].to_numpy()[nearest] == at_end["feature"]).mean() > 0.95
    assert np.array_equal(separate[separate["lm_step"] == 0][["u", "v"]], again[["u", "v"]])


@pytest.mark.parametrize("lm_steps", [[0, 1, 2], [0, 1], [5, 6, 7, 8]])
def test_ticks_of_neighbouring_steps_are_whole_numbers(lm_steps: list[int]) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot(lm_steps, lm_steps)
    step_axis(axes, lm_steps)
    figure.canvas.draw()
    low, high = axes.get_xlim()
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    shown = [label for at, label in zip(axes.get_xticks(), ticks, strict=True) if low <= at <= high]
    assert shown and len(set(shown)) == len(shown)


DOUBLING = [0, *(2**power for power in range(12))]
PYTHIA = [0, *(2**power for power in range(10)), *range(1000, 144_000, 1000)]
TICKS = [
    # Panels as wide as those of an analysis' figures, and steps as users have them.
    ([0, 16, 32, 64, 128, 256, 512], 6, ["0", "16", "32", "64", "128", "256", "512"]),
    ([0, 16, 32, 64, 128, 256, 512], 2, ["0", "32", "128", "512"]),
    (DOUBLING, 6, ["0", "1", "10", "100", "2,048"]),
    (DOUBLING, 2, ["0", "1", "10", "2,048"]),
    (PYTHIA, 6, ["0", "1", "10", "100", "1,000", "10k", "143k"]),
    ([0, 512], 3, ["0", "100", "200", "300", "400", "512"]),
    ([0, 1, 512], 3, ["0", "1", "512"]),
    ([0, 1000, 143_000], 3, ["0", "1,000", "143k"]),
    (range(0, 144_000, 1000), 3, ["0", "50k", "100k", "143k"]),
]


@pytest.mark.parametrize(("lm_steps", "inches", "expected"), TICKS)
def test_ticks_say_the_last_step_and_do_not_overlap(
    lm_steps: Sequence[int], inches: float, expected: list[str]
) -> None:
    figure = Figure(figsize=(inches, 2), layout="constrained")
    axes = figure.subplots()
    axes.plot(lm_steps, lm_steps)
    step_axis(axes, lm_steps, label=False)
    figure.draw_without_rendering()
    labels = axes.get_xticklabels()
    assert [label.get_text() for label in labels] == expected
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 + 2 < right.x0 for left, right in pairwise(boxes))
