"""Figures with texts in any writing."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from saetrack.utils.figures import glyphs
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting
from saetrack.utils.figures.style import BLUE, drawn, line


@pytest.mark.parametrize(
    "text", ["犬と猫", "नमस्ते", "🙂 x", "naïve – Ω", "a\nb\u00ad", "\0 \t\x7f", "$$", "$_{$"]
)
def test_no_text_of_a_figure_lacks_a_glyph(text: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with drawn(tmp_path / "figure", (8, 6)) as figure:
            axes = figure.subplots()
            if "$" not in text:  # texts of tokens are in legends and captions
                axes.set_title(text)
                axes.annotate(text, (0.5, 0.5))
            named = [line(text, BLUE), line(f"{text} (concept)", BLUE)]
            frame(figure, Setting(text), named, f"left out: {text!r} and '$', '$_{{'")
    assert (tmp_path / "figure.png").exists() and (tmp_path / "figure.svg").exists()


def test_what_no_font_has_is_written_by_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "_signs", lambda _: frozenset(map(ord, "naïve")))
    assert glyphs.drawable("naïve 犬", ("any",)) == "naïve <U+72AC>"
    assert glyphs.drawable("plain", ("any",)) == "plain"
    assert glyphs.drawable("naïve\n\t", ("any",)) == "naïve\n<U+0009>"
