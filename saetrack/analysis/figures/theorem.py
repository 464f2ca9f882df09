"""Theorem 2.1 as it is stated, and the way that training takes, beside its bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis
from saetrack.utils.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    drawn,
    line,
)

# What bounds the way of training: column, words and colour.
QUOTIENTS = {
    "over_bound": ("right: training, over K G and the summed learning rates", ORANGE),
    "over_displacement_bound": ("training, over K and the parameters' displacement", BLUE),
}


def theorem_figure(
    theorem: pd.DataFrame, paths: pd.DataFrame, setting: Setting, path: Path
) -> None:
    """Steps of gradient descent under the bound, and the way of training beside it.

    The tables are those of `saetrack.analysis.geometry.theorem`.
    """
    with drawn(path, (13, 5.6)) as figure:
        steps, ways = figure.subplots(1, 2)
        _draw_steps(steps, theorem)
        _draw_ways(ways, theorem, paths, setting)
        loose = theorem["looseness"]
        broken = int((~theorem["holds"]).sum())
        holds = "holds for all" if not broken else f"is exceeded by {broken} of the"
        frame(
            figure,
            setting,
            _handles(),
            f"Moves are the largest of {theorem['tokens'].iloc[0]} tokens; K is the largest of the "
            f"same tokens' Lipschitz constants (a lower estimate), G the norm of the gradient over "
            f"{theorem['rows'].iloc[0]} held-out rows. The bound {holds} {len(theorem)} steps of "
            f"gradient descent, and is {loose.min():.3g} to {loose.max():.3g} times as large as "
            "the move. Right: one way per checkpoint, to the next one of the chain; above 1 the "
            "bound does not hold.",
        )


def _draw_steps(axes: Axes, theorem: pd.DataFrame) -> None:
    """How far a step goes over its learning rate, a colour per checkpoint."""
    lm_steps = theorem["lm_step"].unique()
    colours = colormaps["cividis"](np.linspace(0, 0.9, len(lm_steps)))
    for lm_step, colour in zip(lm_steps, colours, strict=True):
        at = theorem[theorem["lm_step"] == lm_step]
        axes.plot(at["learning_rate"], at["movement"], "o-", color=colour, markersize=4)
        axes.plot(at["learning_rate"], at["bound"], "--", color=colour, linewidth=1)
        axes.plot(at["learning_rate"], at["random_movement"], ":", color=colour)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("learning rate of one step of gradient descent")
    axes.set_ylabel("move of a token's residual")
    axes.legend(
        handles=[
            line(f"from step {lm_step:,}", colour, marker="o", markersize=4)
            for lm_step, colour in zip(lm_steps, colours, strict=True)
        ],
        frameon=False,
        fontsize=9,
    )


def _draw_ways(axes: Axes, theorem: pd.DataFrame, paths: pd.DataFrame, setting: Setting) -> None:
    """How many times the bounds each way of training goes, beside steps of gradient descent."""
    lm_steps = paths["lm_step"].tolist()
    closest = 1 / theorem.groupby("lm_step")["looseness"].min()
    axes.plot(closest.index, closest, "s--", color=GREEN, markersize=5)
    for column, (_, colour) in QUOTIENTS.items():
        axes.plot(lm_steps, paths[column], "o-", color=colour, markersize=5)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("move / bound")
    chain_axis(axes, lm_steps, setting)


def _handles() -> list[Line2D]:
    return [
        line("left: bound", GREY, linestyle="--"),
        line("random direction, as long", GREY, linestyle=":"),
        *(line(words, colour, marker="o", markersize=5) for words, colour in QUOTIENTS.values()),
        line("steps of gradient descent, the closest", GREEN, linestyle="--", marker="s"),
    ]
