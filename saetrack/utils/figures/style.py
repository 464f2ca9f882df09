"""What all figures share: colours, style, how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from saetrack.utils.figures.glyphs import draw_what_there_is, families

# Colour-blind safe (Okabe and Ito).
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
YELLOW = "#F0E442"
GREY = "#767676"

STYLE: Any = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.hashsalt": "saetrack",
}


@contextmanager
def drawn(path: Path, size: tuple[float, float], **style: Any) -> Iterator[Figure]:
    """A figure to draw on, `size` in inches; when the block ends it is written (`save`)."""
    with mpl.rc_context(STYLE | {"font.family": families()} | style):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        save(figure, path)


def panels(figure: Figure, count: int, columns: int, **shared: Any) -> np.ndarray:
    """A grid of axes, (rows, columns), of which those behind the first `count` are hidden."""
    grid: np.ndarray = figure.subplots(-(-count // columns), columns, squeeze=False, **shared)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return grid


def band(axes: Axes, at: Any, low: Any, high: Any, colour: str, alpha: float, **style: Any) -> None:
    """A range over x."""
    axes.fill_between(at, low, high, color=colour, alpha=alpha, linewidth=0, **style)


def plain_log(axes: Axes) -> None:
    """A logarithmic y axis with numbers as people write them."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def not_measured(axes: Axes) -> None:
    """What an empty panel says."""
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY)


def line(label: str, colour: str, **style: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], label=label, color=colour, **style)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as `.png` and `.svg`; the same figure gives the same SVG, byte for byte."""
    draw_what_there_is(figure)
    figure.savefig(path.with_suffix(".png"), dpi=120)
    figure.set_layout_engine("none")  # laid out above; once is enough, and slow
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
