"""Progress of features over training (figures 4 and 14), and their regions (figure 3, left)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from saetrack.analysis.figures.control_names import CONTROL_COLOURS, CONTROL_NAMES, CONTROL_NOUNS
from saetrack.analysis.meaning.classes import JUDGED, LABEL_COLOURS, LABEL_NAMES
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis
from saetrack.utils.figures.style import band, drawn, line, panels

MEASURE_NAMES = {
    "activation_cosine": "activation space, cosine",
    "activation_cosine_centred": "activation space, centred cosine",
    "feature_cosine": "feature space, cosine",
    "feature_cosine_centred": "feature space, centred cosine",
    "feature_jaccard": "feature space, Jaccard",
    "feature_weighted_jaccard": "feature space, weighted Jaccard",
}


def progress_figure(
    curves: pd.DataFrame,
    baseline: pd.DataFrame,
    setting: Setting,
    path: Path,
    measures: Sequence[str],
) -> None:
    """Progress measure by class: medians and quartiles, baseline, both controls.

    The tables are those of `saetrack.analysis.formation.progress_measure`; of controls, the class
    that has the control's own name is drawn. Each measure has a panel, if it was measured.
    """
    shown = [measure for measure in measures if (curves["measure"] == measure).any()]
    columns = 3 if len(shown) % 3 == 0 else min(2, len(shown))
    rows = -(-len(shown) // columns)
    steps = sorted(curves["lm_step"].unique())
    with drawn(path, (max(12, 5.2 * columns + 1.6), 3.9 * rows + 1.9)) as figure:
        grid = panels(figure, len(shown), columns, sharex=True)
        for number, (axes, measure) in enumerate(zip(grid.flat, shown, strict=False)):
            draw_progress(
                axes,
                curves[curves["measure"] == measure],
                baseline[baseline["measure"] == measure],
            )
            chain_axis(axes, steps, setting, label=number >= len(shown) - columns)
            axes.set_title(MEASURE_NAMES[measure], fontsize=11, pad=18 if setting.phases else None)
        for axes in grid[:, 0]:
            axes.set_ylabel("progress measure M")
        frame(figure, setting, progress_handles(curves), _progress_caption(curves, baseline))


def draw_progress(axes: Axes, curves: pd.DataFrame, baseline: pd.DataFrame) -> None:
    """One measure's curves by class, its baseline and controls; rows of this measure only."""
    spread = baseline.sort_values("lm_step")
    low, high = spread["min"] - spread["mean"], spread["max"] - spread["mean"]
    band(axes, spread["lm_step"], low, high, "black", 0.3)
    axes.axhline(0, color="black", linewidth=0.8)
    final = curves[curves["chosen"] == "final"]
    for label in JUDGED:
        colour = LABEL_COLOURS[label]
        of_class = final[final["class"] == label].sort_values("lm_step")
        if of_class.empty:
            continue
        steps = of_class["lm_step"]
        band(axes, steps, of_class["q0.25"], of_class["q0.75"], colour, 0.2)
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

    `regions` is the table of `saetrack.analysis.formation.regions`; labels are indexed by feature.
    """
    quantities = {
        "token_purity": "token purity",
        "activation_cosine_centred": "centred cosine less baseline\n(activation space)",
        "feature_cosine_centred": "centred cosine less baseline\n(feature space)",
    }
    shown = {name: text for name, text in quantities.items() if name in regions}
    regions = regions.assign(label=regions["feature"].map(labels))
    classes = [label for label in LABEL_COLOURS if (regions["label"] == label).any()]
    with drawn(path, (5 * len(shown) + 0.6, 5)) as figure:
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
