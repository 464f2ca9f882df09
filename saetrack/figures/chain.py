"""A chain's table as a figure."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from saetrack.figures.style import BLUE, GREEN, ORANGE, RED, STYLE, save


def chain_figure(table: pd.DataFrame, title: str, path: Path) -> None:
    """Explained variance, L0, MSE and dead share of each link against the LM's step.

    Args:
        table: one row per link (see `Registry.table`).
        title: above the panels.
        path: without suffix; `.png` and `.svg` are written.
    """
    panels = [
        ("explained_variance", "explained variance", BLUE),
        ("l0", "L0 (active features per token)", ORANGE),
        ("mse", "MSE", GREEN),
        ("dead", "dead features (share)", RED),
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 7), layout="constrained")
        for axes, (column, label, colour) in zip(
            figure.subplots(2, 2, sharex=True).flat, panels, strict=True
        ):
            # Step 0 has no place on a log axis: steps are drawn at lm_step + 1, as in the paper.
            axes.plot(table["lm_step"] + 1, table[column], "o-", color=colour, markersize=4)
            axes.set_xscale("log")
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0, top=1.02 if column == "explained_variance" else None)
        for axes in figure.axes[2:]:
            axes.set_xlabel("LM training step + 1")
        figure.suptitle(f"{title}\n{len(table)} links, held-out tokens")
        save(figure, path)
