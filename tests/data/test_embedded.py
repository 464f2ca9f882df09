"""The embedded text: reading it fast gives what the plain ways give."""

from __future__ import annotations

import ast
import io
import sysconfig
import tokenize
from pathlib import Path

import pytest

from saetrack.data.embedded import HAS_DOCSTRING, _comment_runs, _statements

# With strings of every kind, comments in strings, and definitions within conditions.
FILES = ("typing.py", "tokenize.py", "re/_parser.py", "pydoc.py", "asyncio/base_events.py")


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
    assert [run for run in _comment_runs(_source(name)) if run] == [run for run in plain if run]
    assert len(plain) > 5


@pytest.mark.parametrize("name", FILES)
def test_definitions_come_in_the_order_of_a_walk(name: str) -> None:
    tree = ast.parse(_source(name))
    walked = [node for node in ast.walk(tree) if isinstance(node, HAS_DOCSTRING)]
    assert [node for node in _statements(tree) if isinstance(node, HAS_DOCSTRING)] == walked
    assert len(walked) > 5


def test_a_comment_in_a_string_is_none() -> None:
    source = "a = '# no'\nb = \"it's\"  # one\n# two\nc = '''\n# no\n'''\n\n# three\n"
    assert [run for run in _comment_runs(source) if run] == ["one\ntwo", "three"]
