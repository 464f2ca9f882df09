"""From where on feature i of a link is feature i of the last one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from saetrack.analysis.drift.own_index import HALF
from saetrack.analysis.figures.drift import NOISE_COLOURS
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis
from saetrack.utils.figures.style import BLUE, GREEN, drawn, line


def own_index_figure(table: pd.DataFrame, setting: Setting, path: Path) -> None:
    """Shares of features that are nearest to their own index, and the cosines behind them.

    The table is that of `saetrack.analysis.drift.own_index`, of the chain and of noise controls.
    """
    chain = table[table["chain"] == "chain"].sort_values("link")
    lm_steps = chain["lm_step"].tolist()
    with drawn(path, (13, 5.4)) as figure:
        shares, cosines = figure.subplots(1, 2)
        handles = [
            line("in the last dictionary", BLUE, marker="o", markersize=3.5),
            line("in the dictionary before", GREEN, linestyle="-.", linewidth=1.6),
        ]
        for (name, rows), colour in zip(_controls(table), NOISE_COLOURS, strict=False):
            _draw_control(shares, rows, chain, colour)
            handles.append(line(f"{name}: in its last one", colour, linestyle="--"))
        shares.plot(lm_steps, chain["in_previous"], "-.", color=GREEN, linewidth=1.6)
        shares.plot(lm_steps, chain["in_last"], "o-", color=BLUE, markersize=3.5)
        shares.axhline(HALF, color="black", linestyle=":", linewidth=1)
        shares.set_ylabel("features nearest to their own index")
        shares.set_ylim(0, 1.03)
        cosines.plot(lm_steps, chain["own_cosine"], "o-", color=BLUE, markersize=3.5)
        cosines.plot(lm_steps, chain["best_cosine"], color=BLUE, linestyle=":")
        cosines.axhline(chain["chance"].iloc[0], color="black", linestyle="--", linewidth=1)
        cosines.set_ylabel("median cosine with rows of the last dictionary")
        cosines.set_ylim(0, 1.03)
        cosines.legend(
            handles=[
                line("own index", BLUE, marker="o", markersize=3.5),
                line("nearest of all", BLUE, linestyle=":"),
                line("random directions: nearest of all", "black", linestyle="--"),
            ],
            frameon=False,
            loc="upper left",
        )
        for axes in (shares, cosines):
            chain_axis(axes, lm_steps, setting)
        frame(
            figure,
            setting,
            handles,
            f"{len(chain)} links; features that are alive there and at the end. Controls: at as "
            "many links before their own end.",
        )


def _controls(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    controls = table[table["chain"] != "chain"]
    return [(str(name), rows) for name, rows in controls.groupby("chain", sort=False)]


def _draw_control(axes: Axes, rows: pd.DataFrame, chain: pd.DataFrame, colour: str) -> None:
    """At the chain's links that are as far from the end."""
    shared = min(len(rows), len(chain))
    shown = rows.sort_values("link")["in_last"].tail(shared)
    axes.plot(chain["lm_step"].tail(shared), shown, "--", color=colour, linewidth=1.5)
