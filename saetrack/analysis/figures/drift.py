"""Figure 5 with its controls: how feature directions drift, over all features and singly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from saetrack.analysis.drift.controls import ControlDrift, align
from saetrack.analysis.drift.measure import ALL
from saetrack.analysis.meaning.classes import ABSENT, LABEL_COLOURS, LABEL_NAMES
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis, span
from saetrack.utils.figures.style import BLUE, GREEN, GREY, ORANGE, RED, band, drawn, line, panels

PANELS = {
    "cosine_to_final": "cosine to the final direction",
    "cosine_to_first": "cosine to the first direction",
    "cosine_to_previous": "cosine to the previous link",
    "path_length": "path so far (radians)",
}
# Of noise controls in the order given, bands behind; replicates are lines.
NOISE_COLOURS = (GREY, ORANGE, "#CC79A7")
REPLICATE_COLOURS = (GREEN, RED, "#56B4E9")


def drift_figure(
    claim: pd.DataFrame, controls: Sequence[ControlDrift], setting: Setting, path: Path
) -> None:
    """Distributions over all features per link (figure 5a), before the bands of the controls.

    Median, quartiles and 5 to 95 % of the chain; the same 5 to 95 % and the median of noise
    controls, at the chain's links; medians with dotted 5 and 95 % of replicates.

    `claim` is the chain's table of `saetrack.analysis.drift.measure.quantile_table`.
    """
    claim = claim[claim["feature_class"] == ALL]
    lm_steps = claim["lm_step"].unique().tolist()
    with drawn(path, (13, 9)) as figure:
        of_controls: list[Line2D] = []
        grid = figure.subplots(2, 2, sharex=True)
        for axes, (quantity, label) in zip(grid.flat, PANELS.items(), strict=True):
            of_controls = _draw_controls(axes, claim, controls, quantity)
            draw_bands(axes, claim[claim["quantity"] == quantity], BLUE)
            axes.set_ylabel(label)
            chain_axis(axes, lm_steps, setting, label=axes in grid[1], names=axes in grid[0])
        chain = line("this chain: median, quartiles, 5–95 %", BLUE, linewidth=2.2)
        frame(figure, setting, [chain, *of_controls], f"{_sizes(claim)}\n{_beside(controls)}")


def class_drift_figure(
    claim: pd.DataFrame, controls: Sequence[ControlDrift], setting: Setting, path: Path
) -> None:
    """Cosine to the final direction, one panel per feature class; otherwise as `drift_figure`."""
    claim = claim[claim["quantity"] == "cosine_to_final"]
    lm_steps = claim["lm_step"].unique().tolist()
    most = claim.groupby("feature_class")["features"].max()
    classes = [name for name in LABEL_NAMES if most.get(name) and name not in ABSENT]
    columns = 2 if len(classes) == 4 else min(len(classes), 3)
    size = 4.6 * columns + 1, 3.8 * -(-len(classes) // columns) + 1.2
    with drawn(path, size) as figure:
        grid = panels(figure, len(classes), columns, sharex=True, sharey=True)
        of_controls: list[Line2D] = []
        for number, (axes, name) in enumerate(zip(grid.flat, classes, strict=False)):
            of_class = claim[claim["feature_class"] == name].sort_values("link")
            of_controls = _draw_controls(axes, claim, controls, "cosine_to_final")
            draw_bands(axes, of_class, BLUE)
            names, label = number < columns, number >= len(classes) - columns
            chain_axis(axes, lm_steps, setting, label=label, names=names)
            lines = max((text.count("\n") + 1 for text in setting.phases or ()), default=0)
            pad = 6 + 13 * lines * names
            axes.set_title(
                f"{LABEL_NAMES[name]}: {of_class['features'].iloc[-1]:,} features", size=11, pad=pad
            )
            axes.xaxis.set_tick_params(labelbottom=True)
        for axes in grid[:, 0]:
            axes.set_ylabel(PANELS["cosine_to_final"])
        chain = line("features of the class: median, quartiles, 5–95 %", BLUE, linewidth=2.2)
        caption = f"{_sizes(claim)}\n{_beside(controls)} They are of all features."
        frame(figure, setting, [chain, *of_controls], caption)


def feature_drift_figure(
    features: pd.DataFrame,
    claim: pd.DataFrame,
    controls: Sequence[ControlDrift],
    setting: Setting,
    path: Path,
    labels: Mapping[int, str],
) -> None:
    """Single features over links (figure 5b): to the final, the first, the previous direction.

    Excluded rows of `features` (`saetrack.analysis.drift.measure.feature_table`) leave gaps; a
    feature's colour is its label at the end.
    """
    claim = claim[claim["feature_class"] == ALL]
    lm_steps = claim["lm_step"].unique().tolist()
    noise = [control for control in controls if control.role == "noise"]
    with drawn(path, (15, 5.6)) as figure:
        of_controls: list[Line2D] = []
        for axes, quantity in zip(figure.subplots(1, 3), list(PANELS)[:3], strict=True):
            of_controls = _draw_controls(axes, claim, noise, quantity)
            for feature, rows in features.groupby("feature"):
                values = rows[quantity].mask(rows["excluded"])
                colour = LABEL_COLOURS[labels[int(str(feature))]]
                axes.plot(rows["lm_step"], values, color=colour, linewidth=1.2, alpha=0.8)
            axes.set_ylabel(PANELS[quantity])
            chain_axis(axes, lm_steps, setting)
        shown = {labels[int(feature)] for feature in features["feature"].unique()}
        handles = [
            line(name, LABEL_COLOURS[label], linewidth=1.6)
            for label, name in LABEL_NAMES.items()
            if label in shown
        ]
        gaps = " Gaps: dead." if features["excluded"].any() else ""
        frame(
            figure,
            setting,
            [*handles, *of_controls],
            f"{features['feature'].nunique()} features, one line each.{gaps} {_beside(noise)}",
        )


def draw_bands(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    """5 to 95 %, quartiles and median of one chain."""
    rows = rows.dropna(subset=["q50"]).sort_values("link")
    at = rows["lm_step"]
    band(axes, at, rows["q05"], rows["q95"], colour, 0.15)
    band(axes, at, rows["q25"], rows["q75"], colour, 0.28)
    axes.plot(at, rows["q50"], color=colour, linewidth=2.2, marker="o", markersize=3.5)


def draw_noise(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    """5 to 95 % and median of a noise control, behind the chain's."""
    at = rows["lm_step"]
    band(axes, at, rows["q05"], rows["q95"], colour, 0.25, zorder=1)
    axes.plot(at, rows["q50"], color=colour, linestyle="--", linewidth=1.5, zorder=1.5)


def _draw_controls(
    axes: Axes, claim: pd.DataFrame, controls: Sequence[ControlDrift], quantity: str
) -> list[Line2D]:
    """The controls in one panel; gives their entries in the legend."""
    colours = {"noise": cycle(NOISE_COLOURS), "replicate": cycle(REPLICATE_COLOURS)}
    handles = []
    for control in controls:
        rows = align(claim, control.quantiles)
        rows = rows[rows["quantity"] == quantity].dropna(subset=["q50"]).sort_values("link")
        colour, at = next(colours[control.role]), rows["lm_step"]
        if control.role == "noise":
            draw_noise(axes, rows, colour)
            handles.append(line(f"{control.name} (training noise)", colour, linestyle="--"))
            continue
        axes.plot(at, rows["q50"], color=colour, linestyle="-.", linewidth=1.5, zorder=3)
        for edge in ("q05", "q95"):
            axes.plot(at, rows[edge], color=colour, linestyle=":", linewidth=1, zorder=3)
        handles.append(line(f"{control.name} (replicate)", colour, linestyle="-."))
    return handles


def _sizes(claim: pd.DataFrame) -> str:
    """How many features went in and did not."""
    rows = claim[(claim["feature_class"] == ALL) & (claim["quantity"] == "cosine_to_final")]
    final = rows.sort_values("link").iloc[-1]
    return (
        f"{rows['link'].nunique()} links of {span(rows['features'])} features; excluded: "
        f"{span(rows['excluded'])} dead per link, {final['excluded']:,} of them dead at the end."
    )


def _beside(controls: Sequence[ControlDrift]) -> str:
    return (
        "Controls: medians with 5–95 %, placed by links until the end (cosine to final) or since "
        "the beginning."
        if controls
        else "No control chain given."
    )
