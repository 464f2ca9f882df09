"""How well explanations hold at each link, beside those of other features and of directions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.step_ticks import short_step
from saetrack.utils.figures.steps import Setting, chain_axis, span
from saetrack.utils.figures.style import BLUE, GREEN, GREY, ORANGE, RED, band, drawn, line, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PANELS = {
    "detection": "detection\n(balanced accuracy)",
    "fuzzing": "fuzzing\n(balanced accuracy)",
    "holds": "explanations that hold\nbeyond 95 % of the shuffled",
}
COLOURS = (BLUE, ORANGE, GREEN, RED)
CHANCE = 0.5


def explanations_figure(curves: pd.DataFrame, explainer: str, setting: Setting, path: Path) -> None:
    """Means over features with 95 % intervals, one colour per place where they were explained.

    Args:
        curves: as `saetrack.analysis.explanations.holding.curves` gives it.
        explainer: who explained and judged.
        setting: of the chain.
        path: of the figure.
    """
    lm_steps = sorted(curves["lm_step"].unique())
    places = list(dict.fromkeys(curves["place"]))
    with drawn(path, (13, 5.4)) as figure:
        for axes, (measure, text) in zip(
            panels(figure, len(PANELS), len(PANELS)).flat, PANELS.items(), strict=True
        ):
            for place, colour in zip(places, COLOURS * len(places), strict=False):
                rows = curves[(curves["measure"] == measure) & (curves["place"] == place)]
                _draw(axes, rows.sort_values("lm_step"), colour)
            axes.set_ylabel(text)
            if measure == "holds":
                axes.set_ylim(0, 1)
                axes.yaxis.set_major_formatter(PercentFormatter(1))
            else:
                axes.set_ylim(0.4, 1)
                axes.axhline(CHANCE, color="black", linewidth=0.8, linestyle=":")
            chain_axis(axes, lm_steps, setting)
        frame(
            figure,
            setting,
            [
                *(
                    line(f"explained {_named(place)}", colour, marker=".")
                    for place, colour in zip(places, COLOURS * len(places), strict=False)
                ),
                line("explanations of other features", GREY, linestyle="--"),
                *(
                    [line("random directions, in the place's colour", "black", linestyle="-.")]
                    if curves["directions"].any()
                    else []
                ),
                Patch(color="black", alpha=0.15, label="95 % interval", linewidth=0),
            ],
            _caption(curves, explainer),
        )


def _draw(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    steps = rows["lm_step"]
    band(axes, steps, rows["shuffled_low"], rows["shuffled_high"], GREY, 0.2)
    axes.plot(steps, rows["shuffled_mean"], color=GREY, linestyle="--", lw=1.5)
    if rows["directions"].any():
        band(axes, steps, rows["direction_low"], rows["direction_high"], colour, 0.1)
        axes.plot(steps, rows["direction_mean"], color=colour, linestyle="-.", lw=1.5)
    band(axes, steps, rows["low"], rows["high"], colour, 0.2)
    axes.plot(steps, rows["mean"], color=colour, marker=".", lw=2)


def _named(place: str) -> str:
    names = {"last": "at the last link", "formed": "where they are formed"}
    return names.get(place) or f"at step {short_step(int(place))}"


def _caption(curves: pd.DataFrame, explainer: str) -> str:
    of_score = curves[curves["measure"] == "score"]
    judged, directions = of_score["features"], of_score["directions"]
    control = ""
    if directions.any():
        control = (
            f" Dash-dotted: {span(directions)} random directions, explained and judged alike; each "
            "fires as often as one of the features where that is explained, or on a quarter of the "
            "tokens where no direction does."
        )
    return (
        f"Explained and judged by {explainer}; {span(judged)} features are judged at a link, on "
        "contexts from rows of text that were not shown. Detection: does the feature fire on a "
        "text? Fuzzing: are the marked tokens the right ones? Chance is 0.5 (dotted). An "
        f"explanation is made once and judged at every link.{control}"
    )
