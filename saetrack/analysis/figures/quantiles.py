"""Quantiles over features along a chain: medians by class, quartiles of all, and the control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.patches import Patch

from saetrack.analysis.controls.measured import ALL
from saetrack.analysis.meaning.classes import JUDGED, LABEL_COLOURS, LABEL_NAMES
from saetrack.utils.figures.style import GREY, band, line

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


def judged_classes(table: pd.DataFrame) -> list[str]:
    """The classes that have rows of their own, in their order."""
    return [label for label in JUDGED if (table["feature_class"] == label).any()]


def draw_quantiles(axes: Axes, rows: pd.DataFrame, classes: Sequence[str]) -> None:
    """One measure, of a table as `saetrack.analysis.controls.measured.quantile_table` gives it."""
    of_all = rows[rows["feature_class"] == ALL].sort_values("lm_step")
    steps = of_all["lm_step"]
    band(axes, steps, of_all["control_q05"], of_all["control_q95"], GREY, 0.35, hatch="...")
    band(axes, steps, of_all["q25"], of_all["q75"], "black", 0.15)
    for label in classes:
        of_class = rows[rows["feature_class"] == label].sort_values("lm_step")
        colour = LABEL_COLOURS[label]
        axes.plot(of_class["lm_step"], of_class["q50"], color=colour, marker=".", lw=2)


def quantile_handles(classes: Sequence[str]) -> list[Artist]:
    """What a legend says of these lines and bands."""
    return [
        *(line(LABEL_NAMES[label], LABEL_COLOURS[label], marker=".") for label in classes),
        Patch(color="black", alpha=0.15, label="all features: quartiles", linewidth=0),
        Patch(color=GREY, alpha=0.35, label="control: 5 to 95 %", hatch="..."),
    ]
