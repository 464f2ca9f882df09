"""The embedded text: what plain ways find in a source, and prose alone."""

from __future__ import annotations

import ast
import io
import sysconfig
import tokenize
from itertools import islice
from pathlib import Path

import pytest

from saetrack.data.embedded import embedded_documents, embedded_text_version
from saetrack.data.prose import prose_paragraphs
from saetrack.data.python_source import texts_for_people

# With strings of every kind, comments in strings, and definitions within conditions.
FILES = ("typing.py", "tokenize.py", "re/_parser.py", "pydoc.py", "asyncio/base_events.py")
HAS_DOCSTRING = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

SENTENCE = "A sentence of prose that has more than the twelve words which one needs to be kept."


def _source(name: str) -> str:
    return (Path(sysconfig.get_paths()["stdlib"]) / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_comments_are_those_of_the_tokenizer(name: str) -> None:
    plain: list[str] = []
    last_line = -1
    for token in tokenize.generate_tokens(io.StringIO(_source(name)).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("#").removeprefix(" ")
            if token.start[0] == last_line + 1:
                plain[-1] += "\n" + text
            else:
                plain.append(text)
            last_line = token.start[0]
    found = list(texts_for_people(_source(name)))
    assert found[-len(plain) :] == plain and len(plain) > 5


@pytest.mark.parametrize("name", FILES)
def test_docstrings_are_those_of_the_parser(name: str) -> None:
    """As far as the source has them in three quotes and without escapes."""
    tree = ast.parse(_source(name))
    parsed = {
        text
        for node in ast.walk(tree)
        if isinstance(node, HAS_DOCSTRING) and (text := ast.get_docstring(node))
    }
    found = set(texts_for_people(_source(name)))
    missing = {text for text in parsed - found if "\\" not in text and "\n" in text}
    assert parsed and not missing


def test_a_comment_in_a_string_is_none() -> None:
    source = "a = '# no'\nb = \"it's\"  # one\n# two\nc = '''\n# no\n'''\n\n# three\n"
    assert list(texts_for_people(source)) == ["one\ntwo", "three"]


@pytest.mark.parametrize(
    "paragraph",
    [
        "Too short to be prose.",
        f"Copyright (c) by somebody. {SENTENCE}",
        f"Parameters\n----------\nx : int\n    {SENTENCE}",
        f"Args:\n    x (`int`): {SENTENCE}",
        f"x : int, {SENTENCE}",
        "0.1  0.22  0.333  0.1  one  0.2 two 0.3 three 0.4 four 0.5 five 0.6 six 0.7 seven",
        "\n".join(["name      type      meaning of it and more words"] * 4),
        ">>> print('a doctest which has more than twelve words in it as you can count')",
    ],
)
def test_what_is_no_prose_is_left_out(paragraph: str) -> None:
    text = f"{SENTENCE}\n\n{paragraph}\n\nThen: {SENTENCE}"
    assert list(prose_paragraphs(text)) == [SENTENCE, f"Then: {SENTENCE}"]


def test_doctests_in_a_paragraph_go_and_its_indentation_too() -> None:
    text = f"    {SENTENCE}\n    >>> 1 + 1\n      {SENTENCE}"
    assert list(prose_paragraphs(text)) == [f"{SENTENCE}\n  {SENTENCE}"]


def test_documents_are_prose_without_repeats_from_many_packages_at_once() -> None:
    documents = list(islice(embedded_documents(), 1200))
    assert documents == list(islice(embedded_documents(), 1200)), "the order is always the same"
    paragraphs = [part for document in documents for part in document.split("\n\n")]
    assert len(paragraphs) == len(set(paragraphs))
    for word in ("tensor", "tokenizer", "DataFrame", "matrix", "SQL", "polynomial"):
        assert any(word in document for document in documents), word
    assert "torch==" in embedded_text_version()
