"""Figure 6: the paths of single features in two principal components, formed or not yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting
from saetrack.utils.figures.style import BLUE, drawn, line

FORMED = "#A50F15"
PALE = 0.3


def trajectory_figure(table: pd.DataFrame, setting: Setting, path: Path) -> None:
    """All features in one plane; the table is that of `saetrack.analysis.drift.trajectories`.

    Paths are pale up to the setting's `replaced_before`.
    """
    with drawn(path, (9.5, 9)) as figure:
        axes = figure.subplots()
        for feature, rows in table.groupby("feature", sort=False):
            _draw(axes, rows.sort_values("link"), f" {feature}", setting.replaced_before)
        first = table.iloc[0]
        axes.set_xlabel(f"PC 1 ({first['explained_pc1']:.0%} of variance)")
        axes.set_ylabel(f"PC 2 ({first['explained_pc2']:.0%})")
        axes.set_aspect("equal", adjustable="datalim")
        handles = [
            line("not yet formed", BLUE, linewidth=2),
            line("formed", FORMED, linewidth=2),
            line("first link", "black", marker="o", linestyle="", markerfacecolor="white"),
            line("final link", "black", marker="s", linestyle=""),
        ]
        shown = table.groupby("feature")["feature_explained"].first()
        explained = (
            f"PCA of unit decoder rows: {len(shown)} features over {table['link'].nunique()} "
            f"links, one plane for all, which shows {shown.min():.0%} to {shown.max():.0%} of a "
            "feature's own movement."
        )
        if setting.replaced_before:
            explained += (
                f" Pale, up to step {setting.replaced_before:,.0f}: fewer than half of the "
                "features are nearest to their own index of the last dictionary."
            )
        frame(figure, Setting(setting.title, setting.caption), handles, explained)


def _draw(axes: Axes, rows: pd.DataFrame, name: str, replaced_before: float | None) -> None:
    """One trajectory; a segment has the colour of the link that it starts at."""
    is_pale = (rows["lm_step"] < (replaced_before or -np.inf)).to_numpy()
    x, y = rows["pc1"].to_numpy(), rows["pc2"].to_numpy()
    colours = np.where(rows["formed"], FORMED, BLUE)
    for link, colour in enumerate(colours[:-1]):
        alpha = PALE if is_pale[link] else 1
        axes.plot(x[link : link + 2], y[link : link + 2], "-", color=colour, lw=1.6, alpha=alpha)
    axes.scatter(x[1:-1], y[1:-1], s=9, c=colours[1:-1], zorder=3)
    axes.plot(x[0], y[0], "o", color=colours[0], markerfacecolor="white", markersize=7, zorder=4)
    axes.plot(x[-1], y[-1], "s", color=colours[-1], markersize=6, zorder=4)
    axes.annotate(
        name,
        (x[-1], y[-1]),
        xytext=(7, 7),
        textcoords="offset points",
        fontsize=8,
        color="#404040",
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5},
    )
