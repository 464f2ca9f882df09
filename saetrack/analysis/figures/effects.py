"""What features do to the loss over training, beside random directions and true ablation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.patches import Patch

from saetrack.analysis.figures.classes import JUDGED, LABEL_COLOURS, LABEL_NAMES
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis, span
from saetrack.utils.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    band,
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
    classes = [label for label in JUDGED if (effects["feature_class"] == label).any()]
    with drawn(path, (13, 9)) as figure:
        sizes, signed, ranks, slopes = figure.subplots(2, 2).flat
        _draw(sizes, effects[effects["quantity"] == "size_over_random"], classes)
        plain_log(sizes)
        sizes.set_ylabel("size of the effect on the loss\n/ that of random directions")
        _draw(signed, effects[effects["quantity"] == "effect"], classes)
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
            [
                *(line(LABEL_NAMES[label], LABEL_COLOURS[label], marker=".") for label in classes),
                Patch(color="black", alpha=0.15, label="all features: quartiles", linewidth=0),
                Patch(color=GREY, alpha=0.35, label="control: 5 to 95 %", hatch="..."),
            ],
            f"Effects of {span(of_all['features'])} features that are live at the end, by gradient "
            "times activation on held-out text, right that of each token's strongest feature by "
            "gradients on the way. Lines: medians by the class at the end. Control: "
            f"{of_all['control'].iloc[0]}. Below: "
            f"attribution against true ablation of {span(calibration['features'])} features in "
            f"{span(calibration['rows'])} rows at each link; slopes with 95 % of a bootstrap over "
            "features.",
        )


def _draw(axes: Axes, rows: pd.DataFrame, classes: list[str]) -> None:
    """One measure."""
    of_all = rows[rows["feature_class"] == "all"].sort_values("lm_step")
    steps = of_all["lm_step"]
    band(axes, steps, of_all["control_q05"], of_all["control_q95"], GREY, 0.35, hatch="...")
    band(axes, steps, of_all["q25"], of_all["q75"], "black", 0.15)
    for label in classes:
        of_class = rows[rows["feature_class"] == label].sort_values("lm_step")
        colour = LABEL_COLOURS[label]
        axes.plot(of_class["lm_step"], of_class["q50"], color=colour, marker=".", lw=2)


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
