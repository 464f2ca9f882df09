"""The page says of classes and patterns what the analysis does."""

from __future__ import annotations

import re

import pytest

from saetrack.analysis.meaning.classes import CLASSES
from saetrack.explorer.app import PAGE
from saetrack.explorer.words import FILES


@pytest.mark.parametrize("name", FILES)
def test_the_pages_words_are_those_of_the_analysis(name: str) -> None:
    text = (PAGE / name).read_text()
    assert text == FILES[name](), "run python -m saetrack.explorer.words"


def test_no_class_is_named_twice_nor_has_anothers_colour() -> None:
    for of in ("name", "title", "meaning", "colour", "dark_colour"):
        values = [getattr(one, of).lower() for one in CLASSES]
        assert len(set(values)) == len(values)
    for one in CLASSES:
        assert re.fullmatch(r"#[0-9a-fA-F]{6}", one.colour)
        assert one.meaning.endswith(".") and len(one.title) <= 25
