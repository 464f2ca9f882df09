"""What the pages read of a life store, as bytes: the same from the server and in a static site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saetrack.explorer.matches import matched_chains
from saetrack.utils.errors import UserError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saetrack.analysis.life_store.reader import LifeStore
    from saetrack.registry.cards import ChainCard

OF_CHAIN = "chain"  # in the place of a link's index


def feature_json(lives: LifeStore, feature: int, cards: Sequence[ChainCard]) -> dict[str, Any]:
    """`features/F.json`: everything of one feature at all links.

    Args:
        lives: of a chain.
        feature: its number.
        cards: of the registry, among them the chains whose features are matched.

    Raises:
        UserError: there is no such feature, or the store is not what its manifest says.
    """
    life = lives.life(feature)
    of = {match["name"]: match for match in matched_chains(lives.manifest, cards)}
    for match in life["matches"]:
        match |= {name: of[match["name"]][name] for name in ("other_lm_step", "kind")}
    life["contexts"] = contexts_facts(lives, lives.manifest.contexts)
    return life


def contexts_facts(lives: LifeStore, kept: int) -> dict[str, int | None]:
    """How many contexts of a feature at a link there are.

    Args:
        lives: of a chain.
        kept: of each feature at each link, at most, where this is shown.

    Returns:
        `kept`; `of`, in the life store; `judged`, the strongest ones by which the feature got its
        label, None where an earlier release analysed the chain.
    """
    of = lives.manifest.contexts
    return {"kept": min(kept, of), "of": of, "judged": lives.manifest.judged_contexts}


def column_bytes(lives: LifeStore, link: str, column: str) -> bytes:
    """`columns/LINK/COLUMN.bin`: one value per feature, little-endian.

    Args:
        lives: of a chain.
        link: its index, or `chain`.
        column: one of the manifest's columns, or one of those that each store has.

    Raises:
        UserError: there is no such link or column.
    """
    facts = lives.manifest.arrays
    named = facts.of_chain if link == OF_CHAIN else facts.links
    if column not in named or column not in column_names(lives, of_chain=link == OF_CHAIN):
        known = ", ".join(sorted(column_names(lives, of_chain=link == OF_CHAIN)))
        raise UserError(f"{shown(column)}: the chain has no such column; known: {known}")
    if link == OF_CHAIN:
        found = lives.of_chain(column)
    elif link.isascii() and link.isdecimal() and len(link) < 7:
        found = lives.column(int(link), column)
    else:
        raise UserError(f"link={shown(link)}: must be an index, or 'chain'")
    return np.ascontiguousarray(found).tobytes()


def column_names(lives: LifeStore, *, of_chain: bool) -> list[str]:
    """The arrays that hold one value per feature, and the map, which holds two."""
    facts = lives.manifest.arrays
    named = facts.of_chain if of_chain else facts.links
    length = lives.manifest.d_sae
    return [name for name, one in named.items() if one.shape == [length] or name == "map"]
