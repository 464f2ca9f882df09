"""Figure 4's single features: the progress measure of some of each class, and their median."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saetrack.analysis.figures.classes import JUDGED, LABEL_COLOURS, LABEL_NAMES
from saetrack.analysis.figures.formation import MEASURE_NAMES
from saetrack.analysis.formation.progress_measure import MEASURE
from saetrack.figures.captions import frame
from saetrack.figures.steps import Setting, shade, step_axis
from saetrack.figures.style import STYLE, line, save

LINES = 20


def progress_of_features_figure(
    progress: pd.DataFrame,
    labels: pd.Series[str],
    sampled: Sequence[int],
    setting: Setting,
    path: Path,
    measure: str = MEASURE,
    seed: int = 0,
) -> None:
    """One panel per class: single features as thin lines, the median of all as a thick one.

    Args:
        progress: of all checkpoints, as
            `saetrack.analysis.formation.progress_measure.measure_progress` gives it; rows with
            `chosen` of `final` are drawn.
        labels: class of each feature at the end, indexed by feature.
        sampled: features that lines may be of, such as the paper's random sample; at most 20 of
            each class are.
        setting: title, caption, shading.
        path: without suffix; `.png` and `.svg` are written.
        measure: column of `progress`.
        seed: of the choice among `sampled`.
    """
    final = progress[progress["chosen"] == "final"]
    wide = final.pivot_table(index="feature", columns="lm_step", values=measure).sort_index(axis=1)
    classes = labels.reindex(wide.index)
    shown = [label for label in JUDGED if (classes == label).any()]
    steps = [int(step) for step in wide.columns]
    generator = np.random.default_rng(seed)
    with mpl.rc_context(STYLE):
        size = (3.6 * len(shown) + 0.8, 5.2)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        sizes = []
        for axes, label in zip(panels, shown, strict=True):
            of_class = wide[classes == label]
            chosen = generator.permutation(of_class.index.intersection(list(sampled)))[:LINES]
            _draw_lines(axes, of_class.loc[chosen], of_class.median(), LABEL_COLOURS[label])
            axes.set_title(LABEL_NAMES[label], fontsize=11, pad=18 if setting.phases else None)
            step_axis(axes, steps)
            shade(axes, steps, setting.phases, setting.collapsed)
            sizes.append(f"{LABEL_NAMES[label]} {len(chosen)} of {len(of_class):,}")
        panels[0].set_ylabel(f"progress measure M\n({MEASURE_NAMES[measure]})")
        handles = [
            line("single features", "#404040", linewidth=0.8),
            line("median of all of the class", "#404040", linewidth=2.8),
        ]
        caption = f"Classes at the end; random features as lines: {', '.join(sizes)}."
        frame(figure, setting, handles, caption)
        save(figure, path)


def _draw_lines(axes: Axes, features: pd.DataFrame, median: pd.Series[float], colour: str) -> None:
    """Thin lines below a thick one."""
    axes.plot(median.index, features.T, color=colour, linewidth=0.8, alpha=0.55)
    axes.plot(median.index, median, color="white", linewidth=5)
    axes.plot(median.index, median, color=colour, linewidth=2.8)
    axes.axhline(0, color="black", linewidth=0.8)
