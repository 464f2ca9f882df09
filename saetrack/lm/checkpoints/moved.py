"""A folder that was moved or copied: what the ledger of its former path knew goes with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from saetrack.lm.checkpoints.seen import Ledger, Seen


def inherited(found: Ledger, ledger_path: Path) -> Ledger:
    """A new ledger with those checkpoints that its LM lost before the folder came to this path.

    A ledger of this machine belongs to the same LM if it has seen a checkpoint of the same step and
    content. Of several such ledgers the one with most checkpoints in common counts. Without this a
    moved folder whose first checkpoint was deleted would be taken for another LM.

    Args:
        found: what is in the folder now.
        ledger_path: of the folder; the other ledgers lie beside it.
    """
    here = {(seen.lm_step, seen.commit) for seen in found.checkpoints}
    best: list[Seen] = []
    most_in_common = 0
    for other in _others(ledger_path):
        common = [seen.lm_step for seen in other if (seen.lm_step, seen.commit) in here]
        if len(common) > most_in_common:
            most_in_common = len(common)
            # Behind the last common one the two may have gone different ways.
            best = [seen for seen in other if seen.lm_step < common[-1]]
    merged = {seen.lm_step: seen for seen in (*best, *found.checkpoints)}
    return Ledger(checkpoints=tuple(merged[lm_step] for lm_step in sorted(merged)))


def _others(ledger_path: Path) -> Iterator[Iterable[Seen]]:
    for path in sorted(ledger_path.parent.glob("*.json")):
        if path != ledger_path:
            yield Ledger.model_validate_json(path.read_bytes()).checkpoints
