"""The embedded text `mini`: the documentation that every Python install carries."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import sysconfig
from collections import deque
from collections.abc import Iterator
from pathlib import Path

# Shorter pieces are labels rather than prose.
MIN_DOCUMENT_CHARACTERS = 80

HAS_DOCSTRING = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
# Whole strings too: what looks like a comment in one is none.
STRING_OR_COMMENT = re.compile(
    r'''"""(?:\\.|[^\\])*?"""'''
    r"""|'''(?:\\.|[^\\])*?'''"""
    r"""|"(?:\\.|[^\\"\n])*"|'(?:\\.|[^\\'\n])*'|(?P<comment>\#[^\n]*)""",
    re.DOTALL,
)


def embedded_documents() -> Iterator[str]:
    """Docstrings, runs of comments and help topics of the standard library, without repeats.

    About 10,000 documents and 2.8 MB on Python 3.11; the order is that of the file names.
    """
    seen: set[str] = set()
    for text in itertools.chain(_library_prose(), _help_topics()):
        document = text.strip()
        if len(document) >= MIN_DOCUMENT_CHARACTERS and document not in seen:
            seen.add(document)
            yield document


def embedded_text_version() -> str:
    """What the embedded text depends on: this Python's release and build."""
    return sys.version


def _library_prose() -> Iterator[str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        if {"site-packages", "dist-packages", "test", "tests", "lib2to3"} & set(parts):
            continue
        try:
            source = path.read_text(encoding="utf-8")
            tree = ast.parse(source)
        except (OSError, UnicodeDecodeError, SyntaxError, ValueError):
            continue  # a few files of the library hold bad code on purpose
        for node in _statements(tree):
            if isinstance(node, HAS_DOCSTRING):
                yield ast.get_docstring(node) or ""
        yield from _comment_runs(source)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """As `ast.walk`, in its order, without expressions: ten times as fast."""
    left: deque[ast.AST] = deque([tree])
    while left:
        node = left.popleft()
        yield node
        within = ast.iter_child_nodes(node)
        left.extend(
            child
            for child in within
            if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case)
        )


def _comment_runs(source: str) -> Iterator[str]:
    """Comments on lines that follow each other, joined; ten times as fast as `tokenize`."""
    run: list[str] = []
    line, last_line, counted = 1, -1, 0
    for found in STRING_OR_COMMENT.finditer(source):
        if found["comment"] is None:
            continue
        line += source.count("\n", counted, found.start())
        counted = found.start()
        if line != last_line + 1:
            yield "\n".join(run)
            run = []
        run.append(found["comment"].lstrip("#").removeprefix(" "))
        last_line = line
    yield "\n".join(run)


def _help_topics() -> Iterator[str]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name]
