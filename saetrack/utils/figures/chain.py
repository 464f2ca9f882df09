"""A chain's table as a figure."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.ce_loss import worse_than_guess
from saetrack.utils.figures.steps import Setting
from saetrack.utils.figures.style import BLUE, GREEN, GREY, ORANGE, RED, drawn, line, panels

# Of each panel: what is drawn at the end of a link, and at its start, its label and colour.
PANELS = [
    ("explained_variance", "start_explained_variance", "explained variance", BLUE),
    ("explained_variance_at_l0", None, "explained variance at equal L0", BLUE),
    ("ce_loss_recovered", None, "CE loss recovered", BLUE),
    ("nats_lost", None, "nats lost to the SAE", BLUE),
    ("mse", None, "MSE", GREEN),
    ("l0", None, "L0 (active features per token)", ORANGE),
    ("dead", "start_dead", "dead features (share)", RED),
]
COLUMNS = 4
SHARES = {"explained_variance", "explained_variance_at_l0", "ce_loss_recovered"}


def chain_figure(table: pd.DataFrame, title: str, path: Path) -> None:
    """Held-out metrics of each link against the LM's step, where it matters also as it started."""
    with drawn(path, (18, 7.5)) as figure:
        grid = panels(figure, len(PANELS), COLUMNS)
        for axes, panel in zip(grid.flat, PANELS, strict=False):
            _draw(axes, table, *panel)
        for axes in figure.axes[len(PANELS) - COLUMNS :]:
            axes.set_xlabel("link" if _is_frozen(table) else "LM training step + 1")
        handles = [
            line("after training", BLUE, marker="o", markersize=4),
            line("warm start, before training", GREY, linestyle=":", marker=".", markersize=4),
        ]
        frame(figure, Setting(title), handles, _caption(table))


def _draw(
    axes: Axes, table: pd.DataFrame, end: str, start: str | None, label: str, colour: str
) -> None:
    # A log axis has no zero: steps are drawn at lm_step + 1, as in the paper.
    at = table["link"] if _is_frozen(table) else table["lm_step"] + 1
    if start is not None:
        warm = table["link"] > 0
        # An explained variance far below 0 would flatten the curve that matters.
        values = table[start].clip(lower=0)
        axes.plot(at[warm], values[warm], ".:", color=GREY, linewidth=1, markersize=4)
    axes.plot(at, table[end], "o-", color=colour, markersize=4)
    axes.set_xscale("linear" if _is_frozen(table) else "log")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0, top=max(1.02, 1.02 * table[end].max()) if end in SHARES else None)


def _is_frozen(table: pd.DataFrame) -> bool:
    return bool(table["lm_step"].duplicated().any())


def _caption(table: pd.DataFrame) -> str:
    below = int((table.loc[table["link"] > 0, "start_explained_variance"] < 0).sum())
    cut = f"; {below} warm starts below 0 are drawn at 0" if below else ""
    undefined = int(table["ce_loss_recovered"].isna().sum())
    unused = f"; CE loss recovered undefined at {undefined} of them" if undefined else ""
    return f"{len(table)} links, held-out tokens{cut}{unused}. {worse_than_guess(table)}".rstrip()
