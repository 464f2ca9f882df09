"""Links beside conventionally trained SAEs: curves of training, the speed found, matched features.

The measured counterpart of the paper's figures 7 to 11 (appendix I.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from saetrack.analysis.comparison.token_ratios import PAPER_RATIO
from saetrack.analysis.matching.matching import NEARLY_SAME, SIMILAR
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, span
from saetrack.utils.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    drawn,
    line,
    not_measured,
    plain_log,
)

KINDS = {
    "link": ("link (warm start)", BLUE, "-"),
    # Dashed, so that both show where they are one: at the chain's first checkpoint.
    "conventional": ("conventional (from scratch)", RED, "--"),
}
ROWS = {
    "loss": "loss",
    "mse": "MSE",
    "explained_variance": "explained\nvariance",
    "explained_variance_at_l0": "explained variance\nat equal L0",
    "l0": "L0",
    "ce_loss_recovered": "CE loss\nrecovered",
    "nats_lost": "nats lost",
}
SHARES = ("explained_variance", "explained_variance_at_l0", "ce_loss_recovered")
SHARE_TICKS = (0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
# Enough for a smooth line; a dictionary of 10,000 features needs no more points.
SHARES_ABOVE = np.linspace(0, 1, 201)
COMPARISONS = {
    "link_conventional": ("link and conventional SAE", BLUE),
    "conventional_seeds": ("two seeds of the conventional SAE (yardstick)", ORANGE),
    "random_directions": ("SAE and random directions (chance)", GREY),
}


def curves_figure(curves: pd.DataFrame, title: str, path: Path) -> None:
    """Seven held-out metrics over training tokens: one column per compared checkpoint.

    Thin lines are seeds, thick ones their mean. A log axis has no zero: zero tokens are
    drawn in a band at its left edge. Shares are drawn on a log scale of what they lack to 1, values
    below 0 at 0.
    """
    lm_steps = sorted(curves.loc[curves["kind"] == "conventional", "lm_step"].unique())
    curves = curves[curves["lm_step"].isin(lm_steps)]
    before = curves.loc[curves["tokens"] > 0, "tokens"].min() / 4
    curves = curves.assign(at=curves["tokens"].replace(0, before))
    with drawn(path, (max(9, 2.2 + 3.3 * len(lm_steps)), 15)) as figure:
        grid = figure.subplots(len(ROWS), len(lm_steps), sharex=True, sharey="row", squeeze=False)
        for panels, (metric, label) in zip(grid, ROWS.items(), strict=True):
            panels[0].set_ylabel(label)
            for axes, lm_step in zip(panels, lm_steps, strict=True):
                _draw_curves(axes, curves[curves["lm_step"] == lm_step], metric)
                axes.axvspan(before / 1.6, before * 1.6, color=GREY, alpha=0.12, linewidth=0)
            _scale_metric(panels[0], metric, curves[metric])
        _scale_tokens(grid[-1], before, curves["tokens"].max())
        for axes, lm_step in zip(grid[0], lm_steps, strict=True):
            axes.set_title(f"LM step {lm_step:,}")
        figure.align_ylabels(grid[:, 0])
        handles = [line(label, c, linestyle=s, linewidth=2.2) for label, c, s in KINDS.values()]
        handles.append(line("its token budget", "black", linestyle=":", linewidth=1.5))
        frame(
            figure,
            Setting(title),
            handles,
            f"Held-out tokens. Thick: mean of {curves['seed'].nunique()} seeds; thin: each seed. "
            "Dotted: token budgets, in the colour of the SAE.\n"
            "Shares (explained variance, CE loss recovered) on a log scale of what they lack to 1; "
            "values below 0 at 0.\n"
            "Where both kinds coincide (the chain's first checkpoint) they are one SAE.",
        )


def _draw_curves(axes: Axes, curves: pd.DataFrame, metric: str) -> None:
    """One panel: both kinds, each seed and their mean, and where their budgets end."""
    for kind, (_, colour, dashes) in KINDS.items():
        rows = curves[curves["kind"] == kind]
        values = rows.pivot_table(index="at", columns="seed", values=metric, dropna=False)
        values = values.dropna(how="all")  # CE losses are measured at the ends alone
        if metric in SHARES:
            values = values.clip(lower=0)
        mean = values.mean(axis=1)
        axes.plot(values.iloc[1:], color=colour, linestyle=dashes, linewidth=0.8, alpha=0.45)
        point = "o" if len(mean) <= 2 else None
        axes.plot(mean.iloc[1:], color=colour, linestyle=dashes, linewidth=2.2, marker=point)
        # From the band to the first evaluation the axis is torn: a faint link, not a curve.
        axes.plot(mean.iloc[:2], color=colour, linestyle=dashes, linewidth=0.8, alpha=0.45)
        axes.plot(mean.iloc[:1], "o", color=colour, markersize=5)
        axes.axvline(rows["at"].max(), color=colour, linestyle=":", linewidth=1.5)
    if curves[metric].isna().all():
        not_measured(axes)


def _scale_metric(axes: Axes, metric: str, values: pd.Series[float]) -> None:
    """The scale of a row of panels, which share it."""
    if metric not in SHARES:
        plain_log(axes)
        return

    def lacking(share: Any) -> Any:
        return -np.log10(1 - np.minimum(share, 0.9999))

    axes.set_yscale("function", functions=(lacking, lambda decades: 1 - 10.0**-decades))
    top = lacking(values.max()) if values.notna().any() else 1.0
    axes.set_ylim(-0.06, 1 - 10 ** (-top - 0.08))
    axes.yaxis.set_major_locator(
        FixedLocator([tick for tick in SHARE_TICKS if lacking(tick) <= top])
    )
    axes.yaxis.set_major_formatter("{x:g}")


def _scale_tokens(bottom: Sequence[Axes], before: float, most: int) -> None:
    """The shared x axis: powers of ten, and zero tokens at its left edge."""
    powers = 10.0 ** np.arange(np.ceil(np.log10(before * 2.5)), np.log10(most) + 0.01)
    ticks = [before, *powers]
    for axes in bottom:
        axes.set_xscale("log")
        axes.set_xlim(before / 1.6, most * 1.3)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FixedFormatter(["before\ntraining", *map(_short, powers)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("training tokens of the SAE")


def speed_figure(pairs: pd.DataFrame, title: str, path: Path) -> None:
    """Tokens for the same quality: the ratio of link to conventional SAE, asked both ways.

    Left, the tokens a link needs for the conventional SAE's final quality over that SAE's budget.
    Right, the link's budget over the tokens the conventional SAE needs for the link's final
    quality. Who never gets there is drawn open, at the ratio of the budgets, with an arrow to the
    side on which the true ratio lies. The paper's 1/20 is dashed.
    """
    held_against = pairs[~pairs["own_yardstick"]]
    left_out = sorted(pairs.loc[pairs["own_yardstick"], "lm_step"].unique())
    with drawn(path, (11, 5.6)) as figure:
        grid = figure.subplots(1, 2, sharey=True)
        _draw_ratios(grid[0], held_against, "token_ratio", 1)
        grid[0].set_title(
            "link's tokens to the conventional SAE's final quality\n"
            "as a share of the conventional budget",
            fontsize=11,
        )
        _draw_ratios(grid[1], held_against, "reverse_token_ratio", -1)
        grid[1].set_title(
            "link's budget as a share of\n"
            "the conventional SAE's tokens to the link's final quality",
            fontsize=11,
        )
        grid[0].set_ylabel("ratio of tokens (less: the link is faster)")
        dot = {"marker": "o", "linestyle": "", "markersize": 8}
        handles = [
            line("one seed", BLUE, **dot),
            line(
                "never reached: at the ratio of the budgets", BLUE, markerfacecolor="white", **dot
            ),
            line("reached before training: ratio 0", BLUE, **{**dot, "marker": "v"}),
            line("the paper's 1/20", "black", linestyle="--"),
        ]
        steps = ", ".join(f"{lm_step:,}" for lm_step in left_out) or "none"
        frame(
            figure,
            Setting(title),
            handles,
            f"{held_against['seed'].nunique()} seeds at {held_against['lm_step'].nunique()} "
            "checkpoints. Quality: explained variance at equal L0, held-out tokens.\n"
            f"LM steps left out, because link and conventional SAE are the same: {steps}.",
        )


def _draw_ratios(axes: Axes, pairs: pd.DataFrame, column: str, side: int) -> None:
    """One panel of ratios; `side` is where ratios of those that never get there lie: 1 above."""
    lm_steps, seeds = sorted(pairs["lm_step"].unique()), sorted(pairs["seed"].unique())
    for _, pair in pairs.iterrows():
        aside = (seeds.index(pair["seed"]) - (len(seeds) - 1) / 2) * 0.16
        x, ratio = lm_steps.index(pair["lm_step"]) + aside, pair[column]
        if np.isnan(ratio):
            budget = pair["budget_ratio"]
            axes.annotate(
                "",
                (x, budget * 1.5**side),
                (x, budget),
                arrowprops={"arrowstyle": "->", "color": BLUE, "shrinkA": 5, "shrinkB": 0},
            )
            axes.plot(x, budget, "o", color=BLUE, markerfacecolor="white", markersize=8)
        elif ratio == 0:
            axes.plot(x, 0.02, "v", color=BLUE, markersize=8, transform=axes.get_xaxis_transform())
        else:
            axes.plot(x, ratio, "o", color=BLUE, markersize=8)
    axes.axhline(PAPER_RATIO, color="black", linestyle="--")
    plain_log(axes)
    ratios = pairs[["token_ratio", "reverse_token_ratio", "budget_ratio"]].to_numpy(float)
    shown = [PAPER_RATIO, *ratios[np.isfinite(ratios) & (ratios > 0)]]
    axes.set_ylim(min(shown) / 2, max(shown) * 2)
    axes.set_xlim(-0.5, max(len(lm_steps), 1) - 0.5)
    axes.set_xticks(range(len(lm_steps)), [f"{lm_step:,}" for lm_step in lm_steps])
    axes.set_xlabel("LM step")


def matching_figure(cosines: pd.DataFrame, matchings: pd.DataFrame, title: str, path: Path) -> None:
    """Share of matched features above a cosine, per checkpoint: links, yardstick and chance.

    The tables are those of `saetrack.analysis.matching.decoder_matching`.
    """
    lm_steps = sorted(cosines["lm_step"].unique())
    with drawn(path, (max(11, 2 + 3.6 * len(lm_steps)), 5.2)) as figure:
        grid = figure.subplots(1, len(lm_steps), sharex=True, sharey=True, squeeze=False)[0]
        for axes, lm_step in zip(grid, lm_steps, strict=True):
            for comparison, (_, colour) in COMPARISONS.items():
                here = cosines["lm_step"] == lm_step
                rows = cosines[here & (cosines["comparison"] == comparison)]
                for _, pairing in rows.groupby("seeds"):
                    above = pairing["cosine"].quantile(1 - SHARES_ABOVE)
                    axes.plot(above, SHARES_ABOVE, color=colour, linewidth=1.6)
            for mark in (SIMILAR, NEARLY_SAME):
                axes.axvline(mark, color="black", linestyle=":", linewidth=1)
            axes.set_title(f"LM step {lm_step:,}")
            axes.set_xlabel("decoder cosine c")
        grid[0].set_ylabel("share of matched pairs\nwith cosine of c or more")
        dead = matchings[["left_dead", "right_dead"]].to_numpy().ravel()
        links = matchings.loc[matchings["comparison"] == "link_conventional", "lm_step"]
        left_out = ", ".join(f"{step:,}" for step in lm_steps if step not in set(links)) or "none"
        frame(
            figure,
            Setting(title),
            [line(label, colour, linewidth=1.6) for label, colour in COMPARISONS.values()],
            f"{len(matchings)} assignments, one line each, of {span(matchings['pairs'])} "
            f"pairs of live features. Left out: {span(dead)} features an SAE that fire on no "
            "held-out token.\n"
            "Dotted: 0.7 and 0.9. LM steps without a link to match, because there it is the "
            f"conventional SAE: {left_out}.",
        )


def _short(tokens: float) -> str:
    """10000 as 10k."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:g}{letter}"
    return f"{tokens:g}"
