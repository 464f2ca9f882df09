"""Progress of features over training (figures 4 and 14), and their regions (figure 3, left)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from saetrack.analysis.figures.classes import (
    CONTROL_COLOURS,
    CONTROL_NAMES,
    CONTROL_NOUNS,
    JUDGED,
    LABEL_COLOURS,
    LABEL_NAMES,
)
from saetrack.analysis.formation.progress_measure import ACTIVATION_MEASURES, FEATURE_MEASURES
from saetrack.figures.captions import frame
from saetrack.figures.steps import Setting, shade, step_axis
from saetrack.figures.style import STYLE, line, save

MEASURE_NAMES = {
    "activation_cosine": "activation space, cosine",
    "activation_cosine_centred": "activation space, centred cosine",
    "feature_cosine": "feature space, cosine",
    "feature_cosine_centred": "feature space, centred cosine",
    "feature_jaccard": "feature space, Jaccard",
    "feature_weighted_jaccard": "feature space, weighted Jaccard",
}
# Figure 4: columns are the spaces, rows the paper's form and the centred one.
PROGRESS_PANELS = tuple(
    measure
    for pair in zip(ACTIVATION_MEASURES, FEATURE_MEASURES[:2], strict=True)
    for measure in pair
)


def progress_figure(
    curves: pd.DataFrame,
    baseline: pd.DataFrame,
    setting: Setting,
    path: Path,
    measures: Sequence[str] = PROGRESS_PANELS,
) -> None:
    """Progress measure by class: medians and quartiles, baseline, both controls.

    Args:
        curves: as `saetrack.analysis.formation.progress_measure.class_curves` gives it; of
            controls, the class that has the control's own name is drawn.
        baseline: as `saetrack.analysis.formation.progress_measure.baseline_spread` gives it.
        setting: title, caption, shading.
        path: without suffix; `.png` and `.svg` are written.
        measures: one panel each, two or three in a row; those that were not measured are left out.
    """
    shown = [measure for measure in measures if (curves["measure"] == measure).any()]
    columns = 3 if len(shown) % 3 == 0 else min(2, len(shown))
    rows = -(-len(shown) // columns)
    steps = sorted(curves["lm_step"].unique())
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(max(12, 5.2 * columns + 1.6), 3.9 * rows + 1.9), layout="constrained"
        )
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for number, (axes, measure) in enumerate(zip(grid.flat, shown, strict=False)):
            draw_progress(
                axes,
                curves[curves["measure"] == measure],
                baseline[baseline["measure"] == measure],
            )
            step_axis(axes, steps, label=number >= len(shown) - columns)
            shade(axes, steps, setting.phases, setting.collapsed)
            axes.set_title(MEASURE_NAMES[measure], fontsize=11, pad=18 if setting.phases else None)
        for axes in grid[:, 0]:
            axes.set_ylabel("progress measure M")
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        frame(figure, setting, progress_handles(curves), _progress_caption(curves, baseline))
        save(figure, path)


def draw_progress(axes: Axes, curves: pd.DataFrame, baseline: pd.DataFrame) -> None:
    """One measure's curves by class, its baseline and controls; rows of this measure only."""
    spread = baseline.sort_values("lm_step")
    axes.fill_between(
        spread["lm_step"],
        spread["min"] - spread["mean"],
        spread["max"] - spread["mean"],
        color="black",
        alpha=0.3,
        linewidth=0,
    )
    axes.axhline(0, color="black", linewidth=0.8)
    final = curves[curves["chosen"] == "final"]
    for label in JUDGED:
        colour = LABEL_COLOURS[label]
        of_class = final[final["class"] == label].sort_values("lm_step")
        if of_class.empty:
            continue
        steps = of_class["lm_step"]
        axes.fill_between(
            steps, of_class["q0.25"], of_class["q0.75"], color=colour, alpha=0.2, linewidth=0
        )
        axes.plot(steps, of_class["q0.5"], color=colour, linewidth=2.2, marker=".")
    for control, colour in CONTROL_COLOURS.items():
        rows = curves[(curves["chosen"] == control) & (curves["class"] == control)]
        rows = rows.sort_values("lm_step")
        axes.plot(rows["lm_step"], rows["q0.5"], color=colour, linewidth=2, linestyle="--")
        for quartile in ("q0.25", "q0.75"):
            axes.plot(rows["lm_step"], rows[quartile], color=colour, linewidth=0.9, linestyle=":")


def progress_handles(curves: pd.DataFrame) -> list[Line2D | Patch]:
    """The legend of `draw_progress`."""
    final = curves.loc[curves["chosen"] == "final", "class"].unique()
    classes = [label for label in JUDGED if label in final]
    controls = [name for name in CONTROL_COLOURS if (curves["chosen"] == name).any()]
    return [
        *(line(LABEL_NAMES[label], LABEL_COLOURS[label], linewidth=2.2) for label in classes),
        *(
            line(CONTROL_NAMES[name], CONTROL_COLOURS[name], linewidth=2, linestyle="--")
            for name in controls
        ),
        Patch(color="black", alpha=0.3, label="random contexts: range of draws", linewidth=0),
    ]


def _progress_caption(curves: pd.DataFrame, baseline: pd.DataFrame) -> str:
    """Sample sizes."""
    final = curves[curves["chosen"] == "final"].groupby("class")["features"].max()
    sizes = [f"{LABEL_NAMES[label]} {final[label]:,}" for label in JUDGED if label in final]
    own = curves[curves["class"] == curves["chosen"]].groupby("chosen")["features"].max()
    controls = [f"{own[name]:,} {noun}" for name, noun in CONTROL_NOUNS.items() if name in own]
    draws = baseline["draws"].min()
    return (
        f"Features by their class at the end: {', '.join(sizes)}; "
        f"controls: {', '.join(controls) or 'none'}.\n"
        f"Lines: medians; bands and dotted lines: quartiles. M is the mean pairwise similarity of "
        f"a feature's top contexts less that of random contexts (mean of {draws} draws)."
    )


def regions_figure(
    regions: pd.DataFrame, labels: pd.Series[str], setting: Setting, path: Path
) -> None:
    """How pure and how narrow regions of growing activation strength are, by class.

    Args:
        regions: as `saetrack.analysis.formation.regions.region_table` gives it.
        labels: class of each feature, indexed by feature.
        setting: title and caption.
        path: without suffix; `.png` and `.svg` are written.
    """
    quantities = {
        "token_purity": "token purity",
        "activation_cosine_centred": "centred cosine less baseline\n(activation space)",
        "feature_cosine_centred": "centred cosine less baseline\n(feature space)",
    }
    shown = {name: text for name, text in quantities.items() if name in regions}
    regions = regions.assign(label=regions["feature"].map(labels))
    classes = [label for label in LABEL_COLOURS if (regions["label"] == label).any()]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5 * len(shown) + 0.6, 5), layout="constrained")
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for axes, (quantity, text) in zip(panels, shown.items(), strict=True):
            _draw_regions(axes, regions, quantity, classes)
            axes.set_ylabel(text)
        sizes = regions.drop_duplicates("feature")["label"].value_counts()
        counts = ", ".join(f"{LABEL_NAMES[label]} {sizes[label]:,}" for label in classes)
        handles = [line(LABEL_NAMES[label], LABEL_COLOURS[label], marker="o") for label in classes]
        frame(
            figure,
            Setting(setting.title, setting.caption),
            handles,
            f"Features: {counts}. Medians and quartiles over features; each region by at most "
            f"{regions['datapoints'].max()} random datapoints.",
        )
        save(figure, path)


def _draw_regions(axes: Axes, regions: pd.DataFrame, quantity: str, classes: Sequence[str]) -> None:
    """Median and quartiles per region, classes side by side."""
    for row, label in enumerate(classes):
        grouped = regions[regions["label"] == label].groupby("region")[quantity]
        middle, low, high = (grouped.quantile(share) for share in (0.5, 0.25, 0.75))
        axes.errorbar(
            middle.index.to_numpy(float) + 0.1 * (row - (len(classes) - 1) / 2),
            middle,
            yerr=[middle - low, high - middle],
            color=LABEL_COLOURS[label],
            marker="o",
            linewidth=2,
            elinewidth=1,
        )
    bounds = regions.drop_duplicates("region").sort_values("region")
    names = [f"{row.low:g}–{row.high:g}" for row in bounds.itertuples()]
    axes.set_xticks(bounds["region"].to_numpy(float), names)
    axes.set_xlabel("activation / the feature's largest")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
