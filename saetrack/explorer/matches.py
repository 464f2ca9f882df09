"""Chains whose features an analysis matched with those of its own, and what they are to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saetrack.explorer.links import standing_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saetrack.analysis.life_store.manifest import Manifest
    from saetrack.registry.cards import ChainCard


def matched_chains(manifest: Manifest, cards: Sequence[ChainCard]) -> list[dict[str, Any]]:
    """The `matches` of `chain.json`: the manifest's, each with what its chain is to this one.

    Args:
        manifest: of the chain's life store.
        cards: of the registry; of a chain that is not among them the `kind` is None.
    """
    of = {card.name: card for card in cards}
    own = of.get(manifest.name)
    found = []
    for match in manifest.matches:
        other = of.get(match.chain)
        kind = kind_of(other, own) if own is not None and other is not None else None
        # A pair is of one checkpoint: each chain's link over it.
        steps = {"lm_step": match.lm_step, "other_lm_step": match.lm_step}
        found.append({**match.model_dump(mode="json"), **steps, "kind": kind})
    return found


def kind_of(other: ChainCard, own: ChainCard) -> str:
    """What another chain is to one's own: the first thing in which they differ that matters."""
    standing = standing_step(other.links["lm_step"])
    if other.lm != own.lm:
        return "other LM"
    if other.hook != own.hook:
        return "other layer" if other.layer != own.layer else "other hook"
    if other.architecture != own.architecture:
        return "other architecture"
    if standing is not None and standing != standing_step(own.links["lm_step"]):
        stays = "random" if standing == 0 else "trained"
        return f"control: LM that stays {stays}"
    if other.direction != own.direction:
        return f"{other.direction} chain"
    return "second seed" if other.seed != own.seed else "other chain"
