"""What the pages read of a life store, as bytes: the same from the server and in a static site."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saetrack.explorer.search import as_json
from saetrack.utils.errors import UserError, shown

if TYPE_CHECKING:
    from saetrack.analysis.life_store.reader import LifeStore

OF_CHAIN = "chain"  # in the place of a link's index


def feature_bytes(lives: LifeStore, feature: int) -> bytes:
    """`features/F.json`: everything of one feature at all links.

    Raises:
        UserError: there is no such feature, or the store is not what its manifest says.
    """
    return as_json(lives.life(feature))


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
        raise UserError(f"{shown(column)}: the chain has no such column")
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
