"""What is written for people in Python's source files: docstrings and comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc

# Whole strings too: what looks like a comment in one is none. A docstring here is every string in
# three quotes that begins a line and is not formatted; parsing would take twice as long.
STRING_OR_COMMENT = re.compile(
    r'''(?P<docstring>(?<![^\n])[ \t]*[rRuU]?(?P<quotes>"""|\'\'\')(?:\\.|[^\\])*?(?P=quotes))'''
    r'''|"""(?:\\.|[^\\])*?"""'''
    r"""|'''(?:\\.|[^\\])*?'''"""
    r"""|"(?:\\.|[^\\"\n])*"|'(?:\\.|[^\\'\n])*'|(?P<comment>\#[^\n]*)""",
    re.DOTALL,
)


def texts_for_people(source: str) -> Iterator[str]:
    r"""The docstrings of a source file, then its runs of comments, as they are written there.

    Example:
        >>> list(texts_for_people("x = 1  # An example:\n# one.\n"))
        ['An example:\none.']
    """
    comments: list[tuple[int, str]] = []
    line, counted = 1, 0
    for found in STRING_OR_COMMENT.finditer(source):
        if found["docstring"] is not None:
            yield cleandoc(found["docstring"].strip().lstrip("rRuU")[3:-3])
        elif found["comment"] is not None:
            line += source.count("\n", counted, found.start())
            counted = found.start()
            comments.append((line, found["comment"].lstrip("#").removeprefix(" ")))
    yield from _runs(comments)


def _runs(comments: list[tuple[int, str]]) -> Iterator[str]:
    """Comments on lines that follow each other, joined."""
    run: list[str] = []
    last_line = -1
    for line, comment in comments:
        if run and line != last_line + 1:
            yield "\n".join(run)
            run = []
        run.append(comment)
        last_line = line
    if run:
        yield "\n".join(run)
