"""Patterns of change beside those of chains that show what is no doing of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting
from saetrack.utils.figures.style import BLUE, GREEN, GREY, ORANGE, RED, drawn, line, not_measured

ROLE_COLOURS = {"chain": BLUE, "replicate": GREEN, "noise": GREY, "order": ORANGE}
MARKERS = "oDs^vPX<>*"
# Of a row's height, that the markers of all chains take.
ROW_SPREAD = 0.72


def pattern_shares_figure(
    shares: pd.DataFrame, agreement: pd.DataFrame, setting: Setting, path: Path
) -> None:
    """Shares of patterns, one marker per chain; and agreement of single features' patterns.

    The tables are those of `saetrack.analysis.results.pattern_shares`.
    """
    chains = list(dict.fromkeys(shares["chain"]))
    own = shares[shares["chain"] == chains[0]].sort_values("share", ascending=False)
    any_has = shares.groupby("pattern")["features"].sum()
    patterns = [name for name in own["pattern"] if any_has[name]]
    marker = {name: MARKERS[number % len(MARKERS)] for number, name in enumerate(chains)}
    colour = {
        name: ROLE_COLOURS.get(role, RED)
        for name, role in shares.drop_duplicates("chain")[["chain", "role"]].to_numpy()
    }
    height = 2.4 + 0.55 * max(len(patterns), 4)
    with drawn(path, (13, height)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        _draw_shares(left, shares, patterns, chains, (marker, colour))
        _draw_agreement(right, agreement, (marker, colour))
        handles = [
            line(name, colour[name], marker=marker[name], linestyle="none", markersize=6)
            for name in chains
        ]
        live = shares[shares["chain"] == chains[0]]["features"].sum()
        caption = (
            f"Left: {live:,} live features of the chain; bars: 95 % for other features of these "
            "SAEs, not for other SAEs.\nRight: the feature and its match at the last link, by the "
            "feature's label at the first one; 0 is chance."
        )
        frame(figure, Setting(setting.title, setting.caption), handles, caption)


def kappa_line(agreement: pd.DataFrame) -> str:
    """What a caption says of single features, a sentence behind a blank; of a chain alone too."""
    of_replicates = agreement[agreement["role"] == "replicate"].dropna(subset="kappa")
    first = of_replicates[of_replicates["first_label"] == "all"]
    if first.empty:
        return " Of single features one chain says little: no replicate stands beside it."
    row = first.iloc[0]
    return (
        f" A single feature's pattern is that of its match in {row['other']} at kappa "
        f"{row['kappa']:.2f} ({row['kappa_low']:.2f} to {row['kappa_high']:.2f})."
    )


def _draw_shares(
    axes: Axes,
    shares: pd.DataFrame,
    patterns: list[str],
    chains: list[str],
    style: tuple[dict[str, str], dict[str, str]],
) -> None:
    marker, colour = style
    offsets = np.linspace(-ROW_SPREAD / 2, ROW_SPREAD / 2, max(2, len(chains)))
    for name, offset in zip(chains, offsets, strict=False):
        rows = shares[shares["chain"] == name].set_index("pattern").loc[patterns]
        at = np.arange(len(patterns)) + offset
        axes.hlines(at, rows["low"], rows["high"], color=colour[name], linewidth=1.4)
        axes.plot(
            rows["share"], at, marker[name], color=colour[name], markersize=5.5, linestyle="none"
        )
    for row in range(1, len(patterns)):
        axes.axhline(row - 0.5, color="#D9D9D9", linewidth=0.8)
    axes.set_yticks(range(len(patterns)), [name.replace("_", " ") for name in patterns])
    axes.set_ylim(len(patterns) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of live features")


def _draw_agreement(
    axes: Axes, agreement: pd.DataFrame, style: tuple[dict[str, str], dict[str, str]]
) -> None:
    marker, colour = style
    known = agreement.dropna(subset="kappa")
    axes.set_xlabel("agreement of patterns, Cohen's kappa")
    if known.empty:
        not_measured(axes)
        return
    labels = list(dict.fromkeys(known["first_label"]))
    others = list(dict.fromkeys(known["other"]))
    offsets = np.linspace(-0.3, 0.3, len(others)) if len(others) > 1 else [0.0]
    for name, offset in zip(others, offsets, strict=True):
        rows = known[known["other"] == name]
        at = np.array([labels.index(label) for label in rows["first_label"]]) + offset
        axes.hlines(at, rows["kappa_low"], rows["kappa_high"], color=colour[name], linewidth=1.4)
        axes.plot(
            rows["kappa"], at, marker[name], color=colour[name], markersize=5.5, linestyle="none"
        )
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    names = [label if label == "all" else f"first {label.replace('_', ' ')}" for label in labels]
    axes.set_yticks(range(len(labels)), names)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(right=1)
    axes.grid(visible=False, axis="y")
