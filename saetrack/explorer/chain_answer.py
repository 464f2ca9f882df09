"""`chain.json`: what an analysis says of its chain, with what the registry knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saetrack.analysis.life_store.columns import described
from saetrack.explorer.home import analysing_json
from saetrack.explorer.links import in_lm_order, order_facts
from saetrack.explorer.matches import matched_chains
from saetrack.lm.hook import parse_hook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saetrack.explorer.open_stores import OpenStore
    from saetrack.registry.cards import ChainCard


def analysed_json(
    store: OpenStore, card: ChainCard | None, cards: Sequence[ChainCard]
) -> dict[str, Any]:
    """Of a chain with a life store: its manifest, and a stamp by which a page knows a new analysis.

    Args:
        store: the chain's.
        card: the chain's; None where the registry has none just now.
        cards: of all chains, among them those whose features are matched.
    """
    manifest = store.lives.manifest
    return {
        "analysis": store.stamp,
        **manifest.model_dump(mode="json"),
        "hook": _written(manifest.hook),
        "columns": [described(column).model_dump(mode="json") for column in manifest.columns],
        "matches": matched_chains(manifest, cards),
        "notes": [*manifest.notes, *_notes_of_newer(card)],
        **order_facts(card),
        "analysing": analysing_json(card),
    }


def not_analysed_json(card: ChainCard) -> dict[str, Any]:
    """Of a chain without a life store: what the registry knows of it."""
    columns = in_lm_order(card.links)
    return {
        "analysed": False,
        "name": card.name,
        "lm": card.lm,
        "hook": card.hook,
        "architecture": card.architecture,
        "d_sae": card.d_sae,
        "direction": card.direction,
        "seed": card.seed,
        "links": [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ],
        "notes": [
            "This chain was analysed by a release that kept no lives of features: analyse it again."
            if card.analysis is not None
            else "This chain was not analysed yet: saetrack analyze makes what is shown here."
        ],
        **order_facts(card),
        "analysing": analysing_json(card),
    }


def _notes_of_newer(card: ChainCard | None) -> list[str]:
    """What tells that the analysis is not the newest."""
    if card is None or card.analysis is None or not card.analysis.newer:
        return []
    said = "Shown is the analysis with the most controls. Newer ones that have fewer, in MLflow"
    return [f"{said}: {card.analysis.newer}."]


def _written(hook_name: str) -> str:
    """A hook as configs write it; one that this release lacks as it was written."""
    try:
        return str(parse_hook(hook_name))
    except ValueError:
        return hook_name
