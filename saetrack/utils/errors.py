"""Mistakes that a user can correct, each described in one line."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(Exception):
    """A user's mistake. Its text is one line: the field, the value, what is allowed.

    Example:
        >>> try:
        ...     raise UserError("seed=-1: must be 0 or more")
        ... except UserError as error:
        ...     print(error)
        seed=-1: must be 0 or more
    """


# Of the other fields that are wrong, how many a line names.
SHOWN_FIELDS = 4
# What a database's driver says, as SQLAlchemy and MLflow repeat it.
DATABASE_SAYS = re.compile(r"\(\w[\w.]*\.(?:Operational|Database|Interface)Error\) ([^\n]*)")
FILE_SAYS = re.compile(r"\(os error (\d+)\)")
# Of files and folders that are not what the machine lets this process read or write.
FILE_ERRORS = frozenset(
    {errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ESTALE}
)
# What pydantic says in Python's words about a value of another kind, in those of a YAML file.
KINDS = {
    "int_parsing": "input should be a valid integer, written in digits, such as 100000",
    "tuple_type": "must be a list, such as [1, 2]",
    "too_short": "must have {min_length} or more in its list",
    "model_type": "must hold fields, each with a value",
}
# What pydantic says of a field that does not exist, in a model and in a dataclass.
UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}


def shown(value: Any, characters: int = 80) -> str:
    """A value as a message shows it: shortened if it is longer than so many characters."""
    text = repr(value)
    return text if len(text) <= characters else text[: characters - 3] + "..."


def known_names(name: str, names: Iterable[str]) -> str:
    """The names that may be meant by one that is unknown: those like it, else all."""
    known = sorted(names)
    near = difflib.get_close_matches(name, known, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known)}"


def is_disk_full(error: BaseException) -> bool:
    """Whether an error is, or was caused by, a disk or a quota without room.

    SQLite's and safetensors' own errors say so in their text alone.

    Example:
        >>> is_disk_full(OSError(28, "No space left on device")), is_disk_full(OSError("other"))
        (True, False)
    """
    for seen in _causes(error):
        if getattr(seen, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(text in str(seen) for text in ("No space left on device", "disk is full")):
            return True
    return False


def database_problem(error: BaseException) -> str | None:
    """What the registry's database says, if an error is, or was caused by, one of its own.

    Example:
        >>> database_problem(Exception("(sqlite3.OperationalError) disk I/O error"))
        'disk I/O error'
    """
    for seen in _causes(error):
        if type(seen).__module__ == "sqlite3":
            return first_line(seen)
        if found := DATABASE_SAYS.search(str(seen)):
            return found[1].strip()
    return None


def file_problem(error: BaseException) -> tuple[str | None, str] | None:
    """Which file cannot be read or written, and why; None of an error that is of other kind.

    Example:
        >>> file_problem(OSError(27, "File too large", "/cache/a"))
        ('/cache/a', 'File too large')
    """
    for seen in _causes(error):
        of_library = FILE_SAYS.search(str(seen))  # safetensors and others have no number but in it
        number = int(of_library[1]) if of_library else getattr(seen, "errno", None)
        if number in FILE_ERRORS:
            path = getattr(seen, "filename", None)
            return (None if path is None else str(path)), os.strerror(number)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was caused by, and so on."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def first_line(error: BaseException) -> str:
    """The first line of an error's text; its type where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def first_problem(error: ValidationError) -> Any:
    """The problem of a validation that is told: what is missing may only be written otherwise."""
    problems = error.errors(include_url=False)
    unknown = [problem for problem in problems if problem["type"] in UNKNOWN]
    return unknown[0] if unknown and problems[0]["type"] == "missing" else problems[0]


def field_of(problem: Any, values: Any = None) -> tuple[str, ...]:
    """Where a problem is, by the names and numbers that the user wrote.

    Pydantic puts the members of a union among them. They are left out: those whose names are in
    angle brackets, and all that `values` do not have, if what was validated is at hand.
    """
    parts = [part for part in problem["loc"] if not str(part).startswith("<")]
    if values is None:
        return tuple(map(str, parts))
    written = []
    for number, part in enumerate(parts, start=1):
        if _has(values, part):
            values = values[part]
        elif problem["type"] != "missing" or number < len(parts):
            continue
        written.append(str(part))
    return tuple(written)


def _has(values: Any, part: Any) -> bool:
    if isinstance(values, Mapping):
        return part in values
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    return is_list and isinstance(part, int) and part < len(values)


def fields_with_mistakes(error: ValidationError, values: Any = None) -> list[str]:
    """Where a validation has found mistakes, each once.

    Of one mistake pydantic may tell several times: of each member of a union, and of the list that
    is too short without its bad item.
    """
    fields = dict.fromkeys(field_of(problem, values) for problem in error.errors(include_url=False))
    return [
        ".".join(field)
        for field in fields
        if not any(field == other[: len(field)] for other in fields if other != field)
    ]


def message_of(problem: Any) -> str:
    """What pydantic says of a problem, in the words of a YAML file."""
    if problem["type"] in KINDS:
        return KINDS[problem["type"]].format(**problem.get("ctx", {}))
    message: str = problem["msg"].removeprefix("Value error, ")
    return message


def one_line(error: ValidationError, known: Iterable[str] = (), values: Any = None) -> str:
    """The first problem of a pydantic validation as `field=value: what is allowed`.

    Args:
        error: of the validation.
        known: names of the fields that there are where the problem is.
        values: what was validated, if it is at hand.
    """
    problem = first_problem(error)
    field = ".".join(field_of(problem, values)) or "parameters"
    message = message_of(problem)
    others = [name for name in fields_with_mistakes(error, values) if name != field]
    more = f" and {len(others) - SHOWN_FIELDS} more" if len(others) > SHOWN_FIELDS else ""
    tail = f" (also wrong: {', '.join(others[:SHOWN_FIELDS])}{more})" if others else ""
    if problem["type"] == "missing":
        return f"{field}: missing{tail}"
    if problem["type"] in UNKNOWN:
        message = f"unknown name; {known_names(str(problem['loc'][-1]), known)}"
    if problem["type"] == "union_tag_invalid":  # the kind of a group that there are several of
        names = {
            name: text.replace("<", "").replace(">", "") for name, text in problem["ctx"].items()
        }
        message = f"'{names['tag']}' is none of {names['expected_tags']}"
    return f"{field}={shown(problem['input'])}: {message[:1].lower()}{message[1:]}{tail}"
