"""Concepts at each checkpoint beside those that there would be without any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from saetrack.analysis.meaning.classes import LABEL_COLOURS, LABEL_NAMES
from saetrack.analysis.meaning.nulls import DIRECTIONS, MIN_DIRECTIONS, NULLS, SAME_TOKENS
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis, span
from saetrack.utils.figures.style import BLUE, ORANGE, band, drawn, line

NULL_COLOURS = {DIRECTIONS: ORANGE, SAME_TOKENS: BLUE}
NULL_NAMES = {
    DIRECTIONS: "expected by random directions",
    SAME_TOKENS: "expected of random occurrences of the same tokens",
}
BY_CHANCE = {
    DIRECTIONS: "by the measure of random directions",
    SAME_TOKENS: "in random occurrences of the same tokens",
}


def nulls_figure(nulls: pd.DataFrame, setting: Setting, path: Path) -> None:
    """Left: concepts, and how many each null expects; right: the excess over each, 95 % intervals.

    The table is that of `saetrack.analysis.meaning.nulls.against_nulls`, with `lm_step`.
    """
    steps = sorted(nulls["lm_step"].unique())
    found = nulls.drop_duplicates("lm_step").sort_values("lm_step")
    colour = LABEL_COLOURS["concept"]
    with drawn(path, (12.5, 5)) as figure:
        counts, excess = figure.subplots(1, 2)
        counts.plot(found["lm_step"], found["concepts"], color=colour, linewidth=2.2, marker=".")
        excess.axhline(0, color="black", linewidth=0.8)
        for null in NULLS:
            _draw_null(counts, excess, nulls[nulls["null"] == null].sort_values("lm_step"), null)
        counts.set_ylabel("features")
        counts.set_ylim(bottom=0)
        excess.set_ylabel("concepts beyond what is expected")
        for axes in (counts, excess):
            chain_axis(axes, steps, setting)
        handles = [
            line(LABEL_NAMES["concept"], colour, linewidth=2.2, marker="."),
            *(
                line(NULL_NAMES[null], NULL_COLOURS[null], linewidth=2, marker=".", linestyle="--")
                for null in NULLS
            ),
            Patch(color="black", alpha=0.15, label="excess: 95 % interval", linewidth=0),
        ]
        frame(figure, setting, handles, _caption(nulls))


def nulls_line(nulls: pd.DataFrame) -> str:
    """How many concepts the last checkpoint has, and how many each null expects: a sentence."""
    last = nulls[nulls["lm_step"] == nulls["lm_step"].max()].set_index("null")
    concepts = last["concepts"].iloc[0]
    told = "; ".join(_expected(last.loc[null], by) for null, by in BY_CHANCE.items())
    return f"At the last link {concepts:,} features are concepts; {told}."


def _expected(row: pd.Series[Any], by: str) -> str:
    if np.isnan(row["expected"]):
        return f"how many there would be {by} cannot be told"
    low, high = f"{row['excess_low']:,.1f}", f"{row['excess_high']:,.1f}"
    return (
        f"{by} there would be {row['expected']:,.1f} (excess {row['excess']:,.1f}, 95 % interval "
        f"{low} to {high})"
    )


def _draw_null(counts: Axes, excess: Axes, rows: pd.DataFrame, null: str) -> None:
    colour = NULL_COLOURS[null]
    style: dict[str, Any] = {"color": colour, "linewidth": 2, "marker": ".", "linestyle": "--"}
    counts.plot(rows["lm_step"], rows["expected"], **style)
    excess.plot(rows["lm_step"], rows["excess"], **style)
    low, high = rows["excess_low"], rows["excess_high"]
    band(excess, rows["lm_step"], low, high, colour, 0.2)


def _caption(nulls: pd.DataFrame) -> str:
    of_directions = nulls[nulls["null"] == DIRECTIONS].sort_values("lm_step")
    last = nulls[nulls["lm_step"] == nulls["lm_step"].max()].set_index("null")
    told = of_directions["expected"].notna()
    untold = (
        f" At {(~told).sum():,} of {len(told):,} checkpoints fewer than {MIN_DIRECTIONS} qualify, "
        "and what they expect cannot be told."
        if not told.all()
        else ""
    )
    surviving = float(last.loc[SAME_TOKENS, "surviving_share"])
    of_paper = float(last.loc[SAME_TOKENS, "paper_surviving_share"])
    survives = (
        f" At the last checkpoint a concept is still one in {surviving:.0%} of draws of random "
        f"occurrences of its tokens, one of the paper's classes in {of_paper:.0%}."
        if not np.isnan(surviving)
        else ""
    )
    return (
        f"Features that likeness alone decides about: {span(of_directions['candidates'])}; "
        f"directions of which the same holds, on which the threshold of each checkpoint is "
        f"calibrated: {span(of_directions['measured'])}.{untold}{survives}"
    )
