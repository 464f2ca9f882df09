"""Datapoints of some features in the plane, checkpoint by checkpoint (figure 3, right)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from saetrack.analysis.figures.control_names import FEATURE_COLOURS
from saetrack.analysis.meaning.classes import LABEL_NAMES
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting
from saetrack.utils.figures.style import RED, drawn, line, panels

# As in the paper: circles are single tokens, diamonds (weak) concepts.
MARKERS = {
    "token": "o",
    "several_tokens": "s",
    "weak_concept": "d",
    "concept": "D",
    "contextual": "x",
}


def umap_figure(points: pd.DataFrame, features: pd.DataFrame, setting: Setting, path: Path) -> None:
    """One panel per checkpoint; colours are features, markers their classes.

    `points` are those of one fit of `saetrack.analysis.formation.projection`; `features` are seven
    at most, with `feature`, `label` and `name`, a few words.
    """
    steps = sorted(points["lm_step"].unique())
    joint = bool((points["fit"] == "joint").all())
    columns = min(3, len(steps))
    rows = -(-len(steps) // columns)
    shown = features.assign(colour=FEATURE_COLOURS[: len(features)])
    framed = {"axes.spines.top": True, "axes.spines.right": True}
    with drawn(path, (3.9 * columns, 3.9 * rows + 2.2), **framed) as figure:
        grid = panels(figure, len(steps), columns, sharex=joint, sharey=joint)
        for axes, step in zip(grid.flat, steps, strict=False):
            _draw_points(axes, points[points["lm_step"] == step], shown)
            collapsed = step in setting.collapsed
            name = f"LM step {step:,.0f}" + (" (collapsed)" if collapsed else "")
            axes.set_title(name, fontsize=11, color=RED if collapsed else "black")
            # Distances of the plane have no unit, and its axes no meaning.
            axes.tick_params(length=0, labelbottom=False, labelleft=False)
            axes.grid(visible=False)
        handles = [
            line(
                f"{row.name} ({LABEL_NAMES[str(row.label)]})",
                str(row.colour),
                marker=MARKERS.get(str(row.label), "x"),
                linestyle="",
            )
            for row in shown[["feature", "label", "name", "colour"]].itertuples(index=False)
        ]
        fit = "one fit for all checkpoints" if joint else "each checkpoint fitted by itself"
        frame(
            figure,
            Setting(setting.title, setting.caption),
            handles,
            f"UMAP of residuals at the features' top contexts, chosen at the end; {fit}. "
            f"{len(points) // len(steps):,} datapoints of {len(shown)} features a panel.",
        )


def _draw_points(axes: Axes, points: pd.DataFrame, features: pd.DataFrame) -> None:
    for row in features.itertuples():
        marker = MARKERS.get(str(row.label), "x")
        here = points[points["feature"] == row.feature]
        axes.plot(
            here["u"],
            here["v"],
            marker,
            color=row.colour,
            markersize=5.5,
            alpha=0.75,
            markeredgewidth=0.8 if marker == "x" else 0,
        )
