"""One row of a dataset to one document, or to the reason why it is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

SHOWN_FIELDS = 20


@dataclass(frozen=True)
class Problem:
    """Why a row is no document, as the end of a sentence that begins with where it is."""

    reason: str


class Row(NamedTuple):
    """A document, or why there is none, and where it was found."""

    where: str
    text: str | Problem


def text_of(record: Any, field: str) -> str | Problem:
    """The text of a row; only a text is taken, never what could be turned into one."""
    if not isinstance(record, Mapping):
        return Problem(f"is {_kind(record)}, not an object with a field {field!r}")
    if field not in record:
        return no_field(field, record)
    return checked(record[field], field, record)


def checked(value: Any, field: str, fields: Iterable[Any]) -> str | Problem:
    """A row's value, which must be a text that has bytes."""
    if not isinstance(value, str):
        found = f"its field {field!r} is {_kind(value)}, not a text"
        return Problem(f"{found} (corpus.text_field; the fields are {listed(fields)})")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return Problem(
                f"its field {field!r} holds half of a character (a lone surrogate, at character "
                f"{error.start})"
            )
    return value


def no_field(field: str, fields: Iterable[Any]) -> Problem:
    """The reason where a field is missing."""
    return Problem(
        f"has no field {field!r} (corpus.text_field); the fields are {listed(fields) or 'none'}"
    )


def listed(names: Iterable[Any]) -> str:
    """Names in a line, shortened where there are many or long ones."""
    texts = [str(name) for name in names]
    shown = [text if len(text) <= 40 else text[:37] + "..." for text in texts[:SHOWN_FIELDS]]
    more = len(texts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list | tuple):
        return "a list"
    return "an object" if isinstance(value, Mapping) else f"of type {type(value).__name__}"
