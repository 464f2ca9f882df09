"""Figure 4's single features: the progress measure of some of each class, and their median."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from saetrack.analysis.figures.formation import MEASURE_NAMES
from saetrack.analysis.formation.progress_measure import MEASURE
from saetrack.analysis.meaning.classes import JUDGED, LABEL_COLOURS, LABEL_NAMES
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis
from saetrack.utils.figures.style import drawn, line

LINES = 20


def progress_of_features_figure(
    progress: pd.DataFrame,
    labels: pd.Series[str],
    sampled: Sequence[int],
    setting: Setting,
    path: Path,
) -> None:
    """One panel per class: single features as thin lines, the median of all as a thick one.

    `progress` is the table of `saetrack.analysis.formation.progress_measure`, labels are indexed by
    feature. Of `sampled`, the paper's random sample, at most 20 of each class have lines.
    """
    final = progress[progress["chosen"] == "final"]
    wide = final.pivot_table(index="feature", columns="lm_step", values=MEASURE).sort_index(axis=1)
    classes = labels.reindex(wide.index)
    shown = [label for label in JUDGED if (classes == label).any()]
    steps = [int(step) for step in wide.columns]
    generator = np.random.default_rng(0)
    size = (3.6 * len(shown) + 0.8, 5.2)
    with drawn(path, size) as figure:
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        sizes = []
        for axes, label in zip(panels, shown, strict=True):
            of_class = wide[classes == label]
            chosen = generator.permutation(of_class.index.intersection(list(sampled)))[:LINES]
            _draw_lines(axes, of_class.loc[chosen], of_class.median(), LABEL_COLOURS[label])
            axes.set_title(LABEL_NAMES[label], fontsize=11, pad=18 if setting.phases else None)
            chain_axis(axes, steps, setting)
            sizes.append(f"{LABEL_NAMES[label]} {len(chosen)} of {len(of_class):,}")
        panels[0].set_ylabel(f"progress measure M\n({MEASURE_NAMES[MEASURE]})")
        handles = [
            line("single features", "#404040", linewidth=0.8),
            line("median of all of the class", "#404040", linewidth=2.8),
        ]
        caption = f"Classes at the end; random features as lines: {', '.join(sizes)}."
        frame(figure, setting, handles, caption)


def _draw_lines(axes: Axes, features: pd.DataFrame, median: pd.Series[float], colour: str) -> None:
    """Thin lines below a thick one."""
    axes.plot(median.index, features.T, color=colour, linewidth=0.8, alpha=0.55)
    axes.plot(median.index, median, color="white", linewidth=5)
    axes.plot(median.index, median, color=colour, linewidth=2.8)
    axes.axhline(0, color="black", linewidth=0.8)
