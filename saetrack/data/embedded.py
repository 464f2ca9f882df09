"""The embedded text `mini`: the documentation that every Python install carries."""

from __future__ import annotations

import ast
import io
import itertools
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

# Shorter pieces are labels rather than prose.
MIN_DOCUMENT_CHARACTERS = 80


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
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield ast.get_docstring(node) or ""
        yield from _comment_runs(source)


def _comment_runs(source: str) -> Iterator[str]:
    run: list[str] = []
    last_line = -2
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last_line + 1:
            yield "\n".join(run)
            run = []
        run.append(token.string.lstrip("#").removeprefix(" "))
        last_line = token.start[0]
    yield "\n".join(run)


def _help_topics() -> Iterator[str]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name]
