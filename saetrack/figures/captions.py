"""Legend and caption of figures whose legends are long."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from saetrack.figures.steps import Setting


def framed(
    figure: Figure,
    setting: Setting,
    handles: Sequence[Artist],
    caption: str,
    columns: int = 3,
) -> None:
    """Title, legend of some columns, and a caption that ends with the setting's own."""
    figure.legend(
        handles=list(handles),
        title=setting.title,
        title_fontsize=13,
        loc="outside upper center",
        ncols=min(columns, len(handles)),
        frameon=False,
    )
    hatched = "Hatched: collapsed checkpoints. " if len(setting.collapsed) else ""
    text = f"{caption}\n{hatched}{setting.caption}".rstrip()
    figure.supxlabel(text, x=0.01, ha="left", fontsize=9, color="#404040")
