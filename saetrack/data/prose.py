"""Which paragraphs are prose: no tables, no code, no lists of parameters, no licences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import dedent

MIN_WORDS = 12
# Of all characters but white space, how many belong to words: less in tables, code and formulas.
MIN_WORD_SHARE = 0.72
# Of a paragraph's lines, how many may be columns.
MAX_COLUMNS_SHARE = 1 / 3

PARAGRAPHS = re.compile(r"\n[ \t]*\n")
WORD = re.compile(r"[A-Za-z][a-z'-]+")
COLUMNS = re.compile(r"\S {3,}\S")
# Doctests, tables, directives and fields of reStructuredText.
NO_PROSE_LINE = (">>>", "...", "|", "+-", ".. ", ":param", ":type", ":return", ":rtype", "@")
LICENCE = re.compile(r"copyright|licen[sc]e|warrant|all rights reserved", re.IGNORECASE)
HEADING = re.compile(r"\w[\w ]*\n\s*[-=~^]{3,}\s*(\n|$)")
# "x : int" and "x (`int`): ...", as numpydoc and Google's style have them.
PARAMETER = re.compile(r"[\w*`, ]+( : | ?\([^\n]*?\): )")
LIST_OF_A_FUNCTION = re.compile(
    r"\s*:?(Args|Arguments|Parameters|Attributes|Returns?|Raises|Yields|Kwargs|Keyword Arg\w*"
    r"|Other Parameters|Inputs?|Outputs?|Shape|Examples?|References|See Also)\b[^\n]{0,3}(\n|$)"
)


def prose_paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a documentation that are prose, without what is none on their lines."""
    for paragraph in PARAGRAPHS.split(text):
        if LICENCE.search(paragraph):
            continue
        lines = [
            line for line in paragraph.split("\n") if not line.lstrip().startswith(NO_PROSE_LINE)
        ]
        kept = dedent("\n".join(lines)).strip()
        if _is_prose(kept):
            yield kept


def _is_prose(paragraph: str) -> bool:
    words = WORD.findall(paragraph)
    if len(words) < MIN_WORDS:
        return False
    n_characters = sum(map(len, paragraph.split()))
    if sum(map(len, words)) < MIN_WORD_SHARE * n_characters:
        return False
    lines = paragraph.split("\n")
    n_columns = sum(COLUMNS.search(line) is not None for line in lines)
    if n_columns > MAX_COLUMNS_SHARE * len(lines):
        return False
    return not any(kind.match(paragraph) for kind in (HEADING, PARAMETER, LIST_OF_A_FUNCTION))
