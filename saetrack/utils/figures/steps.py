"""What figures over a chain share: the axis of LM steps, and what is shaded behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from saetrack.utils.figures.step_ticks import StepLocator, short_step
from saetrack.utils.figures.style import GREY, RED, YELLOW

# Inches that a character of a phase's name takes.
NAME_CHARACTER = 0.075
# Of a panel's height: bars at its foot that say how sure borders of phases are.
BORDER_HEIGHT = 0.025
# First and last LM step of each named phase, in order.
Phases = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Setting:
    """What the figures of one chain share.

    Attributes:
        title: above the panels.
        caption: the last line of the caption: versions of the SAEs, thresholds.
        phases: see `Phases`.
        collapsed: LM steps of collapsed checkpoints (appendix L).
        replaced_before: the LM step before which fewer than half of the features are still those of
            the last dictionary; None where indices are not followed to the end.
        borders: LM steps at which named phases begin, each with the ends of its interval.
    """

    title: str
    caption: str = ""
    phases: Phases | None = None
    collapsed: Sequence[int] = ()
    replaced_before: float | None = None
    borders: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


def span(counts: Iterable[int]) -> str:
    """The lowest and the highest of some counts, or their common value."""
    ordered = sorted(counts)
    lowest, highest = f"{ordered[0]:,}", f"{ordered[-1]:,}"
    return lowest if lowest == highest else f"{lowest} to {highest}"


def step_axis(axes: Axes, lm_steps: Sequence[int], *, label: bool = True) -> None:
    """Scale and ticks for LM steps: logarithmic with step 0 at its left, or linear.

    Log-spaced are schedules whose last distance is ten times the first or more. The first and the
    last checkpoint have a tick.
    """
    steps = np.unique(lm_steps)
    lowest, highest = float(steps[0]), float(steps[-1])
    apart = np.diff(steps)
    is_log = bool(len(apart) and apart[-1] >= 10 * apart[0])
    if is_log:
        first = float(steps[steps > 0][0])
        axes.set_xscale("symlog", linthresh=first, linscale=0.5)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(lowest - 0.15 * first if lowest == 0 else lowest / 1.2, highest * 1.2)
    axes.xaxis.set_major_locator(StepLocator(axes, steps.tolist(), is_log=is_log))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short_step(step)))
    if label:
        axes.set_xlabel("LM training step")


def shade(
    axes: Axes,
    lm_steps: Sequence[int],
    phases: Phases | None = None,
    collapsed: Sequence[int] = (),
    *,
    names: bool = True,
    above: bool = False,
) -> None:
    """Phases as bands with their names above, collapsed checkpoints as hatched ones.

    Args:
        axes: with LM steps along x.
        lm_steps: of all checkpoints, ascending.
        phases: see `Phases`.
        collapsed: LM steps of collapsed checkpoints; each band reaches half-way to its neighbours.
        names: whether phases are named.
        above: whether what is drawn fills the panel: borders and hatching then lie over it.
    """
    for number, (start, end) in enumerate((phases or {}).values()):
        if number % 2:
            axes.axvspan(start, end, color=GREY, alpha=0.10, linewidth=0, zorder=-3)
        if number:
            colour, width, order = ("black", 1.2, 3) if above else (GREY, 0.8, -2)
            axes.axvline(start, color=colour, linewidth=width, linestyle=":", zorder=order)
    if names:
        _name(axes, phases or {})
    # A figure may be of some of the chain's steps.
    steps = sorted({float(step) for step in (*lm_steps, *collapsed)})
    for step in collapsed:
        at = steps.index(float(step))
        start = _middle(steps[max(at - 1, 0)], steps[at])
        end = _middle(steps[at], steps[min(at + 1, len(steps) - 1)])
        look: dict[str, Any] = {"facecolor": RED, "edgecolor": RED, "alpha": 0.15, "zorder": -2}
        if above:
            look = {"facecolor": "none", "edgecolor": "white", "alpha": 0.9, "zorder": 2}
            for edge in (start, end):
                axes.axvline(edge, color="white", linewidth=1, zorder=2)
        axes.axvspan(start, end, linewidth=0, hatch="///", **look)


def chain_axis(
    axes: Axes,
    lm_steps: Sequence[int],
    setting: Setting,
    *,
    label: bool = True,
    names: bool = True,
    above: bool = False,
) -> None:
    """`step_axis`, and what a setting has to shade: phases, collapses, a replaced dictionary."""
    step_axis(axes, lm_steps, label=label)
    if setting.replaced_before is not None and setting.replaced_before > min(lm_steps):
        left, _ = axes.get_xlim()
        axes.axvspan(left, setting.replaced_before, color=YELLOW, alpha=0.18, lw=0, zorder=-4)
    for _, low, high in setting.borders.values():
        axes.axvspan(low, high, ymax=BORDER_HEIGHT, color=GREY, alpha=0.5, linewidth=1)
    shade(axes, lm_steps, setting.phases, setting.collapsed, names=names, above=above)


def _name(axes: Axes, phases: Phases) -> None:
    """Names of phases above their bands, moved to the left where they would overlap."""
    to_panel = axes.transData + axes.transAxes.inverted()
    width = axes.get_window_extent().width / axes.figure.dpi
    right = 1.0
    for name, (start, end) in reversed(list(phases.items())):
        edges = np.clip([to_panel.transform((step, 0))[0] for step in (start, end)], 0, 1)
        half = max(map(len, name.splitlines())) * NAME_CHARACTER / width / 2
        centre = min(float(edges.mean()), right - half)
        right = centre - half - NAME_CHARACTER / width
        axes.text(
            *(centre, 1.01, name),
            transform=axes.transAxes,
            ha="center",
            va="bottom",
            fontsize=9,
            color="#404040",
        )


def _middle(start: float, end: float) -> float:
    """Half-way on a log axis, where 0 lies one step before 1."""
    if start >= 1:
        return float(np.sqrt(start * end))
    return float(np.sqrt((start + 1) * (end + 1)) - 1)
