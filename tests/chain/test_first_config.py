"""A first config names the text so that YAML reads back what was meant."""

from __future__ import annotations

import pytest
import yaml

from saetrack.chain.config import load_config
from saetrack.chain.first_config import first_config
from saetrack.lm.checkpoints.folder_layout import find_lm


@pytest.mark.parametrize(
    ("text", "text_field"),
    [
        ("mini", "text"),
        ("someone/stories", "story"),
        ("./my texts: {a, b} #1", "text"),
        ("12", "null"),
        ("true", "a: b"),
    ],
)
def test_any_text_and_field_are_read_back(text: str, text_field: str) -> None:
    content = first_config("nano", find_lm("nano"), 1, text, text_field)
    corpus = load_config(yaml.safe_load(content)).corpus
    assert (corpus.dataset, corpus.text_field) == (text, text_field)
