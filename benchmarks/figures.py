"""The benchmark's figures: the steps as bars, the growth of cost as four panels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting
from saetrack.utils.figures.style import BLUE, GREEN, GREY, ORANGE, RED, STYLE, line, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIME, MEMORY = ("time", BLUE, "-", "o"), ("peak memory", ORANGE, "--", "s")


def step_figure(steps: pd.DataFrame, roofline: pd.DataFrame, path: Path) -> None:
    """Milliseconds per step of every contestant, one panel per shape; the roofline as a line.

    Args:
        steps: rows of all shapes, with a column `shape`.
        roofline: one row per shape.
        path: without suffix.
    """
    shapes = list(dict.fromkeys(steps["shape"]))
    most = int(steps.groupby("shape").size().max())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.5 * len(shapes) + 1, 1.6 + 0.45 * most), layout="constrained")
        for axes, shape in zip(
            figure.subplots(1, len(shapes), squeeze=False)[0], shapes, strict=True
        ):
            rows = steps[steps["shape"] == shape].iloc[::-1]
            ours = rows["contestant"].str.startswith("saetrack")
            colours = [BLUE if own else GREY for own in ours]
            bars = axes.barh(rows["contestant"], rows["ms_per_step"], color=colours)
            labels = [
                f"{ms:,.0f} ms, {ratio:.1f}×"
                for ms, ratio in zip(rows["ms_per_step"], rows["times_ours"], strict=True)
            ]
            axes.bar_label(bars, labels, padding=4, fontsize=9)
            axes.set_xlim(0, rows["ms_per_step"].max() * 1.3)
            limit_ms = roofline.loc[roofline["shape"] == shape, "total_ms"].iloc[0]
            axes.axvline(limit_ms, color=RED, linestyle="--")
            axes.set_title(f"d_in x d_sae = {shape}")
            axes.set_xlabel("ms per step (median)")
            axes.grid(visible=False, axis="y")
        frame(
            figure,
            Setting("One training step"),
            [
                line("this project", BLUE, linewidth=8),
                line("others", GREY, linewidth=8),
                line("roofline", RED, linestyle="--"),
            ],
            "Same data, warm start, tokens; interleaved rounds.\nRoofline: the encoder's product "
            "and Adam's memory traffic alone.",
        )
        save(figure, path)


def cost_figure(tables: dict[str, pd.DataFrame], path: Path) -> None:
    """Four panels: time and memory over d_sae, d_in and layers; registry time over the chain.

    Args:
        tables: as `benchmarks.cost.measure` gives them.
        path: without suffix.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 9), layout="constrained")
        grid = figure.subplots(2, 2).flat
        _growth(grid[0], tables["d_sae"], "d_sae", "features, d_sae (d_in 512)")
        _growth(grid[1], tables["d_in"], "d_in", "residual width, d_in (d_sae 8,192)")
        _layers(grid[2], tables["layers"])
        _chain(grid[3], tables["chain"])
        handles = [
            line(label, colour, linestyle=dashes, marker=marker)
            for label, colour, dashes, marker in (TIME, MEMORY)
        ]
        frame(
            figure,
            Setting("Cost as the work grows"),
            handles,
            "Above: the sparse step at L0 32, batch 2,048, log-log; dotted: proportional growth. "
            "Below left: warm links of the mini-LM, LM and evaluation included.\n"
            "Below right: seconds in MLflow (SQLite) per link; dots: links, lines: medians of 9.",
        )
        save(figure, path)


def _growth(axes: Axes, table: pd.DataFrame, column: str, label: str) -> None:
    if _is_empty(axes, table):
        return
    axes.plot(table[column], table["us_per_token"], color=BLUE, marker="o")
    at, first_us = table[column], table["us_per_token"].iloc[0]
    axes.plot(at, first_us * at / at.iloc[0], color=GREY, linestyle=":")
    right = axes.twinx()
    right.plot(at, table["peak_mb"], color=ORANGE, linestyle="--", marker="s")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(at), [f"{n:,}" for n in at])
    for one, unit in ((axes, "µs per token"), (right, "peak memory, MB")):
        one.set_yscale("log")
        one.set_ylabel(unit)
        one.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        one.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
        one.yaxis.set_minor_locator(NullLocator())
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    axes.set_xlabel(label)


def _layers(axes: Axes, table: pd.DataFrame) -> None:
    if _is_empty(axes, table):
        return
    axes.plot(table["layers"], table["us_per_token_and_layer"], color=BLUE, marker="o")
    axes.set_ylim(0, 1.15 * table["us_per_token_and_layer"].max())
    axes.set_ylabel("µs per token and layer")
    right = axes.twinx()
    right.plot(table["layers"], table["peak_mb"], color=ORANGE, linestyle="--", marker="s")
    right.set_ylim(0, 1.15 * table["peak_mb"].max())
    right.set_ylabel("peak memory, MB")
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    axes.set_xticks(list(table["layers"]))
    axes.set_xlabel("layers per pass of the LM")


def _chain(axes: Axes, table: pd.DataFrame) -> None:
    if _is_empty(axes, table):
        return
    lengths = sorted(table["links"].unique())
    for links, colour, marker in zip(lengths, (ORANGE, GREEN, BLUE), ("s", "^", "o"), strict=False):
        rows = table[table["links"] == links]
        number, seconds = rows["number"] + 1, rows["registry_ms"] / 1e3
        axes.plot(number, seconds, marker, color=colour, markersize=3, alpha=0.4)
        smooth = seconds.rolling(9, center=True, min_periods=1).median()
        axes.plot(number, smooth, color=colour, linewidth=2, label=f"chain of {links}")
    axes.set_ylim(0, 2.5e-3 * table["registry_ms"].median())
    axes.set_xlabel("number of the link")
    axes.set_ylabel("seconds in the registry")
    axes.legend(frameon=False)


def _is_empty(axes: Axes, table: pd.DataFrame) -> bool:
    if table.empty:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY)
    return table.empty
