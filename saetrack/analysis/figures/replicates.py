"""Headline numbers over replicates: each chain, the mean, and the interval."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting
from saetrack.utils.figures.style import BLUE, GREY, drawn, line, not_measured

# What is drawn, by the beginning of its name; tables have the rest.
PANELS = {
    "pattern.": "share of live features",
    "label.": "share of live features",
    "pattern_kappa.": "Cohen's kappa",
    "progress.": "centred cosine",
}
ALL = "all chains"
# Inches: of the figure, and of a number in a panel; rows that each panel has room for.
WIDTH, ROW_HEIGHT, MIN_ROWS, COLUMNS = 11.0, 0.2, 5, 2
# Shares of less than this, in all controls too, are left to the table.
MIN_SHARE = 0.03


def replicates_figure(
    headline: pd.DataFrame, over: pd.DataFrame, setting: Setting, path: Path
) -> None:
    """One panel per kind of number: a point per chain, and mean with interval over all.

    The tables are those of `saetrack.analysis.results`.
    """
    over = over[over["over"] == ALL]
    rows = {start: _shown(over[over["name"].str.startswith(start)]) for start in PANELS}
    # Two panels a row: a page shows the figure large enough to read its names.
    counts = [max(MIN_ROWS, len(found)) for found in rows.values()]
    heights = [max(counts[at : at + COLUMNS]) for at in range(0, len(counts), COLUMNS)]
    size = (WIDTH, 2.0 + sum(0.8 + ROW_HEIGHT * count for count in heights))
    with drawn(path, size) as figure:
        grid = figure.subplots(len(heights), COLUMNS, height_ratios=heights)
        for axes, (start, unit) in zip(grid.flat, PANELS.items(), strict=True):
            axes.set_title(start.removesuffix(".").replace("_", " "), fontsize=10, loc="left")
            axes.set_xlabel(unit)
            _draw(axes, headline, rows[start], start)
        handles = [
            line("mean and interval", BLUE, marker="o", markersize=5),
            line("one chain", GREY, marker="|", linestyle="none", markersize=9),
        ]
        chains = headline["chain"].nunique()
        caption = (
            f"{chains} chains. 'less X': the chain's number less that of X, each pair on the same "
            "tokens. Intervals: Student's 95 % of three chains and more, else the range; never "
            "narrower than those over features of all chains allow."
        )
        frame(figure, setting, handles, caption)


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Each number above its differences from controls, unless all of them are small."""
    largest = rows["mean"].abs().groupby(rows["name"]).transform("max")
    first = {name: number for number, name in enumerate(dict.fromkeys(rows["name"]))}
    shown = rows[largest >= MIN_SHARE]
    return shown.sort_values("name", key=lambda names: names.map(first), kind="stable")


def _draw(axes: Axes, headline: pd.DataFrame, rows: pd.DataFrame, start: str) -> None:
    if rows.empty:
        not_measured(axes)
        axes.set_yticks([])
        return
    names = []
    for at, (_, row) in enumerate(rows.iterrows()):
        of_chains = headline[
            (headline["name"] == row["name"]) & (headline["control"] == row["control"])
        ]["value"]
        axes.plot(of_chains, [at] * len(of_chains), "|", color=GREY, markersize=9)
        axes.hlines(at, row["low"], row["high"], color=BLUE, linewidth=1.6)
        axes.plot(row["mean"], at, "o", color=BLUE, markersize=4.5)
        word = "in" if start == "pattern_kappa." else "less"
        beside = f" {word} {row['control']}" if row["control"] else ""
        names.append(row["name"].removeprefix(start).replace("_", " ") + beside)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
