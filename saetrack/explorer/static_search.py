"""What a static site searches contexts by: arrays that the page reads whole.

    search/index.json        dtype and shape of each array, and how many contexts are searched
    search/ARRAY.bin.gz      little-endian

The text around contexts is kept in *stretches*: pieces of rows of the analysed text that hold a
context's own token and some around it; stretches that touch are one. The page walks contexts in
their order and takes the first of each feature whose own token is part of the query, as the
server's search does (`saetrack.explorer.search`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saetrack.explorer.search_index import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Int

    from saetrack.analysis.life_store.reader import LifeStore

# Tokens around a context's own that the page shows and searches.
BEFORE, AFTER = 12, 8
# 10 bytes each; of more, fewer are searched of each feature at each link.
CONTEXTS_AT_MOST = 2_000_000


@dataclass(frozen=True)
class SiteIndex:
    """The arrays by name, and how many contexts of a feature at a link are searched; None: all."""

    arrays: dict[str, np.ndarray[Any, Any]]
    contexts: int | None

    def facts(self) -> dict[str, Any]:
        """`index.json`."""
        arrays = {
            name: {"dtype": f"{values.dtype.kind}{values.dtype.itemsize}", "shape": [len(values)]}
            for name, values in self.arrays.items()
        }
        return {"contexts": self.contexts, "arrays": arrays}


def site_index(lives: LifeStore, features: Sequence[int], contexts: int | None) -> SiteIndex:
    """The index of some features.

    Args:
        lives: of the chain.
        features: that the site holds, ascending.
        contexts: of each at each link that it holds; None: all.
    """
    n_links = len(lives.manifest.links)
    room = max(1, CONTEXTS_AT_MOST // max(1, len(features) * n_links))
    searched = min(contexts or lives.manifest.contexts, room)
    of_feature = np.asarray(features, np.int64)
    links = [_of_link(lives, link, of_feature, searched) for link in reversed(range(n_links))]
    places, owners, groups = (np.concatenate(parts) for parts in zip(*links, strict=True))
    of_links = np.repeat(np.arange(n_links)[::-1], [len(one[0]) for one in links])
    # A place of a feature that comes again, at an earlier link, is never the first one.
    n_places = lives.tokens.size
    _, firsts = np.unique(owners * n_places + places, return_index=True)
    kept = np.sort(firsts)
    tokens, stretches = _stretches(lives, np.unique(places))
    arrays = {
        **tokens,
        "context_tokens": _token_of(places[kept], stretches).astype(np.uint32),
        "context_features": owners[kept].astype(np.uint32),
        "context_links": of_links[kept].astype(np.uint16),
        "context_groups": groups[kept].astype(np.uint8),
    }
    return SiteIndex(arrays, None if searched >= lives.manifest.contexts else searched)


def held(
    groups: Int[np.ndarray, "features slots"], valid: Bool[np.ndarray, "features slots"], n: int
) -> Bool[np.ndarray, "features slots"]:
    """Which contexts are among the first n of each feature, of each group in turn."""
    ranks = np.zeros(groups.shape, np.int64)
    for group in np.unique(groups):
        of_group = (groups == group) & valid
        ranks[of_group] = (of_group.cumsum(axis=1) - 1)[of_group]
    keys = np.where(valid, ranks * 256 + groups, np.iinfo(np.int64).max)
    order = np.argsort(keys, axis=1, kind="stable")[:, :n]
    kept = np.zeros(groups.shape, bool)
    np.put_along_axis(kept, order, values=True, axis=1)
    return np.asarray(kept & valid)


def _of_link(
    lives: LifeStore, link: int, features: Int[np.ndarray, " kept"], n: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Place in the text, feature and group of the contexts of one link, in the answer's order."""
    rows, positions, groups = (
        np.asarray(lives.column(link, f"context_{name}")[features], np.int64)
        for name in ("rows", "positions", "groups")
    )
    fires = groups != lives.manifest.context_groups.index(SILENT)
    kept = held(groups, rows >= 0, n) & fires
    places = (rows * lives.tokens.shape[1] + positions)[kept]
    owners = np.broadcast_to(features[:, None], groups.shape)[kept]
    order = np.lexsort((owners, places, groups[kept]))
    return places[order], owners[order], groups[kept][order]


@dataclass(frozen=True)
class _Stretches:
    """Where stretches begin in the text and in the index' own tokens."""

    places: Int[np.ndarray, " stretches"]
    begins: Int[np.ndarray, " stretches"]


def _stretches(
    lives: LifeStore, places: Int[np.ndarray, " places"]
) -> tuple[dict[str, np.ndarray[Any, Any]], _Stretches]:
    """The tokens around some places, ascending, and where the stretches of them begin."""
    n_rows, context_size = lives.tokens.shape
    wanted = np.zeros(n_rows * context_size + 1, bool)
    row = places // context_size * context_size
    for shift in range(-BEFORE, AFTER + 1):
        at = places + shift
        wanted[at[(at >= row) & (at < row + context_size)]] = True
    kept = np.flatnonzero(wanted)
    is_first = np.diff(kept, prepend=-2) > 1
    is_first |= kept % context_size == 0  # a row ends a stretch
    begins = np.flatnonzero(is_first)
    first = kept[begins]
    kind = np.uint16 if lives.manifest.vocabulary <= 2**16 else np.uint32
    tokens = {
        "tokens": np.asarray(lives.tokens).reshape(-1)[kept].astype(kind),
        "stretch_begins": begins.astype(np.uint32),
        "stretch_rows": (first // context_size).astype(np.uint32),
        "stretch_positions": (first % context_size).astype(np.uint32),
    }
    return tokens, _Stretches(first, begins)


def _token_of(
    places: Int[np.ndarray, " contexts"], stretches: _Stretches
) -> Int[np.ndarray, " contexts"]:
    """The index' own tokens at some places of the text."""
    of = stretches.places.searchsorted(places, side="right") - 1
    found: Int[np.ndarray, " contexts"] = stretches.begins[of] + places - stretches.places[of]
    return found
