"""Figure 43 (appendix L) and the continuity of activations (theorem 2.1) in four panels each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from saetrack.analysis.geometry.collapse import COLLAPSE_IN_WORDS, SEVERE
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis
from saetrack.utils.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    band,
    drawn,
    line,
    not_measured,
    plain_log,
)

COLLAPSE_LABEL = "mean cosine of random pairs"
FORMS = {"raw": ("raw residuals", RED), "centred": ("less their mean over tokens", BLUE)}


def collapse_figure(table: pd.DataFrame, setting: Setting, path: Path) -> None:
    """Mean pairwise cosine of random residuals per checkpoint, mean and range over draws.

    The table is that of `saetrack.analysis.geometry.collapse`; setting's collapsed checkpoints are
    its own.
    """
    lm_steps = list(table["lm_step"])
    with drawn(path, (9.5, 5.6)) as figure:
        axes = figure.subplots()
        draw_collapse(axes, table)
        axes.set_ylabel(COLLAPSE_LABEL)
        collapsed = table.loc[table["collapsed"], "lm_step"].tolist()
        chain_axis(axes, lm_steps, replace(setting, collapsed=collapsed))
        first = table.iloc[0]
        frame(
            figure,
            replace(setting, collapsed=()),
            collapse_handles(),
            f"{first['draws']:.0f} draws of {first['sample']:.0f} out of {first['tokens']:,.0f} "
            "residuals: mean and range. Hatched: collapsed, "
            f"which is {COLLAPSE_IN_WORDS}: {len(collapsed)} of {len(table)} checkpoints.",
        )


def draw_collapse(axes: Axes, table: pd.DataFrame) -> None:
    """Means and ranges over draws, and from where on a collapse is severe."""
    for form, (_, colour) in FORMS.items():
        band(axes, table["lm_step"], table[f"{form}_min"], table[f"{form}_max"], colour, 0.25)
        axes.plot(table["lm_step"], table[f"{form}_mean"], "o-", color=colour, markersize=4)
    axes.axhline(SEVERE, color="black", linestyle=":", linewidth=1)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(-0.2, 1.02)


def collapse_handles() -> list[Line2D]:
    """The legend of `draw_collapse`."""
    forms = [line(label, colour, marker="o", markersize=4) for label, colour in FORMS.values()]
    return [*forms, line("severe collapse", "black", linestyle=":")]


def continuity_figure(joined: pd.DataFrame, setting: Setting, path: Path) -> None:
    """How far residuals move between neighbouring checkpoints, and what it costs warm starts.

    The table is that of `saetrack.analysis.geometry.continuity.with_warm_starts`.
    """
    with drawn(path, (13, 9)) as figure:
        moves, quotients, similarity, cost = figure.subplots(2, 2).flat
        _draw_moves(moves, joined)
        _draw_quotients(quotients, joined)
        similarity.plot(joined["lm_step"], joined["linear_cka"], "o-", color=BLUE, markersize=4)
        similarity.plot(joined["lm_step"], joined["cosine"], "s--", color=ORANGE, markersize=4)
        similarity.set_ylabel("similarity of the same tokens' residuals")
        similarity.legend(
            handles=[
                line("linear CKA", BLUE, marker="o", markersize=4),
                line("mean cosine", ORANGE, marker="s", linestyle="--", markersize=4),
            ],
            frameon=False,
        )
        for axes in (moves, quotients, similarity):
            lm_steps = sorted({*joined["from_step"], *joined["lm_step"]})
            chain_axis(axes, lm_steps, setting)
        _draw_cost(cost, joined)
        frame(
            figure,
            setting,
            [],
            f"{len(joined)} moves between neighbouring checkpoints, each drawn at the step it ends "
            f"at; {joined['tokens'].iloc[0]:,} tokens. Cost: explained variance at the end of a "
            f"link less that before its training.",
        )


def _draw_moves(axes: Axes, joined: pd.DataFrame) -> None:
    """The move, and of it what all tokens share, in units of the spread."""
    spread = joined["displacement_over_spread"]
    shared, own = joined["mean_shift_share"], 1 - joined["mean_shift_share"]
    shown = {
        "whole move": (spread, "black", "-"),
        "shared by all tokens": (spread * shared**0.5, RED, "--"),
        "each token's own": (spread * own.clip(lower=0) ** 0.5, BLUE, "-."),
    }
    for values, colour, dashes in shown.values():
        axes.plot(joined["lm_step"], values, color=colour, linestyle=dashes, marker=".")
    axes.set_ylabel("move / spread of the residuals")
    axes.set_ylim(bottom=0)
    axes.legend(
        handles=[line(name, c, linestyle=s) for name, (_, c, s) in shown.items()], frameon=False
    )


def _draw_quotients(axes: Axes, joined: pd.DataFrame) -> None:
    """Per unit of parameters or learning rate, each relative to its own median."""
    handles = []
    for name, label, colour in (
        ("displacement_per_parameter", "per parameter displacement", GREEN),
        ("displacement_per_learning_rate", "per summed learning rate", ORANGE),
    ):
        values = joined[name]
        if values.notna().any():
            middle = values.median()
            axes.plot(joined["lm_step"], values / middle, "o-", color=colour, markersize=4)
            handles.append(line(f"{label} (median {middle:.3g})", colour, marker="o", markersize=4))
    if not handles:
        not_measured(axes)
        return
    plain_log(axes)
    axes.set_ylabel("median move per unit / its median")
    axes.legend(handles=handles, frameon=False, loc="lower left")


def _draw_cost(axes: Axes, joined: pd.DataFrame) -> None:
    """The warm start's cost over the move, coloured from the first to the last link."""
    points = axes.scatter(
        joined["displacement_over_spread"],
        joined["warm_start_cost"],
        c=range(len(joined)),
        cmap="cividis",
        s=32,
    )
    for _, row in joined.nlargest(3, "warm_start_cost").iterrows():
        at = row["displacement_over_spread"], row["warm_start_cost"]
        axes.annotate(
            f"step {row['lm_step']:,.0f}", at, xytext=(6, 4), textcoords="offset points", fontsize=8
        )
    axes.set_xlabel("move / spread of the residuals")
    axes.set_ylabel("explained variance to regain")
    bar = axes.figure.colorbar(points, ax=axes, pad=0.01)
    ends = joined["lm_step"].iloc[[0, -1]]
    bar.ax.set_yticks([0, len(joined) - 1], [f"step\n{step:,}" for step in ends])
