"""What features mean over training, and the patterns of change (figure 2, right)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from saetrack.analysis.meaning.classes import (
    ABSENT,
    JUDGED,
    LABEL_COLOURS,
    LABEL_NAMES,
    LABELS,
    MEANINGFUL,
    PAPER_COLOURS,
    PAPER_NAMES,
)
from saetrack.analysis.meaning.patterns import PAPER_PATTERNS, PATTERNS
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis, shade, step_axis
from saetrack.utils.figures.style import drawn, line

SHARES_LABEL = "share of features with a label"
JUDGED_COLOURS = {label: LABEL_COLOURS[label] for label in JUDGED}


def labels_figure(
    counts: pd.DataFrame, of_paper: pd.DataFrame, setting: Setting, path: Path
) -> None:
    """Shares of meanings at each checkpoint, stacked; beside it by the paper's classes.

    Below, the features without a meaning. The counts are those of
    `saetrack.analysis.meaning.labels`: `label_counts` and `paper_counts`.
    """
    steps = sorted(counts["lm_step"].unique())
    wide = counts.pivot_table(index="lm_step", columns="label", values="features").loc[steps]
    judged = wide[list(JUDGED)]
    styles = list(zip(ABSENT, ("-", "--", ":"), strict=True))
    with drawn(path, (14, 7.5)) as figure:
        shape: Any = [["ours", "paper"], ["absent", "."]]
        panels = figure.subplot_mosaic(shape, height_ratios=[3, 1])
        draw_shares(panels["ours"], counts)
        draw_shares(panels["paper"], of_paper, PAPER_COLOURS)
        panels["ours"].set_ylabel(SHARES_LABEL)
        pad = 20 if setting.phases else None
        panels["paper"].set_title("the same features by the paper's classes", size=11, pad=pad)
        for label, style in styles:
            panels["absent"].plot(steps, wide[label], color="#404040", linestyle=style, marker=".")
        panels["absent"].set_ylabel("features\nwithout one")
        panels["absent"].set_ylim(bottom=0)
        for name, axes in panels.items():
            step_axis(axes, steps, label=name != "ours")
            axes.set_xlim(steps[0], steps[-1])
            stacked = name != "absent"
            shade(axes, steps, setting.phases, setting.collapsed, names=stacked, above=stacked)
        handles = [
            *share_handles(),
            *(line(LABEL_NAMES[label], "#404040", linestyle=style) for label, style in styles),
        ]
        _name_papers(panels["paper"])
        total = int(wide[list(LABELS)].sum(axis=1).max())
        fewest, most = int(judged.sum(axis=1).min()), int(judged.sum(axis=1).max())
        frame(
            figure,
            setting,
            handles,
            f"{total:,} features at {len(steps)} checkpoints; {fewest:,} to {most:,} of them have "
            "enough contexts for a label. The paper's noise is what is left over, features that "
            "fire on several tokens included; its concepts may be decided by the token.",
        )


def _name_papers(axes: Axes) -> None:
    """The legend of the paper's classes, below their panel."""
    handles = [Patch(color=PAPER_COLOURS[name], label=title) for name, title in PAPER_NAMES.items()]
    look: dict[str, Any] = {"ncols": len(handles), "frameon": False, "fontsize": 10}
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.14), **look)


def draw_shares(
    axes: Axes, counts: pd.DataFrame, colours: Mapping[str, str] = JUDGED_COLOURS
) -> None:
    """Of the features that have enough contexts for a label, the shares of labels, stacked.

    Args:
        axes: to draw on.
        counts: `lm_step`, `label`, `features`.
        colours: of the labels, from below.
    """
    wide = counts.pivot_table(index="lm_step", columns="label", values="features")
    judged = wide[list(colours)]
    shares = judged.div(judged.sum(axis=1).clip(lower=1), axis=0)
    axes.stackplot(
        shares.index,
        shares.T.to_numpy(),
        colors=list(colours.values()),
        linewidth=0.6,
        edgecolor="white",
    )
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def share_handles() -> list[Patch]:
    """The legend of `draw_shares`."""
    return [Patch(color=LABEL_COLOURS[label], label=LABEL_NAMES[label]) for label in JUDGED]


def patterns_figure(
    counts: pd.DataFrame, of_paper: pd.DataFrame, setting: Setting, path: Path
) -> None:
    """How many features follow which pattern, by final label; one panel per sample.

    The counts are those of `saetrack.analysis.meaning.patterns`: `pattern_counts` and
    `paper_pattern_counts`.
    """
    samples = list(dict.fromkeys(counts["sample"]))
    with drawn(path, (5.2 * len(samples) + 1.6, 5.6)) as figure:
        panels = figure.subplots(1, len(samples), sharey=True, squeeze=False)[0]
        for axes, sample in zip(panels, samples, strict=True):
            _draw_patterns(axes, counts[counts["sample"] == sample])
        labels = [label for label in LABELS if (counts["final_label"] == label).any()]
        handles = [
            Patch(color=LABEL_COLOURS[label], label=f"finally {LABEL_NAMES[label]}")
            for label in labels
        ]
        frame(
            figure,
            Setting(setting.title, setting.caption),
            handles,
            "Patterns by label and tokens at the first and the final checkpoint; above the line "
            f"those that the paper names. By the paper's classes: {_by_paper(of_paper)}.",
        )


def _by_paper(of_paper: pd.DataFrame) -> str:
    """The patterns of the first sample by the paper's classes."""
    first = of_paper[of_paper["sample"] == of_paper["sample"].iloc[0]]
    return ", ".join(f"{row.pattern} {row.share:.1%}" for row in first.itertuples())


def _draw_patterns(axes: Axes, counts: pd.DataFrame) -> None:
    wide = counts.pivot_table(index="pattern", columns="final_label", values="share")
    wide = wide.reindex(list(PATTERNS)).fillna(0)
    numbers = counts.groupby("pattern")["features"].sum().reindex(list(PATTERNS), fill_value=0)
    left = np.zeros(len(PATTERNS))
    rows = np.arange(len(PATTERNS))
    for label in LABELS:
        if label in wide:
            share = wide[label].to_numpy(float)
            axes.barh(rows, share, left=left, color=LABEL_COLOURS[label], height=0.7)
            left += share
    for row, (end, number) in enumerate(zip(left, numbers, strict=True)):
        axes.text(end + 0.008, row, f"{end:.1%} ({number:,})", va="center", fontsize=9)
    axes.axhline(len(PAPER_PATTERNS) - 0.5, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(rows, [name.replace("_", " ") for name in PATTERNS])
    axes.set_ylim(len(PATTERNS) - 0.4, -0.6)
    axes.set_xlim(0, left.max() * 1.3)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(visible=False, axis="y")
    sample = counts["sample"].iloc[0]
    axes.set_title(f"{sample}: {int(numbers.sum()):,} features", fontsize=11)
    axes.set_xlabel("share of features")


def formed_figure(
    patterns: pd.DataFrame, lm_steps: Sequence[int], setting: Setting, path: Path
) -> None:
    """Share of features that are formed by each checkpoint (Definition 5.2), by final label.

    The patterns are those of `saetrack.analysis.meaning.patterns.trace_patterns`.
    """
    steps = sorted(lm_steps)
    with drawn(path, (8.5, 5.2)) as figure:
        axes = figure.subplots()
        sizes = []
        for label in MEANINGFUL:
            formed = patterns.loc[patterns["final_label"] == label, "formed_lm_step"]
            if formed.empty:
                continue
            share = [(formed <= step).mean() for step in steps]
            axes.step(steps, share, where="post", color=LABEL_COLOURS[label], linewidth=2.2)
            sizes.append((label, len(formed)))
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylabel("formed for good by this step")
        chain_axis(axes, steps, setting)
        counts = ", ".join(f"{LABEL_NAMES[label]} {size:,}" for label, size in sizes)
        frame(
            figure,
            setting,
            [line(LABEL_NAMES[label], LABEL_COLOURS[label], linewidth=2.2) for label, _ in sizes],
            f"Features by their final label: {counts}. \nFormed: label and "
            "tokens are the final ones from there on.",
        )
