"""Is a feature of one chain one of another? Matched features, by direction and by activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from saetrack.analysis.matching.matching import NEARLY_SAME, SIMILAR
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting
from saetrack.utils.figures.style import BLUE, GREY, ORANGE, drawn, line

WAYS = {
    "decoder": ("matched by decoder cosine", BLUE, "-"),
    "activations": ("matched by correlation of activations", ORANGE, "-"),
    "random directions": ("random directions (chance)", GREY, "--"),
    "shuffled tokens": ("tokens shuffled (chance)", GREY, ":"),
}
SHARES_ABOVE = np.linspace(0, 1, 201)


def matched_features_figure(pairs: pd.DataFrame, setting: Setting, path: Path) -> None:
    """One column per other chain: how alike matched features are, and whether both ways agree.

    Above, the share of pairs with a decoder cosine of c or more. Below, the cosines of pairs that
    were matched by their activations over the correlation that matched them. Chains without a
    common stream (other layers) have no cosines: their correlations are shown above, alone.

    `pairs` is the table of `saetrack.analysis.pipeline.match_chains.match_links`, with `other`, the
    name of the other chain.
    """
    others = list(dict.fromkeys(pairs["other"]))
    with_stream = pairs.groupby("other")["decoder_cosine"].count() > 0
    rows = 2 if with_stream.any() else 1
    size = (max(8, 3.9 * len(others) + 1), 3.6 * rows + 2)
    with drawn(path, size) as figure:
        grid = figure.subplots(rows, len(others), squeeze=False)
        for column, other in zip(grid.T, others, strict=True):
            of_other = pairs[pairs["other"] == other]
            common = bool(with_stream[other])
            _draw_shares(column[0], of_other, "decoder_cosine" if common else "score")
            column[0].set_title(_heading(other, of_other), fontsize=11)
            column[0].set_xlabel("decoder cosine c" if common else "correlation of activations r")
            for axes in column[1:]:
                axes.set_visible(common)
                if common:
                    _draw_agreement(axes, of_other[of_other["by"] == "activations"])
        grid[0, 0].set_ylabel("share of matched pairs\nwith so much or more")
        ways = [way for way in WAYS if (pairs["by"] == way).any()]
        handles = [
            line(WAYS[way][0], WAYS[way][1], linestyle=WAYS[way][2], linewidth=2) for way in ways
        ]
        caption = (
            f"Each feature has one partner (one-to-one assignment). "
            f"Dotted: {SIMILAR} and {NEARLY_SAME}."
            " Mutual best: neither of a pair has a better partner."
        )
        frame(figure, Setting(setting.title, setting.caption), handles, caption)


def _heading(other: str, pairs: pd.DataFrame) -> str:
    steps = ", ".join(f"{step:,}" for step in sorted(pairs["lm_step"].unique()))
    return f"{other}\nat LM step {steps}"


def _draw_shares(axes: Axes, pairs: pd.DataFrame, column: str) -> None:
    """The share of pairs above each value, one line per way of matching."""
    texts = []
    for way, (_, colour, dashes) in WAYS.items():
        of_way = pairs[pairs["by"] == way]
        values = of_way[column].dropna()
        if values.empty:
            continue
        above = values.quantile(1 - SHARES_ABOVE)
        axes.plot(above, SHARES_ABOVE, color=colour, linestyle=dashes, linewidth=2)
        texts.append((f"{of_way['mutual_best'].mean():.0%} of {len(values):,}", colour))
    for mark in (SIMILAR, NEARLY_SAME):
        axes.axvline(mark, color="black", linestyle=":", linewidth=1)
    axes.set_xlim(min(0.0, float(pairs[column].min())), 1)
    axes.set_ylim(0, 1.02)
    lines = [("mutual best:", "#404040"), *texts]
    for number, (text, colour) in enumerate(lines):
        axes.text(
            *(0.03, 0.05 + 0.075 * (len(lines) - 1 - number), text),
            transform=axes.transAxes,
            fontsize=9,
            color=colour,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5},
        )


def _draw_agreement(axes: Axes, pairs: pd.DataFrame) -> None:
    """Decoder cosine over correlation of the pairs that were matched by the latter."""
    for mutual, colour, label in ((False, GREY, "other pairs"), (True, ORANGE, "mutual best")):
        rows = pairs[pairs["mutual_best"] == mutual]
        axes.scatter(
            rows["score"],
            rows["decoder_cosine"],
            s=9,
            alpha=float(np.clip(300 / max(len(pairs), 1), 0.1, 0.7)),
            color=colour,
            linewidth=0,
            rasterized=True,
            label=label,
        )
    axes.set_xlabel("correlation of activations")
    axes.set_ylabel("decoder cosine")
    axes.set_xlim(right=1.02)
    axes.set_ylim(top=1.02)
    agreement = pairs["score"].corr(pairs["decoder_cosine"], method="spearman")
    axes.text(0.03, 0.93, f"Spearman {agreement:.2f}", transform=axes.transAxes, fontsize=9)
    shown = axes.legend(frameon=False, fontsize=9, loc="lower right", markerscale=2)
    for handle in shown.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
