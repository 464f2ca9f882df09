"""Chains by the beginning of their names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from saetrack.utils.errors import UserError

SHOWN = 8


def find_chain(
    names: Sequence[str], asked: str, differences: Mapping[str, str] | None = None
) -> str:
    """The one chain that is meant: by its name, or by a beginning that no other chain shares.

    Args:
        names: of all registered chains.
        asked: what the user wrote.
        differences: what tells chains of one beginning apart, by their names.

    Raises:
        UserError: there is none, or more than one.
    """
    matching = chains_that_begin(names, asked)
    if len(matching) == 1:
        return matching[0]
    told = differences or {}
    more = f" and {len(matching) - SHOWN} more" if len(matching) > SHOWN else ""
    shown = (f"{name} ({told[name]})" if told.get(name) else name for name in matching[:SHOWN])
    raise UserError(
        f"chain={asked!r}: begins {len(matching)} names: {', '.join(shown)}{more}; "
        "write as much as one of them needs"
    )


def chains_that_begin(names: Sequence[str], asked: str) -> list[str]:
    """The chains whose names begin as a user wrote; of a whole name that chain alone.

    Args:
        names: of all registered chains.
        asked: what the user wrote.

    Raises:
        UserError: there is none.
    """
    if asked in names:
        return [asked]
    if not asked:
        raise UserError("chain='': must be a chain's name, or a beginning of it (saetrack chains)")
    if matching := [name for name in names if name.startswith(asked)]:
        return matching
    beginnings = {name[: len(asked)]: name for name in names}
    close = difflib.get_close_matches(asked, beginnings, n=3, cutoff=0.5)
    near = [beginnings[beginning] for beginning in close]
    hint = f"did you mean {', '.join(near)}?" if near else "saetrack chains lists those there are"
    raise UserError(f"chain={asked!r}: no such chain is registered; {hint}")
