"""Figure 6: the paths of single features in two principal components, formed or not yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saetrack.analysis.drift.trajectories import RANDOM_WALK_EXPLAINED
from saetrack.figures.captions import frame
from saetrack.figures.steps import Setting, short_step
from saetrack.figures.style import BLUE, STYLE, line, save

FORMED = "#A50F15"


def trajectory_figure(
    table: pd.DataFrame,
    title: str,
    caption: str,
    path: Path,
    names: Mapping[int, str] | None = None,
) -> None:
    """One panel per feature, or one for all if they were fitted jointly.

    Args:
        table: as `saetrack.analysis.drift.trajectories.trajectory_table` gives it.
        title: above the panels.
        caption: its last line: versions of the SAEs, how features were chosen.
        path: without suffix; `.png` and `.svg` are written.
        names: what each feature is about, for the panels' titles.
    """
    joint = table["fit"].iloc[0] == "joint"
    groups = [(None, table)] if joint else list(table.groupby("feature", sort=False))
    with mpl.rc_context(STYLE):
        columns = min(len(groups), 3)
        rows = -(-len(groups) // columns)
        size = (9.5, 9) if joint else (4.6 * columns, 4 * rows + 1.2)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(groups) :]:
            axes.set_visible(False)
        for axes, (feature, panel) in zip(grid.flat, groups, strict=False):
            for one, path_of_one in panel.groupby("feature", sort=False):
                label = f" {one}" if joint else ""
                _draw(axes, path_of_one.sort_values("link"), label)
            first = panel.iloc[0]
            axes.set_xlabel(f"PC 1 ({first['explained_pc1']:.0%} of variance)")
            axes.set_ylabel(f"PC 2 ({first['explained_pc2']:.0%})")
            axes.set_aspect("equal", adjustable="datalim")
            if feature is not None:
                axes.set_title(_heading(int(str(feature)), names, panel), fontsize=11)
        handles = [
            line("not yet formed", BLUE, linewidth=2),
            line("formed", FORMED, linewidth=2),
            line("first link", "black", marker="o", linestyle="", markerfacecolor="white"),
            line("final link", "black", marker="s", linestyle=""),
        ]
        frame(figure, Setting(title, caption), handles, _fit_line(table, joint=joint))
        save(figure, path)


def _draw(axes: Axes, rows: pd.DataFrame, label: str) -> None:
    """One trajectory; a segment has the colour of the link that it starts at."""
    x, y = rows["pc1"].to_numpy(), rows["pc2"].to_numpy()
    formed, steps = rows["formed"].to_numpy(), rows["lm_step"].to_numpy()
    for link in range(len(rows) - 1):
        colour = FORMED if formed[link] else BLUE
        axes.plot(x[link : link + 2], y[link : link + 2], "-", color=colour, linewidth=1.6)
    colours = np.where(formed, FORMED, BLUE)
    axes.scatter(x[1:-1], y[1:-1], s=9, c=colours[1:-1], zorder=3)
    axes.plot(x[0], y[0], "o", color=colours[0], markerfacecolor="white", markersize=7, zorder=4)
    axes.plot(x[-1], y[-1], "s", color=colours[-1], markersize=6, zorder=4)
    marked = {0, len(rows) - 1}
    if formed.any() and not label:
        marked.add(int(formed.argmax()))
    texts = {} if label else {link: f"step {short_step(steps[link])}" for link in marked}
    if label:
        texts = {len(rows) - 1: label}
    middle = (x.min() + x.max()) / 2
    for link, text in sorted(texts.items()):
        # Towards the panel's middle; the formation below, where it may be next to an end.
        right, below = x[link] > middle and not label, link not in {0, len(rows) - 1}
        axes.annotate(
            text,
            (x[link], y[link]),
            xytext=(-7 if right else 7, -13 if below else 7),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=8,
            color="#404040",
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5},
        )


def _heading(feature: int, names: Mapping[int, str] | None, panel: pd.DataFrame) -> str:
    about = f": {names[feature]}" if names and feature in names else ""
    never = "" if panel["formed"].any() else " (never formed)"
    return f"feature {feature}{about}{never}"


def _fit_line(table: pd.DataFrame, *, joint: bool) -> str:
    """What the planes show, and what a random walk would."""
    features, links = table["feature"].nunique(), table["link"].nunique()
    shown = table.groupby("feature")["feature_explained"].first()
    which = "one plane for all" if joint else "each in its own plane"
    walk = f"{RANDOM_WALK_EXPLAINED[0]:.0%} and {RANDOM_WALK_EXPLAINED[1]:.0%}"
    shows = (
        f"PCA of unit decoder rows: {features} features over {links} links, {which}, which shows "
        f"{shown.min():.0%} to {shown.max():.0%} of a feature's own movement."
    )
    if joint:
        return shows
    return (
        f"{shows}\nA random walk in many dimensions has {walk} on its first two components, and "
        "looks like an arc too."
    )
