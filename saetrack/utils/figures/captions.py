"""What stands around the panels of every figure: title and legend above, caption below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from saetrack.utils.figures.steps import Setting

# Characters of the caption's and the legend's type that go into an inch, on average; and the inches
# that the mark of a legend's entry takes, with what parts it from others.
CAPTION_CHARACTERS, LEGEND_CHARACTERS, MARK = 15.5, 13.5, 0.75


def frame(figure: Figure, setting: Setting, handles: Sequence[Artist], caption: str) -> None:
    """Title, the legend in as many columns as fit, and a caption that ends with the setting's own.

    Args:
        figure: whose size is set.
        setting: title, the caption's last line, and whether there is hatching to explain.
        handles: entries of the legend.
        caption: what is drawn; lines that are too long for the figure are broken.
    """
    width = figure.get_figwidth()
    # As the legend's own title: a figure's title and a legend outside would overlap.
    legend = figure.legend(
        handles=list(handles),
        title=setting.title,
        title_fontsize=13,
        loc="outside upper center",
        ncols=_columns([str(handle.get_label()) for handle in handles], width),
        frameon=False,
    )
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_parse_math(False)  # it may name tokens, such as "$$"
    hatched = " Hatched: collapsed checkpoints." if len(setting.collapsed) else ""
    told = f"{caption}{hatched}{_replaced(setting)}{_phases(setting)}\n{setting.caption}"
    lines = told.rstrip().splitlines()
    figure.supxlabel(
        "\n".join(textwrap.fill(text, int(width * CAPTION_CHARACTERS)) for text in lines),
        x=0.01,
        ha="left",
        fontsize=9,
        color="#404040",
        parse_math=False,
    )


def _replaced(setting: Setting) -> str:
    """What is tinted yellow; empty where nothing is."""
    if not setting.replaced_before:
        return ""
    return (
        f"\nYellow, before step {setting.replaced_before:,.0f}: fewer than half of the features "
        "are nearest to their own index of the last dictionary; what follows an index to the end "
        "shows there how the dictionary is replaced."
    )


def _phases(setting: Setting) -> str:
    """Where phases begin, and how sure that is."""
    begins = [
        f"the {phase} one begins at step {at:,.0f} ({low:,.0f} to {high:,.0f})"
        for phase, (at, low, high) in setting.borders.items()
    ]
    if not begins:
        return ""
    return (
        f"\nPhases, of the concepts' mean progress: {', '.join(begins)}; bars at the foot: 95 % of "
        "draws of features."
    )


def _columns(labels: Sequence[str], width: float) -> int:
    """The most columns, filled one after another and evenly, that are not wider than a figure."""
    for columns in range(len(labels), 1, -1):
        rows = -(-len(labels) // columns)
        parts = [labels[start : start + rows] for start in range(0, len(labels), rows)]
        inches = sum(MARK + max(map(len, part)) / LEGEND_CHARACTERS for part in parts)
        if len(parts) == columns and inches <= width - 0.3:
            return columns
    return 1
