"""Layers or LMs in columns (appendix K): the single figures' panels on one scale."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from saetrack.analysis.drift.measure import ALL
from saetrack.analysis.figures.collapse import COLLAPSE_LABEL, collapse_handles, draw_collapse
from saetrack.analysis.figures.drift import NOISE_COLOURS, PANELS, draw_bands, draw_noise
from saetrack.analysis.figures.formation import MEASURE_NAMES, draw_progress, progress_handles
from saetrack.analysis.figures.meaning import SHARES_LABEL, draw_shares, share_handles
from saetrack.analysis.formation.phases import phase_spans
from saetrack.analysis.formation.progress_measure import MEASURE
from saetrack.analysis.meaning.classes import JUDGED
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, shade, span, step_axis
from saetrack.utils.figures.style import BLUE, drawn, line, panels

Kind = Literal["meanings", "progress", "drift", "collapse"]
Tables = Mapping[str, pd.DataFrame]

MOST_COLUMNS = 4


@dataclass(frozen=True)
class _Panel:
    """One kind of panel.

    Attributes:
        draw: a chain's, among all chains.
        label: of the y axis.
        handles: of the legend, for all chains.
        size: what a chain's panel is of, below its name.
        caption: what is drawn.
        filled: whether it covers what would be shaded behind it.
    """

    draw: Callable[[Axes, Tables, Sequence[Tables]], None]
    label: str
    handles: Callable[[Sequence[Tables]], Sequence[Artist]]
    size: Callable[[Tables], str]
    caption: str
    filled: bool = False


def side_by_side_figure(
    pages: Mapping[str, Tables], kind: Kind, setting: Setting, path: Path
) -> None:
    """One panel per chain, four in a row, on one y axis; steps and phases are each chain's own.

    `pages` are tables of each chain by its name, as `saetrack.analysis.pipeline.analyze` makes
    them; phases and collapsed checkpoints are found there.
    """
    panel = _PANELS[kind]
    columns = min(len(pages), MOST_COLUMNS)
    rows = -(-len(pages) // columns)
    size = (max(6.5, 3.9 * columns + 0.8), 3.9 * rows + 1.8)
    with drawn(path, size) as figure:
        grid = panels(figure, len(pages), columns, sharey=True)
        any_collapsed: list[int] = []
        for axes, (name, tables) in zip(grid.flat, pages.items(), strict=False):
            steps = sorted(tables["label_counts"]["lm_step"].unique())
            phases = phase_spans(tables["phases"], steps)
            collapsed = tables["collapse"].loc[tables["collapse"]["collapsed"], "lm_step"].tolist()
            any_collapsed += collapsed
            panel.draw(axes, tables, list(pages.values()))
            step_axis(axes, steps)
            if panel.filled:
                axes.set_xlim(steps[0], steps[-1])
            shade(axes, steps, phases, collapsed, above=panel.filled)
            pad = 18 if phases else None
            axes.set_title(f"{name}\n{panel.size(tables)}", fontsize=11, pad=pad)
        for axes in grid[:, 0]:
            axes.set_ylabel(panel.label)
        titled = Setting(setting.title, setting.caption, collapsed=any_collapsed)
        frame(figure, titled, panel.handles(list(pages.values())), panel.caption)


def _judged(tables: Tables) -> str:
    counts = tables["label_counts"]
    judged = counts[counts["label"].isin(JUDGED)].groupby("lm_step")["features"].sum()
    return f"{span(judged.astype(int))} features"


def _draw_progress(axes: Axes, tables: Tables, _: Sequence[Tables]) -> None:
    curves, baseline = tables["curves"], tables["baseline"]
    draw_progress(
        axes, curves[curves["measure"] == MEASURE], baseline[baseline["measure"] == MEASURE]
    )


def _progress_size(tables: Tables) -> str:
    curves = tables["curves"]
    rows = curves[(curves["measure"] == MEASURE) & (curves["chosen"] == "final")]
    return f"{rows.groupby('class')['features'].max().sum():,} features"


def _to_final(tables: Tables) -> pd.DataFrame:
    """The chain's cosines to the final direction, over all features."""
    drift = tables["drift"]
    return drift[(drift["feature_class"] == ALL) & (drift["quantity"] == "cosine_to_final")]


def _noise(tables: Tables) -> dict[str, pd.DataFrame]:
    """The same of each noise control, at the chain's links, with the columns of a chain."""
    held = tables.get("drift_beside_controls")
    if held is None:
        return {}
    held = held[(held["role"] == "noise") & (held["quantity"] == "cosine_to_final")]
    renamed = {f"control_{name}": name for name in ("q05", "q50", "q95")}
    return {
        str(name): rows.rename(columns=renamed).sort_values("link")
        for name, rows in held.groupby("control", sort=False)
    }


def _noise_colours(pages: Sequence[Tables]) -> dict[str, str]:
    """A colour for each noise control that any chain has."""
    names = dict.fromkeys(name for tables in pages for name in _noise(tables))
    return dict(zip(names, itertools.cycle(NOISE_COLOURS), strict=False))


def _draw_drift(axes: Axes, tables: Tables, pages: Sequence[Tables]) -> None:
    colours = _noise_colours(pages)
    for name, rows in _noise(tables).items():
        draw_noise(axes, rows, colours[name])
    draw_bands(axes, _to_final(tables), BLUE)


def _drift_handles(pages: Sequence[Tables]) -> list[Artist]:
    return [
        line("chain: median, quartiles, 5–95 %", BLUE, linewidth=2.2),
        *(
            line(f"{name} (training noise)", colour, linestyle="--")
            for name, colour in _noise_colours(pages).items()
        ),
    ]


def _collapse_size(tables: Tables) -> str:
    first = tables["collapse"].iloc[0]
    return f"{first['draws']:.0f} draws of {first['sample']:.0f} residuals"


_PANELS: dict[Kind, _Panel] = {
    "meanings": _Panel(
        lambda axes, tables, _: draw_shares(axes, tables["label_counts"]),
        SHARES_LABEL,
        lambda _: share_handles(),
        _judged,
        "Features that have enough contexts for a label.",
        filled=True,
    ),
    "progress": _Panel(
        _draw_progress,
        f"progress measure M\n({MEASURE_NAMES[MEASURE]})",
        lambda pages: progress_handles(pd.concat([tables["curves"] for tables in pages])),
        _progress_size,
        "Classes at the end. Lines: medians; bands and dotted lines: quartiles.",
    ),
    "drift": _Panel(
        _draw_drift,
        PANELS["cosine_to_final"],
        _drift_handles,
        lambda tables: f"{span(_to_final(tables)['features'])} features",
        "Dead features are excluded. Noise controls: medians with 5–95 %, at as many links before "
        "their own end.",
    ),
    "collapse": _Panel(
        lambda axes, tables, _: draw_collapse(axes, tables["collapse"]),
        COLLAPSE_LABEL,
        lambda _: collapse_handles(),
        _collapse_size,
        "Means and ranges over draws.",
    ),
}
