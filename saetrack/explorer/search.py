"""Which features have a text among their commonest tokens, or in their contexts."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int

    from saetrack.analysis.life_store.reader import LifeStore

SILENT = "silent"  # the group of contexts in which a feature does not fire
LONGEST = 200  # characters of a query
FOUND_AT_MOST = 20_000  # places in the text that are looked at
LIMIT, LIMIT_AT_MOST = 50, 500


class TextIndex:
    """The analysed text as one string, and where in it each token begins.

    It takes a few bytes per character of the text, and is searched by the string's own `find`.
    """

    def __init__(self, lives: LifeStore) -> None:
        """Make it: a fraction of a second for a million tokens."""
        folded = [text.casefold() for text in lives.vocabulary]
        lengths = np.array([len(text) for text in folded], np.int64)
        self._context_size = lives.tokens.shape[1]
        # A character that no query holds ends each row.
        rows = ["".join(map(folded.__getitem__, row.tolist())) for row in lives.tokens]
        self._text = "\0".join(rows)
        ends = lengths[lives.tokens].cumsum(axis=1)
        begins = np.concatenate([[0], (ends[:, -1] + 1).cumsum()[:-1]])
        starts = ends - lengths[lives.tokens] + begins[:, None]
        self._starts = starts.ravel().astype(np.uint32 if starts.max() < 2**32 else np.int64)
        self.tokens = folded

    def spans(self, query: str) -> tuple[Int[np.ndarray, "found 2"], bool]:
        """The tokens that a text covers wherever it stands: row and position of each.

        Returns:
            Them, and whether there are more.
        """
        wanted = query.casefold()
        at = self._text.find(wanted)
        firsts: list[int] = []
        while at >= 0 and len(firsts) < FOUND_AT_MOST:
            firsts.append(at)
            at = self._text.find(wanted, at + 1)
        begins = np.array(firsts, np.int64)
        # The token that holds a character is the last one that begins no later.
        first = self._starts.searchsorted(begins, side="right") - 1
        last = self._starts.searchsorted(begins + len(wanted) - 1, side="right") - 1
        widest = int((last - first).max(initial=-1)) + 1
        covered = first[:, None] + np.arange(widest)
        found = np.unique(covered[covered <= last[:, None]])
        return np.stack(divmod(found, self._context_size), axis=1), at >= 0


def search(lives: LifeStore, index: TextIndex, query: str, limit: int) -> dict[str, Any]:
    """`search.json`.

    Args:
        lives: of a chain.
        index: of its text.
        query: a text; case does not matter.
        limit: features of each kind, at most.
    """
    wanted = query.replace("\0", "").casefold()
    if not wanted.strip():
        return {"q": query, "tokens": [], "contexts": [], "truncated": False}
    bare = wanted.strip()
    ids = [token for token, text in enumerate(index.tokens) if bare in text]
    # A token that is the query itself comes before those that only hold it.
    exact = [token for token in ids if index.tokens[token].strip() == bare]
    by_token: dict[int, tuple[int, list[int]]] = {}
    for some in (exact, ids):
        for feature, token, links in lives.features_with_token(some):
            by_token.setdefault(feature, (token, links))
            if len(by_token) > limit:
                break
    spans, more = index.spans(wanted)
    by_context: dict[int, Any] = {}
    silent = lives.manifest.context_groups.index(SILENT)
    if len(spans):
        for found in lives.features_in_rows(spans, 1):
            if found.group == silent:
                continue
            by_context.setdefault(found.feature, found)
            if len(by_context) > limit:
                break
    return {
        "q": query,
        "tokens": [
            {"feature": feature, "text": lives.vocabulary[token], "links": links}
            for feature, (token, links) in islice(by_token.items(), limit)
        ],
        "contexts": [found._asdict() for found in islice(by_context.values(), limit)],
        "truncated": more or len(by_token) > limit or len(by_context) > limit,
    }


def as_json(value: Any) -> bytes:
    """JSON as short as it gets; a browser's parser takes no NaN, so neither does this."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
