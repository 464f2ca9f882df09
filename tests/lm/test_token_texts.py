"""Tokens that are parts of characters."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from saetrack.analysis.pipeline.analysis_text import AnalysisText
from saetrack.data.exclusion import NOTHING
from saetrack.lm.embedded.training import train_tokenizer
from saetrack.lm.token_texts import (
    text_of,
    texts_alone,
    texts_together,
    texts_with_blanks,
)


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerBase:
    """As those of GPT-2 and Pythia; it knows no merges of the text below."""
    return train_tokenizer(["the cat sat on the mat " * 3], 270)


@pytest.fixture(scope="module")
def by_named_bytes() -> PreTrainedTokenizerBase:
    """As Llama's: characters that it lacks are bytes by name."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"a": 256, "\u2581b": 257}
    bpe = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    bpe.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback()])
    return PreTrainedTokenizerFast(tokenizer_object=bpe)


@pytest.mark.parametrize("kind", ["byte_level", "by_named_bytes"])
def test_a_character_of_several_tokens_is_shown_whole(
    kind: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(kind)
    ids = tokenizer("a\U0001f642\u732b", add_special_tokens=False)["input_ids"]
    assert len(ids) == 1 + 4 + 3
    found = texts_together(tokenizer, ids)
    assert found[0] == ("a", None)
    assert [one.text for one in found[1:]] == ["\U0001f642"] * 4 + ["\u732b"] * 3
    assert [one.piece for one in found[1:]] == [
        *((k, 4) for k in (1, 2, 3, 4)),
        *((k, 3) for k in (1, 2, 3)),
    ]
    alone = texts_alone(tokenizer, ids)
    assert alone[0] == "a"
    assert alone[1:5] == ["<0xF0>", "<0x9F>", "<0x99>", "<0x82>"]


@pytest.mark.parametrize("kind", ["byte_level", "by_named_bytes"])
def test_bytes_that_are_no_character_keep_their_names(
    kind: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(kind)
    ids = tokenizer("\u732ba", add_special_tokens=False)["input_ids"]
    cut = [ids[0], ids[2], ids[3]]  # the middle byte is missing
    found = texts_together(tokenizer, cut)
    assert [one.text for one in found] == ["<0xE7>", "<0xAB>", "a"]
    assert not any("\ufffd" in text for text in texts_alone(tokenizer, range(len(tokenizer))))


@pytest.mark.parametrize("kind", ["byte_level", "by_named_bytes"])
def test_a_piece_of_a_text_is_whole_but_for_the_characters_that_it_cuts(
    kind: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(kind)
    ids = tokenizer("a\u732ba\u732b", add_special_tokens=False)["input_ids"]
    assert len(ids) == 8
    assert text_of(tokenizer, ids) == "a\u732ba\u732b"
    assert text_of(tokenizer, ids[2:6]) == "<0x8C><0xAB>a<0xE7>"
    assert text_of(tokenizer, ids[:1]) == "a"
    assert text_of(tokenizer, []) == ""


def test_parts_of_characters_are_different_tokens_to_an_analysis(
    byte_level: PreTrainedTokenizerBase,
) -> None:
    text = AnalysisText(np.zeros((1, 4), int), NOTHING, byte_level)
    ids = byte_level("\u732b", add_special_tokens=False)["input_ids"]
    assert len(set(text.forms.text_ids[ids])) == len(set(text.forms.stem_ids[ids])) == 3
    assert not any("\ufffd" in form for form in text.forms.texts)


def test_tokens_keep_the_blanks_that_they_stand_for(byte_level: PreTrainedTokenizerBase) -> None:
    ids = byte_level("the \u732b", add_special_tokens=False)["input_ids"]
    assert "".join(texts_with_blanks(byte_level, ids)) == "the " + 3 * "\ufffd"
    metaspace = Tokenizer(models.WordLevel({"\u2581a": 0, "b": 1}, "b"))
    metaspace.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=metaspace)
    assert tokenizer.decode([0]) == "a", "as Llama's, it drops the first blank of what it decodes"
    assert texts_with_blanks(tokenizer, [0, 1]) == [" a", "b"]
