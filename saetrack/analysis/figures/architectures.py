"""Kinds of SAE side by side: each measure by kind, and what is kept along the chain."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from saetrack.analysis.comparison.architectures import RATIO
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, step_axis
from saetrack.utils.figures.style import BLUE, GREEN, GREY, ORANGE, RED, drawn, line, panels
from saetrack.utils.figures.text_tables import as_text, empty_table, number

COLOURS = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9", "black")
# Of each measure: its name, the form of its numbers; and beside which control it is drawn.
MEASURES = {
    "explained_variance": ("explained variance", "{:.3f}"),
    "explained_variance_at_l0": ("explained variance at equal L0", "{:.3f}"),
    "ce_loss_recovered": ("CE loss recovered", "{:.3f}"),
    "nats_lost": ("nats lost", "{:.3f}"),
    "dead": ("dead features", "{:.1%}"),
    "l0": ("L0", "{:.1f}"),
    RATIO: ("tokens to equal quality, of the first kind's", "{:.2f}"),
    "angle_rad": ("decoder rows turn per link (rad)", "{:.2f}"),
    "frozen_angle_rad": ("the same, LM frozen", "{:.2f}"),
    "keeps_index": ("features that keep their index, per link", "{:.1%}"),
    "frozen_keeps_index": ("the same, LM frozen", "{:.1%}"),
    "ends_keeps_index": ("from first to last link", "{:.1%}"),
    "frozen_ends_keeps_index": ("the same, LM frozen", "{:.1%}"),
    "keeps_meaning": ("features that keep their meaning, per link", "{:.1%}"),
    "shuffled_keeps_meaning": ("the same, another feature (chance)", "{:.1%}"),
    "frozen_keeps_meaning": ("the same, LM frozen", "{:.1%}"),
    "ends_keeps_meaning": ("from first to last link", "{:.1%}"),
    "frozen_ends_keeps_meaning": ("the same, LM frozen", "{:.1%}"),
}
DRAWN = {
    "explained_variance": "explained variance",
    "ce_loss_recovered": "CE loss recovered",
    "nats_lost": "nats lost",
    "dead": "share of dead features",
    RATIO: "tokens to equal quality\n(share of the first kind's)",
    "angle_rad": "decoder rows turn\nper link (rad)",
    "keeps_meaning": "share that keeps its meaning\nper link",
    "ends_keeps_index": "share that keeps its index\nfrom first to last link",
    "ends_keeps_meaning": "share that keeps its meaning\nfrom first to last link",
}
ALONG = {
    "explained_variance": "explained variance",
    "keeps_index": "share that keeps its index\nfrom the link before",
    "keeps_meaning": "share that keeps its meaning\nfrom the link before",
}


def architectures_report(summary: pd.DataFrame, title: str) -> str:
    """One line per measure, one column per kind: mean over seeds, and the range of the seeds."""
    grid = empty_table(title, ["held-out, links with a parent", *summary["architecture"]])
    for name, (label, form) in MEASURES.items():
        if f"{name}_mean" in summary:
            grid.add_row(label, *(_range(row, name, form) for _, row in summary.iterrows()))
    return as_text(grid)


def _range(row: pd.Series[float], name: str, form: str) -> str:
    mean, low, high = (number(row[f"{name}_{of}"], form) for of in ("mean", "min", "max"))
    return f"{mean} ({low} to {high})"


def architectures_figure(seeds: pd.DataFrame, title: str, path: Path) -> None:
    """A panel per measure: each kind's seeds as points, its mean as a line, its control open."""
    kinds = list(dict.fromkeys(seeds["architecture"]))
    with drawn(path, (14, 7.6)) as figure:
        grid = panels(figure, len(DRAWN), 4, sharex=True)
        for axes, name in zip(grid.flat, DRAWN, strict=False):
            _draw_measure(axes, seeds, kinds, name)
        dot = {"marker": "o", "linestyle": ""}
        handles = [
            line("one seed", GREY, **dot),
            line("mean", GREY, linewidth=2),
            line("control: LM frozen at its last checkpoint", GREY, markerfacecolor="white", **dot),
        ]
        frame(
            figure,
            Setting(title),
            handles,
            "Held-out tokens, means over the links that have a parent. A feature keeps its index "
            "if of all decoder rows of the later link its own is the nearest, and its meaning if "
            "its activations on the same tokens correlate by 0.7 or more.",
        )


def _draw_measure(axes: Axes, seeds: pd.DataFrame, kinds: list[str], name: str) -> None:
    for at, kind in enumerate(kinds):
        rows, colour = seeds[seeds["architecture"] == kind], COLOURS[at % len(COLOURS)]
        for column, face in ((name, colour), (f"frozen_{name}", "white")):
            if column in rows:
                mean = rows[column].mean()
                axes.plot([at - 0.3, at + 0.3], [mean, mean], color=colour, linewidth=2)
                axes.plot([at] * len(rows), rows[column], "o", color=colour, markerfacecolor=face)
    axes.set_xticks(range(len(kinds)), kinds, rotation=30, ha="right")
    axes.set_title(DRAWN[name], fontsize=11)


def along_chain_figure(links: pd.DataFrame, kept: pd.DataFrame, title: str, path: Path) -> None:
    """Explained variance, and what is kept from the link before, over the LM's training."""
    kinds = list(dict.fromkeys(links["architecture"]))
    kept = kept[(kept["chain"] == "chain") & (kept["span"] == "next")]
    steps = sorted(links["lm_step"].unique())
    with drawn(path, (14, 5.2)) as figure:
        for axes, (name, label) in zip(figure.subplots(1, len(ALONG)), ALONG.items(), strict=True):
            table = links if name in links else kept
            for at, kind in enumerate(kinds):
                rows = table[table["architecture"] == kind]
                values = rows.pivot_table(index="lm_step", columns="seed", values=name)
                colour = COLOURS[at % len(COLOURS)]
                axes.plot(values, color=colour, linewidth=0.7, alpha=0.4)
                axes.plot(values.mean(axis=1), color=colour, linewidth=2)
            axes.set_ylabel(label)
            step_axis(axes, steps)
        handles: list[Artist] = [
            line(kind, COLOURS[at % len(COLOURS)], linewidth=2) for at, kind in enumerate(kinds)
        ]
        caption = "Thick: means over seeds; thin: each seed. Held-out tokens."
        frame(figure, Setting(title), handles, caption)
