"""Labels of tokens that their texts alone decide, so that any LM and any corpus has them.

| task | tokens that have a label | yes | no |
|---|---|---|---|
| `capital` | first tokens of a word, in a script with case | upper case | lower case |
| `digit` | tokens of letters, or of digits, alone | digits | letters |
| `word_start` | tokens that begin with a letter | the first of their word | a later one |
| `indented` | the first of their line | blanks stand before it | none do |
| `code` | tokens of letters in rows with backticks | between backticks | outside |
| `before_punctuation` | tokens that end a word | punctuation follows | another word follows |

The first three say what a token is; the others say where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

TASKS = ("capital", "digit", "word_start", "indented", "code", "before_punctuation")
# What stands for a part of a character.
REPLACEMENT = "\ufffd"
PUNCTUATION = frozenset(".,;:!?)]}")
_RUNS = re.compile(r"`+|[^`]+")
# A line's end between two others: it ends a span of code that nobody closed.
_BLANK_LINE = re.compile(r"\n[ \t]*\n")

Labelled = Iterator[tuple[str, bool]]


def row_labels(texts: Sequence[str | None]) -> list[dict[str, bool]]:
    """The labels of each token of a row, by task.

    Args:
        texts: of each token (`saetrack.lm.token_texts.texts_with_blanks`); None for a special
            token, which begins a document.
    """
    lines, code = _Lines(), _Code()
    has_code = any(text is not None and "`" in text for text in texts)
    found: list[dict[str, bool]] = []
    around = zip([None, *texts[:-1]], texts, [*texts[1:], None], strict=True)
    for before, text, after in around:
        if text is None:
            lines, code = _Lines(), _Code()
            found.append({})
            continue
        labels = dict(_of_token(before or "", text))
        labels |= _before_punctuation(text, after)
        labels |= lines.labels(text)
        inside = code.inside(text)
        if has_code and inside is not None:
            labels["code"] = inside
        found.append(labels)
    return found


def _of_token(before: str, text: str) -> Labelled:
    """What a token is, from its text and that of the token before."""
    own = text.strip()
    if own.isalnum() and own.isdigit() != own.isalpha():
        yield "digit", own.isdigit()
    if own[:1].isalpha() and not before.endswith(REPLACEMENT):
        begins = text[0].isspace() or not before[-1:].isalpha()
        yield "word_start", begins
        if begins and own[0].isupper() != own[0].islower():
            yield "capital", own[0].isupper()


def _before_punctuation(text: str, after: str | None) -> dict[str, bool]:
    """Whether punctuation ends a word, or a blank and another one."""
    if after is None or not text[-1:].isalpha():
        return {}
    if after[0] in PUNCTUATION:
        return {"before_punctuation": True}
    if after[0].isspace() and after.strip()[:1].isalpha():
        return {"before_punctuation": False}
    return {}


@dataclass
class _Lines:
    """Where lines begin. Whether a row, or a document in it, begins a line is not known.

    Attributes:
        blanks: before the next token on its line, if nothing else is; else None.
    """

    blanks: str | None = None

    def labels(self, text: str) -> dict[str, bool]:
        """Take in a token; is it the first of its line, and indented?"""
        own = text.strip()
        if not own:
            self._pass(text)
            return {}
        begin = text.index(own)
        self._pass(text[:begin])
        labels = {} if self.blanks is None else {"indented": bool(self.blanks)}
        self.blanks = None
        self._pass(text[begin:])
        return labels

    def _pass(self, text: str) -> None:
        _, end, last = text.rpartition("\n")
        if end:
            self.blanks = "" if not last.strip() else None
        if self.blanks is not None:
            self.blanks += last


@dataclass
class _Code:
    """Where spans of code are: a run of backticks opens one, as long a run closes it.

    A blank line closes one that fewer than three backticks opened.

    Attributes:
        opened: length of the run that opened a span; 0 outside.
        run: length of the run that the text so far ends with.
        tail: the end of the text, in which a blank line may begin.
    """

    opened: int = 0
    run: int = 0
    tail: str = field(default="", repr=False)

    def inside(self, text: str) -> bool | None:
        """Take in a token; None unless it is made of letters."""
        if "`" in text:
            for part in _RUNS.findall(text):
                self._part(part)
            return None
        self._part(text)
        return bool(self.opened) if text.strip().isalpha() else None

    def _part(self, part: str) -> None:
        if part[0] == "`":
            self.run += len(part)
            return
        if self.run:
            if not self.opened:
                self.opened = self.run
            elif self.opened == self.run:
                self.opened = 0
            self.run, self.tail = 0, ""
        self.tail += part
        if self.opened < 3 and _BLANK_LINE.search(self.tail):
            self.opened = 0
        self.tail = self.tail[self.tail.rfind("\n") :] if "\n" in self.tail else ""
