"""What all figures share: colours, style, how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Colour-blind safe (Okabe and Ito).
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY = "#767676"

STYLE: Any = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.hashsalt": "saetrack",
}


def line(label: str, colour: str, **style: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], label=label, color=colour, **style)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as `.png` and `.svg`; the same figure gives the same SVG, byte for byte.

    Args:
        figure: drawn under `STYLE`, to be saved under it as well.
        path: without suffix.
    """
    figure.savefig(path.with_suffix(".png"), dpi=120)
    figure.set_layout_engine("none")  # laid out above; once is enough, and slow
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
