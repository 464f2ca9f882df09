"""The links of a chain as pages show them: in the order of LM steps, however they were trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saetrack.registry.cards import ChainCard

Columns = dict[str, list[float | int | None]]


def in_lm_order(links: Columns) -> Columns:
    """Links by LM step, those without one last; of equal steps the one first that was first."""
    steps = links["lm_step"]
    order = sorted(range(len(steps)), key=lambda at: (steps[at] is None, steps[at] or 0))
    return {name: [values[at] for at in order] for name, values in links.items()}


def standing_step(lm_steps: Sequence[float | int | None]) -> int | None:
    """The LM step that all links read, if there are two links or more; else None."""
    if len(lm_steps) < 2 or lm_steps[0] is None or len(set(lm_steps)) > 1:
        return None
    return int(lm_steps[0])


def order_facts(card: ChainCard | None) -> dict[str, Any]:
    """Which LM steps were trained first and last, and at which one the LM stands still."""
    steps = card.links["lm_step"] if card is not None else []
    trained = {"first": steps[0], "last": steps[-1]} if steps else None
    return {"trained": trained, "standing": standing_step(steps)}
