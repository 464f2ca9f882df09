"""Which features have a text among their commonest tokens, or in their contexts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from saetrack.analysis.life_store.reader import LifeStore
    from saetrack.explorer.search_index import SearchIndex

LONGEST = 200  # characters of a query
LIMIT, LIMIT_AT_MOST = 50, 500


def search(lives: LifeStore, index: SearchIndex, query: str, limit: int) -> dict[str, Any]:
    """`search.json`.

    Args:
        lives: of a chain.
        index: of it.
        query: a text; case does not matter.
        limit: features of each kind, at most.
    """
    wanted = query.replace("\0", "").casefold()
    if not wanted.strip():
        return {"q": query, "tokens": [], "contexts": [], "truncated": False}
    tokens = _by_token(lives, index, wanted.strip(), limit + 1)
    contexts, more = _by_context(lives, index, wanted, limit + 1)
    return {
        "q": query,
        "tokens": tokens[:limit],
        "contexts": contexts[:limit],
        "truncated": more or len(tokens) > limit or len(contexts) > limit,
    }


def _by_token(lives: LifeStore, index: SearchIndex, bare: str, limit: int) -> list[dict[str, Any]]:
    holding = [token for token, text in enumerate(index.text.tokens) if bare in text]
    # A token that is the query itself comes before those that only hold it.
    exact = [token for token in holding if index.text.tokens[token].strip() == bare]
    found: dict[int, dict[str, Any]] = {}
    for some in (exact, holding):
        if len(found) >= limit:
            break
        for feature, token, links in index.tops.features(np.array(some, np.int64), limit):
            text = lives.vocabulary[token]
            found.setdefault(feature, {"feature": feature, "text": text, "links": links})
    return list(found.values())


def _by_context(
    lives: LifeStore, index: SearchIndex, wanted: str, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    covered, more = index.text.covered(wanted)
    found: dict[int, dict[str, Any]] = {}
    per_feature, context_size = lives.manifest.contexts, lives.tokens.shape[1]
    for link, slots, places in index.contexts.at(covered):
        features = slots // per_feature
        # The first context of each feature is its strongest one.
        _, firsts = np.unique(features, return_index=True)
        groups = lives.column(link, "context_groups").reshape(-1)
        for at in np.sort(firsts).tolist():
            row, position = divmod(int(places[at]), context_size)
            feature, group = int(features[at]), int(groups[slots[at]])
            first, ids = lives.window(row, position)
            context = {"row": row, "position": position, "group": group, "first": first, "ids": ids}
            found.setdefault(feature, {"feature": feature, "link": link, **context})
            if len(found) >= limit:
                return list(found.values()), more
    return list(found.values()), more


def as_json(value: Any) -> bytes:
    """JSON as short as it gets; a browser's parser takes no NaN, so neither does this."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
