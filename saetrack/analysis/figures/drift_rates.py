"""How fast feature directions turn, per link, per LM step and per learning rate."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from saetrack.analysis.drift.rates import NONE
from saetrack.analysis.figures.drift import NOISE_COLOURS
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis
from saetrack.utils.figures.style import (
    BLUE,
    GREEN,
    band,
    drawn,
    line,
    not_measured,
    plain_log,
)

RATES = {"per_lm_step": "net angle per LM step", "per_learning_rate": "net angle per learning rate"}
UNRELATED = 0.5**0.5


def drift_rates_figure(rates: pd.DataFrame, setting: Setting, path: Path) -> None:
    """Angles per link beside controls and residuals, two net rates, and how straight turns are.

    The table is that of `saetrack.analysis.drift.rates`.
    """
    lm_steps = [int(rates["from_step"].min()), *sorted(rates["lm_step"].unique())]
    with drawn(path, (13, 9)) as figure:
        angles, per_step, per_rate, straight = figure.subplots(2, 2, sharex=True).flat
        of_controls = _draw_angles(angles, rates)
        for axes, quantity in ((per_step, "per_lm_step"), (per_rate, "per_learning_rate")):
            _draw_rates(axes, rates, quantity)
        one = rates[rates["control"] == rates["control"].iloc[0]].sort_values("link")
        straight.plot(one["lm_step"], one["straightness"], "o-", color=BLUE, markersize=3.5)
        for level in (1, UNRELATED):
            straight.axhline(level, color="black", linestyle=":", linewidth=1)
        straight.set_ylabel("angle over two links / sum of both")
        for axes in (angles, per_step, per_rate, straight):
            is_lower = axes in (per_rate, straight)
            chain_axis(axes, lm_steps, setting, label=is_lower, names=not is_lower)
        handles = [
            line("this chain: median feature", BLUE, linewidth=2.2, marker="o", markersize=3.5),
            line("residuals of features' contexts", GREEN, linestyle="-.", linewidth=1.6),
            *of_controls,
        ]
        frame(figure, setting, handles, _caption(rates))


def _draw_angles(axes: Axes, rates: pd.DataFrame) -> list[Line2D]:
    """Per link, as the schedule has it; gives the controls' entries in the legend."""
    handles = []
    for (name, rows), colour in zip(_by_control(rates), NOISE_COLOURS, strict=False):
        if name != NONE:
            axes.plot(rows["lm_step"], rows["control_angle"], "--", color=colour, linewidth=1.5)
            handles.append(line(f"{name} (training noise)", colour, linestyle="--"))
    rows = _by_control(rates)[0][1]
    axes.plot(rows["lm_step"], rows["residual_angle"], "-.", color=GREEN, linewidth=1.6)
    axes.plot(rows["lm_step"], rows["angle"], "o-", color=BLUE, linewidth=2.2, markersize=3.5)
    axes.set_ylabel("angle per link (radians)")
    axes.set_ylim(bottom=0)
    return handles


def _draw_rates(axes: Axes, rates: pd.DataFrame, quantity: str) -> None:
    """Beside each control, with intervals where there are any."""
    for (name, rows), colour in zip(_by_control(rates), NOISE_COLOURS, strict=False):
        shown = rows[rows[quantity] > 0]
        edge = BLUE if name == NONE else colour
        axes.plot(shown["lm_step"], shown[quantity], "o-", color=edge, markersize=3.5)
        if f"{quantity}_low" in rows:
            low, high = shown[f"{quantity}_low"], shown[f"{quantity}_high"]
            band(axes, shown["lm_step"], low.clip(lower=low.max() / 1e4), high, edge, 0.25)
    known = rates.loc[rates[quantity] > 0, quantity]
    if len(known):
        plain_log(axes)
        axes.set_ylim(known.min() / 2, known.max() * 2)
    else:
        not_measured(axes)
    axes.set_ylabel(f"{RATES[quantity]} (radians)")


def _by_control(rates: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [
        (str(name), rows.sort_values("link")) for name, rows in rates.groupby("control", sort=False)
    ]


def _caption(rates: pd.DataFrame) -> str:
    beside = (
        "Net: less the control of the line's colour, at as many links since the first"
        if (rates["control"] != NONE).any()
        else "No noise control given: nothing is taken away"
    )
    return (
        f"{rates['link'].nunique()} links, each at the checkpoint that it ends at. {beside}; "
        "bands: 95 % of the median over features; links that turn no more are left out. "
        "Residuals: less noise and the rotation that all share. Links lie at different distances: "
        "angles per link show the schedule too. Straightness: 1 straight on, .71 unrelated turns, "
        "whose rate depends on the distance."
    )
