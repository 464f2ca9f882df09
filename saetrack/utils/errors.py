"""Mistakes that a user can correct, each described in one line."""

from __future__ import annotations

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


# What pydantic says in Python's words about a value of another kind, in those of a YAML file.
KINDS = {
    "tuple_type": "must be a list, such as [1, 2]",
    "too_short": "must have {min_length} or more in its list",
    "model_type": "must hold fields, each with a value",
}


def shown(value: Any, characters: int = 80) -> str:
    """A value as a message shows it: shortened if it is longer than so many characters."""
    text = repr(value)
    return text if len(text) <= characters else text[: characters - 3] + "..."


def first_line(error: BaseException) -> str:
    """The first line of an error's text; its type where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def one_line(error: ValidationError) -> str:
    """The first problem of a pydantic validation as `field=value: what is allowed`."""
    problem = error.errors(include_url=False)[0]
    # A member of a union whose name is in angle brackets is no field that the user wrote.
    parts = [part for part in map(str, problem["loc"]) if not part.startswith("<")]
    field = ".".join(parts) or "parameters"
    message = problem["msg"].removeprefix("Value error, ")
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    if problem["type"] == "missing":
        return f"{field}: missing{tail}"
    if problem["type"] == "extra_forbidden":
        message = "unknown name"
    if problem["type"] in KINDS:
        message = KINDS[problem["type"]].format(**problem.get("ctx", {}))
    return f"{field}={shown(problem['input'])}: {message[:1].lower()}{message[1:]}{tail}"
