"""Ticks at LM steps: as many as have room, with the first and the last checkpoint among them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import Locator, MaxNLocator

# Of so few checkpoints each is a candidate; of more, round steps are.
FEW_CHECKPOINTS = 10
# Of the type's size: the width of a character, and the room between two labels.
CHARACTER, ROOM = 0.62, 0.6


def short_step(step: float) -> str:
    """143000 as 143k."""
    return f"{step / 1000:g}k" if step >= 10_000 else f"{step:,.0f}"


class StepLocator(Locator):
    """Ticks at LM steps whose labels do not overlap, however wide the panel is."""

    def __init__(self, axes: Axes, lm_steps: Sequence[int], *, is_log: bool) -> None:
        """Of these checkpoints.

        Args:
            axes: with LM steps along x.
            lm_steps: ascending, each once.
            is_log: whether the axis is logarithmic.
        """
        self._axes = axes
        self._first, self._last = float(lm_steps[0]), float(lm_steps[-1])
        self._candidates = _candidates(np.asarray(lm_steps, float), is_log=is_log)

    def __call__(self) -> list[float]:
        """Those of the panel as it is drawn now."""
        if self._first == self._last:
            return [self._last]
        self._axes.get_xlim()  # limits that follow what is drawn are found out only now
        found = [self._ticks(candidates) for candidates in self._candidates]
        return next((ticks for ticks in found if len(ticks) > 2), max(found, key=len))

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """See `matplotlib.ticker.Locator`: of any range the same."""
        del vmin, vmax
        return self()

    def _ticks(self, candidates: Sequence[float]) -> list[float]:
        """The ends, and as many candidates between them as have room: each, or each second one."""
        inner = [step for step in candidates if self._are_apart([self._first, step, self._last])]
        for stride in range(1, len(inner) + 2):
            # Counted from the end: of checkpoints that double the last is the roundest.
            ticks = [self._first, *inner[::-1][::stride][::-1], self._last]
            if self._are_apart(ticks):
                return ticks
        return [self._last]

    def _are_apart(self, ticks: Sequence[float]) -> bool:
        """Whether labels at these steps, ascending, leave room between them."""
        transform = self._axes.get_xaxis_transform()
        places = transform.transform([(step, 0.0) for step in ticks])[:, 0]
        points = FontProperties(size=mpl.rcParams["xtick.labelsize"]).get_size_in_points()
        size = points * self._axes.figure.dpi / 72
        halves = [CHARACTER * size * len(short_step(step)) / 2 for step in ticks]
        ends = zip(places, halves, strict=True)
        return all(
            right - left >= before + after + ROOM * size
            for (left, before), (right, after) in pairwise(ends)
        )


def _candidates(lm_steps: np.ndarray, *, is_log: bool) -> list[list[float]]:
    """Steps between the first and the last at which ticks are sensible, what is best first."""
    first, last = lm_steps[0], lm_steps[-1]
    found = [lm_steps]
    if is_log:
        powers = 10.0 ** np.arange(0, np.log10(last))
        found.append(powers[powers >= lm_steps[lm_steps > 0][0]])
    else:
        found.append(np.asarray(MaxNLocator(6, integer=True).tick_values(first, last)))
    between = [[float(step) for step in steps if first < step < last] for steps in found]
    are_round = len(lm_steps) > FEW_CHECKPOINTS and len(between[1]) > 1
    return between[::-1] if are_round else between
