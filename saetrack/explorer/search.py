"""Which features have a text among their commonest tokens, or in their contexts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.exceptions import HTTPException

from saetrack.utils.errors import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saetrack.analysis.life_store.reader import LifeStore
    from saetrack.explorer.search_index import SearchIndex

LONGEST = 200  # characters of a query
LIMIT, LIMIT_AT_MOST = 50, 500
OFFSET_AT_MOST = 10**6
PARAMETERS = ("q", "limit", "offset")
BLANK = "\u00b7"  # pages write a blank at a token's end so
_NUMBER = re.compile(r"\s*(?:#|feature)?\s*([0-9]{1,9})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class AskedSearch:
    """A text, and which of the features that have it are wanted, of each kind.

    Attributes:
        query: case does not matter.
        limit: how many, at most.
        offset: how many before them are left out.
    """

    query: str
    limit: int = LIMIT
    offset: int = 0


def asked_search(given: Mapping[str, str]) -> AskedSearch:
    """What a request asks for, by its parameters.

    Raises:
        HTTPException: a parameter is unknown, or its value is not one that is allowed.
    """
    if unknown := [name for name in given if name not in PARAMETERS]:
        line = f"{shown(unknown[0])}: is no parameter; known: {', '.join(PARAMETERS)}"
        raise HTTPException(400, line)
    query = given.get("q", "")
    if len(query) > LONGEST:
        raise HTTPException(400, f"q: must have {LONGEST} characters or less")
    limit = _number("limit", given.get("limit", str(LIMIT)), 1, LIMIT_AT_MOST)
    return AskedSearch(query, limit, _number("offset", given.get("offset", "0"), 0, OFFSET_AT_MOST))


def _number(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and least <= int(text[:9]) <= most):
        line = f"{name}={shown(text)}: must be a number from {least} to {most}"
        raise HTTPException(400, line)
    return int(text)


def search(lives: LifeStore, index: SearchIndex, asked: AskedSearch) -> dict[str, Any]:
    """`search.json`.

    Args:
        lives: of a chain.
        index: of it.
        asked: what is looked for.
    """
    wanted = asked.query.replace("\0", "").casefold()
    found = _found(lives, index, asked, wanted)
    if BLANK in wanted and not any(found["total"].values()):
        found = _found(lives, index, asked, wanted.replace(BLANK, " "))
    number = _NUMBER.fullmatch(asked.query)
    feature = int(number[1]) if number else lives.manifest.d_sae
    return {
        "q": asked.query,
        "feature": feature if feature < lives.manifest.d_sae else None,
        "offset": asked.offset,
        **found,
    }


def _found(lives: LifeStore, index: SearchIndex, asked: AskedSearch, wanted: str) -> dict[str, Any]:
    if not wanted.strip():
        total = {"tokens": 0, "contexts": 0}
        return {"tokens": [], "contexts": [], "total": total, "truncated": False}
    tokens, n_tokens = _by_token(lives, index, wanted.strip(), asked)
    contexts, n_contexts, has_more = _by_context(lives, index, wanted, asked)
    shown_to = asked.offset + asked.limit
    return {
        "tokens": tokens,
        "contexts": contexts,
        "total": {"tokens": n_tokens, "contexts": n_contexts},
        "truncated": has_more or max(n_tokens, n_contexts) > shown_to,
    }


def _by_token(
    lives: LifeStore, index: SearchIndex, bare: str, asked: AskedSearch
) -> tuple[list[dict[str, Any]], int]:
    """Those that are asked for, and how many there are."""
    holding = [token for token, text in enumerate(index.text.tokens) if bare in text]
    # A token that is the query itself comes before those that only hold it.
    exact = [token for token in holding if index.text.tokens[token].strip() == bare]
    found: dict[int, dict[str, Any]] = {}
    last, total = asked.offset + asked.limit, 0
    for some in (exact, holding):
        features, total = index.tops.features(np.array(some, np.int64), last)
        for feature, token, links in features:
            text = lives.vocabulary[token]
            found.setdefault(feature, {"feature": feature, "text": text, "links": links})
    return list(found.values())[asked.offset : last], total


def _by_context(
    lives: LifeStore, index: SearchIndex, wanted: str, asked: AskedSearch
) -> tuple[list[dict[str, Any]], int, bool]:
    """Those that are asked for, how many there are, and whether not all of the text was read."""
    covered, has_more = index.text.covered(wanted)
    per_feature, context_size = lives.manifest.contexts, lives.tokens.shape[1]
    is_known, total = np.zeros(lives.manifest.d_sae, bool), 0
    found: list[dict[str, Any]] = []
    for link, slots, places in index.contexts.at(covered):
        features = slots // per_feature
        begin, end = (max(0, at - total) for at in (asked.offset, asked.offset + asked.limit))
        if end:  # there is room; the others are counted
            groups = lives.column(link, "context_groups").reshape(-1)
            new = np.flatnonzero(~is_known[features])
            new = new[np.argsort(groups[slots[new]], kind="stable")]
            # The first context of each feature is its strongest one.
            new = new[np.sort(np.unique(features[new], return_index=True)[1])]
            for at in new[begin:end].tolist():
                row, position = divmod(int(places[at]), context_size)
                of = {"feature": int(features[at]), "link": link, "row": row, "position": position}
                first, ids = lives.window(row, position)
                found.append({**of, "group": int(groups[slots[at]]), "first": first, "ids": ids})
        is_known[features] = True
        total = int(np.count_nonzero(is_known))
    return found, total, has_more


def as_json(value: Any) -> bytes:
    """JSON as short as it gets; a browser's parser takes no NaN, so neither does this."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
