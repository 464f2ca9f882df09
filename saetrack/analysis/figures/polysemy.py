"""Appendix G: token features that lose senses of their token; and what the token alone decides."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from saetrack.analysis.meaning.classes import JUDGED, LABEL_COLOURS, LABEL_NAMES
from saetrack.analysis.meaning.determinism import TOKEN_DETERMINISM
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis
from saetrack.utils.figures.style import BLUE, GREEN, ORANGE, band, drawn, line

ALL_COLOUR, LOST_COLOUR, GAINED_COLOUR = BLUE, ORANGE, GREEN
# A token's mean may mislead by far; how far says nothing.
LEAST_SHOWN = -0.5


def polysemy_figure(
    statistics: pd.DataFrame, polysemy: pd.DataFrame, setting: Setting, path: Path
) -> None:
    """Recall and coherence over training of features that stay with their token; determinism.

    The tables are those of `saetrack.analysis.pipeline.meaning_tables.polysemy_tables`.
    """
    lost, gained = (
        polysemy.loc[polysemy[f"{how}_senses"], "feature"] for how in ("lost", "gained")
    )
    groups = {
        f"features that maintain a token ({len(polysemy):,})": (polysemy["feature"], ALL_COLOUR),
        f"of them, those that lost senses ({len(lost):,})": (lost, LOST_COLOUR),
        f"control: the same with time reversed ({len(gained):,})": (gained, GAINED_COLOUR),
    }
    final = statistics[statistics["lm_step"] == statistics["lm_step"].max()]
    final = final.dropna(subset=["determinism"])
    steps = sorted(statistics["lm_step"].unique())
    with drawn(path, (15, 5.4)) as figure:
        recall, coherence, determinism = figure.subplots(1, 3)
        for axes, column, label in (
            (recall, "recall", "share of the token's occurrences\nthat the feature fires on"),
            (coherence, "coherence_other", "similarity of contexts\nwithout their own token"),
        ):
            for features, colour in groups.values():
                _draw_group(axes, statistics[statistics["feature"].isin(features)], column, colour)
            axes.set_ylabel(label)
            chain_axis(axes, steps, setting)
        recall.set_ylim(0, 1.02)
        _draw_determinism(determinism, final)
        handles = [line(name, colour, linewidth=2.2) for name, (_, colour) in groups.items()]
        frame(figure, setting, handles, _caption(final))


def _draw_group(axes: Axes, rows: pd.DataFrame, column: str, colour: str) -> None:
    """Median and quartiles over features at each LM step."""
    of_step = rows.groupby("lm_step")[column]
    middle, low, high = (of_step.quantile(share) for share in (0.5, 0.25, 0.75))
    band(axes, middle.index, low, high, colour, 0.2)
    axes.plot(middle.index, middle, color=colour, linewidth=2.2, marker=".")


def _draw_determinism(axes: Axes, final: pd.DataFrame) -> None:
    """Of each class, the share of features that the token decides at most so far."""
    for label in _classes(final):
        of_class = final.loc[final["label"] == label, "determinism"]
        axes.ecdf(of_class, color=LABEL_COLOURS[label], linewidth=2.2, label=LABEL_NAMES[label])
    axes.axvline(TOKEN_DETERMINISM, color="black", linestyle=":", linewidth=1)
    axes.set_xlim(min(0.0, max(LEAST_SHOWN, float(final["determinism"].min()))), 1)
    axes.set_xlabel("share of the activation's variance\nthat the token explains (η²)")
    axes.set_ylabel("share of features up to there")
    axes.legend(frameon=False, fontsize=9)


def _classes(final: pd.DataFrame) -> list[str]:
    return [label for label in JUDGED if (final["label"] == label).any()]


def _caption(final: pd.DataFrame) -> str:
    sizes = ", ".join(
        f"{LABEL_NAMES[label]} {(final['label'] == label).sum():,}" for label in _classes(final)
    )
    hidden = int((final["determinism"] < LEAST_SHOWN).sum())
    beyond = f" {hidden:,} features lie below {LEAST_SHOWN}." if hidden else ""
    return (
        "Left and middle: medians and quartiles. Right, at the last checkpoint, features by their "
        f"class there: {sizes}. Dotted: above {TOKEN_DETERMINISM:g} the token determines when it "
        f"fires.{beyond}"
    )
