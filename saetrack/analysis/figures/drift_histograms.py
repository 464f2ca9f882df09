"""Figure 5a as the paper draws it, with its controls: one ridge of histograms per checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from saetrack.analysis.figures.drift import NOISE_COLOURS, PANELS
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.step_ticks import short_step
from saetrack.utils.figures.steps import Setting, span
from saetrack.utils.figures.style import BLUE, RED, YELLOW, drawn, line

RIDGES = 9
# Of the room between two ridges that the highest bin takes.
HEIGHT = 0.86
# A row reaches as high as its highest bin, but at most so many times as high as the chain's.
MOST_TIMES = 2.5


def drift_histogram_figure(
    claim: pd.DataFrame, controls: Mapping[str, pd.DataFrame], setting: Setting, path: Path
) -> None:
    """Histograms of the cosine to the final direction at checkpoints spread over the chain.

    The final checkpoint is not drawn: there every cosine is 1.

    The tables are those of `saetrack.analysis.drift.measure`; noise controls are outlines, at as
    many links before their own end (see `saetrack.analysis.drift.controls`).
    """
    last = int(claim["link"].max())
    links = np.unique(np.linspace(0, max(last - 1, 0), RIDGES).round().astype(int))
    with drawn(path, (9, 1.6 + 0.8 * len(links))) as figure:
        axes = figure.subplots()
        steps: list[int] = []
        for number, link in enumerate(links):
            here = claim[claim["link"] == link]
            beside = {
                name: table[table["link"] == table["link"].max() - (last - link)]
                for name, table in controls.items()
            }
            steps.append(int(here["lm_step"].iloc[0]))
            base = len(links) - 1 - number
            if steps[-1] < (setting.replaced_before or -np.inf):
                axes.axhspan(base, base + 1, color=YELLOW, alpha=0.18, lw=0, zorder=-4)
            _draw_ridge(axes, here, beside, base)
        _name_rows(axes, steps, setting)
        axes.set_xlabel(PANELS["cosine_to_final"])
        axes.set_xlim(_lowest([claim, *controls.values()]), 1)
        handles = [
            Patch(facecolor=BLUE, alpha=0.55, label="this chain"),
            *(
                line(f"{name} (training noise)", colour, linewidth=1.4)
                for name, colour in zip(controls, NOISE_COLOURS, strict=False)
            ),
        ]
        caption = _caption(claim, controls)
        if set(steps) & set(setting.collapsed):
            caption += " Red: collapsed checkpoints."
        shown = Setting(setting.title, setting.caption, replaced_before=setting.replaced_before)
        frame(figure, shown, handles, caption)


def _name_rows(axes: Axes, steps: Sequence[int], setting: Setting) -> None:
    """LM steps at the left, the first one on top, and what stands at the right."""
    axes.set_yticks(range(len(steps))[::-1], map(short_step, steps))
    for tick, step in zip(axes.get_yticklabels(), steps, strict=True):
        tick.set_color(RED if step in setting.collapsed else "black")
    axes.set_ylabel("LM training step")
    axes.set_ylim(-0.05, len(steps) + 0.1)
    axes.text(
        *(1.01, len(steps) - 0.05, "top of row"),
        transform=axes.get_yaxis_transform(),
        fontsize=9,
        color="#404040",
    )


def _draw_ridge(
    axes: Axes, here: pd.DataFrame, beside: Mapping[str, pd.DataFrame], base: int
) -> None:
    """One checkpoint: the chain filled, controls as outlines, on one scale."""
    tables = [here, *(rows for rows in beside.values() if len(rows))]
    highest = min(
        max(float(rows["share"].max()) for rows in tables), MOST_TIMES * float(here["share"].max())
    )

    def outline(rows: pd.DataFrame) -> tuple[pd.Series[float], list[float]]:
        """Heights and edges of the bins from the first to the last that is not empty."""
        filled = np.flatnonzero(rows["features"])
        rows = rows.iloc[filled[0] : filled[-1] + 1] if len(filled) else rows[:1]
        heights = base + HEIGHT * (rows["share"].fillna(0) / highest).clip(upper=1)
        return heights, [*rows["low"], rows["high"].iloc[-1]]

    axes.stairs(*outline(here), baseline=base, fill=True, color=BLUE, alpha=0.55, zorder=2)
    for rows, colour in zip(beside.values(), NOISE_COLOURS, strict=False):
        if len(rows):
            axes.stairs(*outline(rows), baseline=base, color=colour, linewidth=1.4, zorder=3)
    axes.axhline(base, color="black", linewidth=0.8)
    axes.text(
        *(1.01, base + 0.08, f"{highest:.0%}"),
        transform=axes.get_yaxis_transform(),
        fontsize=9,
        color="#404040",
    )


def _lowest(tables: list[pd.DataFrame]) -> float:
    """Where the first bin that is not empty begins."""
    occupied = pd.concat([table.loc[table["features"] > 0, "low"] for table in tables])
    return float(occupied.min())


def _caption(claim: pd.DataFrame, controls: Mapping[str, pd.DataFrame]) -> str:
    by_link = claim.groupby("link").agg(features=("features", "sum"), excluded=("excluded", "max"))
    beside = (
        "Outlines: chains whose LM stands still, at as many links before their own end."
        if controls
        else "No noise control given."
    )
    return (
        f"{span(by_link['features'])} features per link; excluded: {span(by_link['excluded'])} "
        f"dead there or at the end. Bins of {2 / claim['low'].nunique():.2g}; each row has its own "
        f"scale, up to the share at its right, where higher bins are cut off. {beside} "
        "At the final link, which is not drawn, every cosine is 1."
    )
