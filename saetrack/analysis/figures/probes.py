"""How well linear probes of few features read each task, beside the LM's own activations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.artist import Artist
from matplotlib.patches import Patch

from saetrack.analysis.probes.pools import KNOWN, TEXTS
from saetrack.analysis.probes.sparse_probes import FEATURES, RESIDUAL
from saetrack.analysis.probes.tables import CONTROLS
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis, span
from saetrack.utils.figures.style import BLUE, GREEN, GREY, ORANGE, band, drawn, line, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LINES = {(FEATURES, 1): BLUE, (FEATURES, 2): GREEN, (FEATURES, 5): ORANGE, (RESIDUAL, 0): "black"}
NAMES = {
    "capital": "upper or lower case",
    "digit": "digits or letters",
    "word_start": "first token of its word, or later",
    "indented": "indented line, or not",
    "code": "between backticks, or outside",
    "before_punctuation": "punctuation or a word next",
}


def probes_figure(curves: pd.DataFrame, setting: Setting, path: Path) -> None:
    """A panel for each task of tokens, and one for all of texts.

    Args:
        curves: of `saetrack.analysis.probes.tables.curve_table`.
        setting: what the chain's figures share.
        path: without suffix.
    """
    of_texts = curves["tested_on"] == TEXTS
    tasks = list(dict.fromkeys(curves.loc[~of_texts, "task"]))
    shown = {NAMES.get(task, task): curves[curves["task"].eq(task) & ~of_texts] for task in tasks}
    if of_texts.any():
        n_sets = curves.loc[of_texts, "task"].nunique()
        shown[f"texts, mean of {n_sets} sets"] = _mean_of_sets(curves[of_texts])
    lm_steps = sorted(curves["lm_step"].unique())
    columns = min(3, len(shown))
    with drawn(path, (4.6 * columns, 4.2 * -(-len(shown) // columns) + 1.6)) as figure:
        grid = panels(figure, len(shown), columns, sharey=True)
        for axes, (name, of_task) in zip(grid.flat, shown.items(), strict=False):
            _draw(axes, of_task)
            axes.set_title(name, fontsize=11, pad=18)
            chain_axis(axes, lm_steps, setting)
        for axes in grid[:, 0]:
            axes.set_ylabel("accuracy")
        frame(figure, setting, _legend(), _caption(curves))


def _draw(axes: Axes, curves: pd.DataFrame) -> None:
    """One task: means of splits, their range, and known tokens thin."""
    for tested_on, of_test in curves.groupby("tested_on"):
        main = tested_on != KNOWN
        if main:
            controls = of_test[of_test["probe"].isin(CONTROLS)].groupby("lm_step")
            low, high = controls["lowest"].min(), controls["highest"].max()
            band(axes, low.index, low, high, GREY, 0.3, hatch="...")
        for (probe, k), colour in LINES.items():
            rows = of_test[(of_test["probe"] == probe) & (of_test["k"] == k)]
            rows = rows.sort_values("lm_step")
            if main:
                band(axes, rows["lm_step"], rows["lowest"], rows["highest"], colour, 0.15)
                axes.plot(rows["lm_step"], rows["accuracy"], color=colour, marker=".", lw=1.8)
            elif k in (0, 1):
                axes.plot(rows["lm_step"], rows["accuracy"], color=colour, lw=1, ls="--")
    axes.axhline(0.5, color=GREY, lw=0.8, ls=":")
    axes.set_ylim(0.25, 1.02)


def _mean_of_sets(curves: pd.DataFrame) -> pd.DataFrame:
    """All sets of texts as one task; the range is the mean of their ranges."""
    keys = ["tested_on", "probe", "k", "lm_step"]
    return curves.groupby(keys)[["accuracy", "lowest", "highest"]].mean().reset_index()


def _legend() -> list[Artist]:
    features = {k: colour for (probe, k), colour in LINES.items() if probe == FEATURES}
    said = {1: "1 feature", 2: "2 features", 5: "5 features"}
    return [
        *(line(said[k], colour, marker=".") for k, colour in features.items()),
        line("the LM's activations at the hook", "black", marker="."),
        line("dashed: on tokens that training had", GREY, linestyle="--"),
        Patch(color=GREY, alpha=0.3, label="controls: their full range", hatch="..."),
        line("majority class", GREY, linestyle=":"),
    ]


def _caption(curves: pd.DataFrame) -> str:
    sizes = curves[curves["tested_on"] != KNOWN]
    return (
        f"Logistic regression on {span(round(n) for n in sizes['n_train'])} examples, half of "
        f"either class, tested on {span(round(n) for n in sizes['n_test'])} others, of rows and "
        "tokens that training had none of (dashed: 1 feature, and the LM, on tokens that it had). "
        "Features are chosen by difference of class means among the training examples. Bands: "
        "lowest to highest of the splits. Controls: as many random live features, and shuffled "
        "labels."
    )
