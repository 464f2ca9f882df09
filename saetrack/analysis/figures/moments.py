"""When features are formed, converged, predictive and causal, and which of these comes first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis
from saetrack.utils.figures.style import BLUE, GREEN, GREY, ORANGE, drawn, line, not_measured

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LOOKS = {
    "forms": ("formed (meaning)", BLUE),
    "converges": ("converged (geometry)", GREY),
    "predicts": ("predictive (logits)", GREEN),
    "causes": ("causal (effect)", ORANGE),
}
# Of which features it is asked what comes first.
AMONG = {"all": "", "any": "///"}


def moments_figure(
    tables: dict[str, pd.DataFrame], lm_steps: Sequence[int], setting: Setting, path: Path
) -> None:
    """Shares of features that have each moment, which comes first, and which of two.

    Args:
        tables: `moments`, `moment_counts`, `moment_first` and `moment_order` of
            `saetrack.analysis.pipeline.effect_tables`.
        lm_steps: of the links.
        setting: of the figure.
        path: without suffix.
    """
    moments = tables["moments"]
    measured = set(moments.loc[moments["of"] == "features", "moment"])
    found = [moment for moment in LOOKS if moment in measured]
    with drawn(path, (15, 5.8)) as figure:
        shares, first, order = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
        _draw_shares(shares, moments, found, lm_steps)
        chain_axis(shares, lm_steps, setting)
        _draw_first(first, tables["moment_first"])
        _draw_order(order, tables["moment_order"], found)
        frame(
            figure,
            setting,
            [
                *(line(LOOKS[moment][0], LOOKS[moment][1], linewidth=2.2) for moment in found),
                line("control by chance", "black", linestyle="--"),
            ],
            _caption(tables, found),
        )


def _draw_shares(
    axes: Axes, moments: pd.DataFrame, found: Sequence[str], lm_steps: Sequence[int]
) -> None:
    """The share of features that have each moment behind them."""
    for of, dashes, width in (("features", "-", 2.2), ("control", "--", 1.4)):
        for moment in found:
            rows = moments[(moments["of"] == of) & (moments["moment"] == moment)]
            if len(rows):
                steps = rows["lm_step"].to_numpy(float)[:, None]
                reached = (steps <= np.array(lm_steps, float)).mean(axis=0)
                colour = LOOKS[moment][1]
                axes.plot(lm_steps, reached, dashes, color=colour, lw=width, marker=".", ms=4)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("share of features, from here on for good")


def _draw_first(axes: Axes, first: pd.DataFrame) -> None:
    """How often each comes first: of features that have all, and of those that have any."""
    axes.set_ylabel("share of features for which it comes first")
    if first.empty:
        not_measured(axes)
        return
    width = 0.38
    for side, (among, hatch) in zip((-1, 1), AMONG.items(), strict=True):
        of = first[first["among"] == among]
        at = np.arange(len(of)) + side * width / 2
        share = of["share"].to_numpy(float)
        errors = [share - of["share_low"], of["share_high"] - share]
        colours = [LOOKS[moment][1] for moment in of["moment"]]
        axes.bar(
            *(at, share, width),
            color=colours,
            yerr=errors,
            hatch=hatch,
            edgecolor="white",
            error_kw={"elinewidth": 1.2},
        )
        for place, by_chance in zip(at, of["shuffled"], strict=True):
            ends = place - 0.45 * width, place + 0.45 * width
            axes.hlines(by_chance, *ends, color="black", linestyle="--", lw=1.4)
    names = first["moment"].drop_duplicates()
    axes.set_xticks(range(len(names)), [LOOKS[name][0].replace(" (", "\n(") for name in names])
    axes.tick_params(axis="x", labelsize=9)


def _draw_order(axes: Axes, order: pd.DataFrame, found: Sequence[str]) -> None:
    """Of each two, by how much more often the one in the row comes before the one in the column."""
    size = len(found)
    lead = np.full((size, size), np.nan)
    axes.grid(visible=False)
    for row in order.dropna(subset="before").to_dict("records"):
        left, right = found.index(row["moment"]), found.index(row["other"])
        for at, share, less in (
            ((left, right), row["before"], row["after"]),
            ((right, left), row["after"], row["before"]),
        ):
            lead[at] = share - less
            colour = "white" if abs(lead[at]) > 0.6 else "black"
            said = f"{100 * share:.0f} %"
            axes.text(at[1], at[0], said, ha="center", va="center", color=colour, fontsize=10)
    axes.imshow(lead, cmap="RdBu", vmin=-1, vmax=1)
    names = [LOOKS[moment][0].partition(" (")[0] for moment in found]
    axes.set_xticks(range(size), names, rotation=30, ha="right", fontsize=9)
    axes.set_yticks(range(size), names, fontsize=9)
    axes.set_title("row before column, of features with both", fontsize=10)


def _caption(tables: dict[str, pd.DataFrame], found: Sequence[str]) -> str:
    """How many features have what."""
    counts = tables["moment_counts"]
    reached = {of: rows.set_index("moment")["reached"] for of, rows in counts.groupby("of")}
    said = []
    for moment in found:
        text = f"{LOOKS[moment][0]} {reached['features'][moment]:,.0f}"
        if moment in reached.get("control", ()):
            text += f" (control {reached['control'][moment]:,.0f})"
        said.append(text)
    first = tables["moment_first"].drop_duplicates("among").set_index("among")["features"]
    return (
        f"Of {counts['features'].max():,.0f} features that are live at the end, before the last "
        f"link and for good: {', '.join(said)}. Control: logits with another feature's next "
        "tokens; random directions with the feature's firing and norm. Middle: the "
        f"{first.get('all', 0):,.0f} features that have all, and, hatched, the "
        f"{first.get('any', 0):,.0f} that have any, where never comes last; ties are shared; bars: "
        "95 % of a bootstrap over features; dashed: if the moments of a feature had nothing to do "
        "with each other."
    )
