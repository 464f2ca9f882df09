"""Texts that the machine's fonts can draw: tokens come in every writing there is."""

from __future__ import annotations

from functools import lru_cache

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

# Families with the writings that the first one lacks; those that the machine has are used.
FALLBACKS = (
    "Noto Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Arial Unicode MS",
)


def families() -> list[str]:
    """The style's font families, and of the fallbacks those that this machine has."""
    known = {font.name for font in font_manager.fontManager.ttflist}
    return [*mpl.rcParams["font.family"], *(name for name in FALLBACKS if name in known)]


def draw_what_there_is(figure: Figure) -> None:
    """Write signs that no font has by their code, such as `<U+3042>`, in all texts of a figure."""
    for text in figure.findobj(Text):
        text.set_text(drawable(text.get_text(), tuple(text.get_fontfamily())))


def drawable(text: str, of: tuple[str, ...]) -> str:
    """A text with the code of each sign that none of some font families has."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    signs = _signs(of)
    return "".join(
        sign if ord(sign) in signs or sign in " \n" else f"<U+{ord(sign):04X}>" for sign in text
    )


@lru_cache(maxsize=8)
def _signs(of: tuple[str, ...]) -> frozenset[int]:
    """Code points that one of the families has."""
    paths = [
        font_manager.findfont(font_manager.FontProperties(family=[name]), rebuild_if_missing=False)
        for name in of
    ]
    return frozenset(code for path in paths for code in font_manager.get_font(path).get_charmap())
