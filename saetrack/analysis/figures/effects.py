"""What features do to the loss over training, beside random directions and true ablation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saetrack.analysis.figures.quantiles import (
    draw_quantiles,
    judged_classes,
    quantile_handles,
)
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis, span
from saetrack.utils.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    drawn,
    line,
    not_measured,
    plain_log,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

RANKS = {
    "spearman": ("rank correlation", BLUE),
    "spearman_of_sizes": ("rank correlation of sizes", GREEN),
}


def effects_figure(
    effects: pd.DataFrame, calibration: pd.DataFrame, setting: Setting, path: Path
) -> None:
    """Sizes over those of random directions, signed effects, and attribution against ablation.

    The tables are `effects` and `calibration` of `saetrack.analysis.pipeline.effect_tables`.
    """
    lm_steps = sorted(effects["lm_step"].unique())
    classes = judged_classes(effects)
    with drawn(path, (13, 9)) as figure:
        sizes, signed, ranks, slopes = figure.subplots(2, 2).flat
        draw_quantiles(sizes, effects[effects["quantity"] == "size_over_random"], classes)
        plain_log(sizes)
        sizes.set_ylabel("size of the effect on the loss\n/ that of random directions")
        draw_quantiles(signed, effects[effects["quantity"] == "effect"], classes)
        signed.axhline(0, color="black", linewidth=0.8)
        signed.set_ylabel("rise of the loss without the feature\n(nats per token it fires on)")
        _draw_ranks(ranks, calibration)
        _draw_slopes(slopes, calibration)
        for axes in (sizes, signed, ranks, slopes):
            chain_axis(axes, lm_steps, setting)
        of_all = effects[effects["feature_class"] == "all"]
        frame(
            figure,
            setting,
            quantile_handles(classes),
            f"Effects of {span(of_all['features'])} features that are live at the end, by gradient "
            "times activation on held-out text, right that of each token's strongest feature by "
            "gradients on the way. Lines: medians by the class at the end. Control: "
            f"{of_all['control'].iloc[0]}. Below: "
            f"attribution against true ablation of {span(calibration['features'])} features in "
            f"{span(calibration['rows'])} rows at each link; slopes with 95 % of a bootstrap over "
            "features.",
        )


def _draw_ranks(axes: Axes, calibration: pd.DataFrame) -> None:
    """How alike the orders of rows by attribution and by ablation are."""
    axes.set_ylabel("attribution and true ablation")
    if calibration["spearman"].isna().all():
        not_measured(axes)
        return
    for name, (_, colour) in RANKS.items():
        axes.plot(calibration["lm_step"], calibration[name], "o-", color=colour, markersize=4)
    axes.set_ylim(min(0, calibration["spearman"].min()), 1.02)
    handles = [line(label, colour, marker="o", markersize=4) for label, colour in RANKS.values()]
    axes.legend(handles=handles, frameon=False, loc="lower left")


def _draw_slopes(axes: Axes, calibration: pd.DataFrame) -> None:
    """How much larger ablation is than attribution."""
    axes.set_ylabel("slope of ablation on attribution")
    if calibration["slope"].isna().all():
        not_measured(axes)
        return
    steps, slope = calibration["lm_step"], calibration["slope"]
    errors = [
        (slope - calibration["slope_low"]).clip(lower=0),
        (calibration["slope_high"] - slope).clip(lower=0),
    ]
    axes.errorbar(steps, slope, yerr=errors, fmt="o-", color=ORANGE, markersize=4, elinewidth=1)
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_ylim(min(0, 1.1 * float(slope.min())), max(2.0, 1.2 * float(slope.max())))
