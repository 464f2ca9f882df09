"""Figures as a reader meets them: a picture that is not blank, and text that can be searched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.image


def drawn_svg(draw: Callable[[Path], object], folder: Path) -> str:
    """Draw into a folder; the SVG, after a look at whether the PNG is blank."""
    folder.mkdir(exist_ok=True)
    path = folder / "figure"
    draw(path)
    assert matplotlib.image.imread(path.with_suffix(".png"))[..., :3].std() > 0.03, "blank"
    svg = path.with_suffix(".svg").read_text()
    assert len(svg) > 10_000
    return svg
