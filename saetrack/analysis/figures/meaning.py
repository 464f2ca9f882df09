"""What features mean over training, and the patterns of change (figure 2, right)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from saetrack.analysis.figures.classes import JUDGED, LABEL_COLOURS, LABEL_NAMES
from saetrack.analysis.meaning.labels import ABSENT, LABELS, MEANINGFUL
from saetrack.analysis.meaning.patterns import PAPER_PATTERNS, PATTERNS
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis, shade, step_axis
from saetrack.utils.figures.style import drawn, line

SHARES_LABEL = "share of features with a label"


def labels_figure(counts: pd.DataFrame, setting: Setting, path: Path) -> None:
    """Shares of meanings at each checkpoint, stacked; below, the features without one.

    The counts are those of `saetrack.analysis.meaning.labels.label_counts`.
    """
    steps = sorted(counts["lm_step"].unique())
    wide = counts.pivot_table(index="lm_step", columns="label", values="features").loc[steps]
    judged = wide[list(JUDGED)]
    with drawn(path, (9.5, 7)) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        draw_shares(top, counts)
        top.set_ylabel(SHARES_LABEL)
        for label, style in zip(ABSENT, ("-", "--", ":"), strict=True):
            bottom.plot(steps, wide[label], color="#404040", linestyle=style, marker=".")
        bottom.set_ylabel("features\nwithout one")
        bottom.set_ylim(bottom=0)
        for axes in (top, bottom):
            step_axis(axes, steps, label=axes is bottom)
            axes.set_xlim(steps[0], steps[-1])
            stacked = axes is top
            shade(axes, steps, setting.phases, setting.collapsed, names=stacked, above=stacked)
        handles = [
            *share_handles(),
            *(
                line(LABEL_NAMES[label], "#404040", linestyle=style)
                for label, style in zip(ABSENT, ("-", "--", ":"), strict=True)
            ),
        ]
        total = int(wide[list(LABELS)].sum(axis=1).max())
        fewest, most = int(judged.sum(axis=1).min()), int(judged.sum(axis=1).max())
        frame(
            figure,
            setting,
            handles,
            f"{total:,} features at {len(steps)} checkpoints; {fewest:,} to {most:,} of them have "
            "enough contexts for a label.",
        )


def draw_shares(axes: Axes, counts: pd.DataFrame) -> None:
    """Of the features that have enough contexts for a label, the shares of labels, stacked."""
    judged = counts.pivot_table(index="lm_step", columns="label", values="features")[list(JUDGED)]
    shares = judged.div(judged.sum(axis=1).clip(lower=1), axis=0)
    colours = [LABEL_COLOURS[label] for label in JUDGED]
    axes.stackplot(
        shares.index, shares.T.to_numpy(), colors=colours, linewidth=0.6, edgecolor="white"
    )
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def share_handles() -> list[Patch]:
    """The legend of `draw_shares`."""
    return [Patch(color=LABEL_COLOURS[label], label=LABEL_NAMES[label]) for label in JUDGED]


def patterns_figure(counts: pd.DataFrame, setting: Setting, path: Path) -> None:
    """How many features follow which pattern, by final label; one panel per sample.

    The counts are those of `saetrack.analysis.meaning.patterns.pattern_counts`.
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
            "those that the paper names.",
        )


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
