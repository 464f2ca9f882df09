"""A chain beside a crosscoder: quality by checkpoint and by cost, and when features emerge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from saetrack.analysis.comparison.crosscoder import BESIDE, CHAIN, CROSSCODER
from saetrack.analysis.figures.page import Section, write_page
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.step_ticks import short_step
from saetrack.utils.figures.steps import Setting, step_axis
from saetrack.utils.figures.style import BLUE, GREEN, ORANGE, RED, drawn, line, not_measured
from saetrack.utils.figures.text_tables import as_text, empty_table, number

COLOURS = {CHAIN: BLUE, BESIDE: GREEN, CROSSCODER: ORANGE}
MEASURES = {
    "explained_variance": ("explained variance", "{:.3f}"),
    "explained_variance_at_l0": ("explained variance at equal L0", "{:.3f}"),
    "ce_loss_recovered": ("CE loss recovered", "{:.3f}"),
    "l0": ("L0", "{:.1f}"),
    "dead": ("dead features", "{:.1%}"),
    "tokens": ("training tokens", "{:,.0f}"),
    "lm_tokens": ("tokens through LMs", "{:,.0f}"),
    "train_s": ("seconds of training", "{:,.0f}"),
}
MOMENT_COLOURS = {"forms": BLUE, "causes": RED}
EXPLAINED = "explained_variance_at_l0"
CAPTION = (
    "Held-out tokens. Equal L0: of each batch only the pairs that add most at the checkpoint are "
    "kept. Lines and diamonds: one for each seed. A crosscoder's feature emerges at the first of "
    "its checkpoints from which on the norm of its decoder row is above half of its largest to the "
    "end. The chain's moments are read at all of its links, emergence at the crosscoder's "
    "checkpoints alone."
)


def crosscoder_report(summary: pd.DataFrame, title: str) -> str:
    """One line per measure, one column per rival: mean over seeds, and the range of the seeds."""
    grid = empty_table(title, ["held-out, means over the checkpoints", *summary["rival"]])
    for name, (label, form) in MEASURES.items():
        grid.add_row(label, *(_range(row, name, form) for _, row in summary.iterrows()))
    return as_text(grid)


def _range(row: pd.Series[float], name: str, form: str) -> str:
    mean, low, high = (number(row[f"{name}_{of}"], form) for of in ("mean", "min", "max"))
    return mean if row["seeds"] == 1 else f"{mean} ({low} to {high})"


def crosscoder_page(
    tables: Mapping[str, pd.DataFrame], title: str, figure: Path, path: Path
) -> None:
    """The figure and the small tables on a page."""
    summary = pd.DataFrame(
        {
            label: [_range(row, name, form) for _, row in tables["summary"].iterrows()]
            for name, (label, form) in MEASURES.items()
        },
        index=tables["summary"]["rival"],
    )
    section = Section(
        "A chain beside a crosscoder",
        "One dictionary over several checkpoints, judged as the links of a chain are.",
        [figure],
        {
            "rivals, means over the checkpoints": summary.T.rename_axis("measure").reset_index(),
            "cost": tables["costs"],
            "features matched at the last checkpoint": tables["matching"],
            "agreement of emergence with the chain's moments": tables["agreement"],
            "features that emerge (–: lost at the last checkpoint)": tables["emergence_counts"],
        },
    )
    write_page(title, CAPTION, [section], path)


def crosscoder_figure(tables: Mapping[str, pd.DataFrame], title: str, path: Path) -> None:
    """Quality by checkpoint and by cost above; emergence, alone and beside moments, below."""
    with drawn(path, (13, 9)) as figure:
        grid = figure.subplots(2, 3)
        quality, steps = tables["quality"], sorted(tables["quality"]["lm_step"].unique())
        for axes, name in zip(grid[0], (EXPLAINED, "ce_loss_recovered"), strict=False):
            _draw_quality(axes, quality, name, steps)
        _draw_cost(grid[0, 2], tables)
        _draw_emergence(grid[1, 0], tables, steps)
        for axes, moment in zip(grid[1, 1:], ("forms", "causes"), strict=True):
            _draw_pairs(axes, tables, moment, steps)
        handles = [line(rival, colour, linewidth=2) for rival, colour in COLOURS.items()]
        handles += [
            line(f"chain's features: {moment}", colour, linestyle="--")
            for moment, colour in MOMENT_COLOURS.items()
        ]
        frame(figure, Setting(title), handles, CAPTION)


def _draw_quality(axes: Axes, quality: pd.DataFrame, name: str, steps: list[int]) -> None:
    for rival, colour in COLOURS.items():
        rows = quality[quality["rival"] == rival]
        for _, of_seed in rows.groupby("seed"):
            axes.plot(of_seed["lm_step"], of_seed[name], "o-", color=colour, markersize=4)
    axes.set_title(MEASURES[name][0], fontsize=11)
    step_axis(axes, steps)


def _draw_cost(axes: Axes, tables: Mapping[str, pd.DataFrame]) -> None:
    """Mean explained variance over the tokens that passed through LMs."""
    n_checkpoints = tables["quality"]["lm_step"].nunique()
    for _, rows in tables["curve"].groupby("seed"):
        means = rows.groupby("tokens")[EXPLAINED].mean()
        lm_tokens = means.index.to_numpy(float) * n_checkpoints
        axes.plot(lm_tokens, means, "o-", color=COLOURS[CROSSCODER], markersize=4)
    means = tables["quality"].groupby(["rival", "seed"])[EXPLAINED].mean()
    costs = tables["costs"].set_index(["rival", "seed"])["lm_tokens"]
    for rival in (CHAIN, BESIDE):
        axes.plot(costs[rival], means[rival].loc[costs[rival].index], "D", color=COLOURS[rival])
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("tokens through LMs")
    axes.set_title("mean explained variance at equal L0", fontsize=11)


def _draw_emergence(axes: Axes, tables: Mapping[str, pd.DataFrame], steps: list[int]) -> None:
    """Share of features that have emerged, and of the chain's that have a moment, by LM step."""
    for _, rows in tables["emergence"].groupby("seed"):
        _draw_share(axes, rows["lm_step"], color=COLOURS[CROSSCODER])
    for moment, colour in MOMENT_COLOURS.items():
        if moment in tables["moments"]:
            _draw_share(axes, tables["moments"][moment], color=colour, linestyle="--")
    axes.set_ylim(0, 1)
    axes.set_title("share of live features that have it", fontsize=11)
    step_axis(axes, steps)


def _draw_share(axes: Axes, reached: pd.Series[float], **look: str) -> None:
    values = np.sort(reached.dropna().to_numpy(float))
    shares = np.arange(1, len(values) + 1) / max(len(reached), 1)
    axes.step(values, shares, where="post", **look)  # type: ignore[arg-type]


def _draw_pairs(
    axes: Axes, tables: Mapping[str, pd.DataFrame], moment: str, steps: list[int]
) -> None:
    """How often two steps meet in similar pairs of all seeds, as the size of a dot."""
    axes.set_title(f"similar pairs: emerges, {moment}", fontsize=11)
    pairs = tables["pairs"]
    if moment not in pairs:
        not_measured(axes)
        return
    agreed = tables["agreement"]
    of = agreed[(agreed["moment"] == moment) & (agreed["min_cosine"] > 0)]
    both = pairs[pairs["score"] >= of["min_cosine"].iloc[0]].dropna(subset=["emerges", moment])
    met = both.groupby(["emerges", moment]).size()
    places = {float(step): number for number, step in enumerate(steps)}
    x = [places[float(emerges)] for emerges, _ in met.index]
    y = [float(at) for _, at in met.index]
    sizes = 500 * met.to_numpy() / max(met.max(), 1)
    axes.scatter(x, y, s=sizes, color=MOMENT_COLOURS[moment], alpha=0.6, clip_on=False)
    axes.set_xticks(range(len(steps)), [short_step(step) for step in steps])
    axes.set_xlabel("emerges (LM step)")
    axes.set_ylabel(f"{moment} (LM step)")
    lowest = min((step for step in steps if step > 0), default=1)
    axes.set_yscale("symlog", linthresh=lowest, linscale=0.5)
    axes.set_ylim(-lowest / 2, 1.5 * max(steps))
    said = [f"ρ = {row.spearman:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in of.itertuples()]
    look = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none"}
    axes.text(0.98, 0.02, "\n".join(said), transform=axes.transAxes, ha="right", bbox=look)
