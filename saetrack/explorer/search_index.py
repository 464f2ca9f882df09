"""What makes a search quick: a chain's text, commonest tokens and contexts, sorted once.

It is made in seconds for 65,536 features at 29 links. Its largest part, the contexts, is
kept in a file without a name, which the operating system takes back with the process.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int

    from saetrack.analysis.life_store.reader import LifeStore

SILENT = "silent"  # the group of contexts in which a feature does not fire
FOUND_AT_MOST = 20_000  # places in the text that are looked at
TOKENS_OF_BLOCK = 8


class TextIndex:
    """The analysed text as one string, and where in it each token begins.

    It takes a few bytes per character of the text, and is searched by the string's own `find`.

    Attributes:
        tokens: the text of each token id, without case.
    """

    def __init__(self, lives: LifeStore) -> None:
        """Make it: a fraction of a second for a million tokens."""
        self.tokens = [text.casefold() for text in lives.vocabulary]
        lengths = np.array([len(text) for text in self.tokens], np.int64)
        # A character that no query holds ends each row.
        self._text = "\0".join(
            "".join(map(self.tokens.__getitem__, row.tolist())) for row in lives.tokens
        )
        of_tokens = lengths[lives.tokens]
        ends = of_tokens.cumsum(axis=1)
        begins = np.concatenate([[0], (ends[:, -1] + 1).cumsum()[:-1]])
        starts = (ends - of_tokens + begins[:, None]).ravel()
        self._starts = starts.astype(np.uint32 if starts.max(initial=0) < 2**32 else np.int64)

    def covered(self, wanted: str) -> tuple[Int[np.ndarray, " found"], bool]:
        """The tokens that a text covers wherever it stands, by their number in the whole text.

        Returns:
            Them, ascending, and whether there are more.
        """
        firsts: list[int] = []
        at = self._text.find(wanted)
        while at >= 0 and len(firsts) < FOUND_AT_MOST:
            firsts.append(at)
            at = self._text.find(wanted, at + 1)
        begins = np.array(firsts, self._starts.dtype)
        # The token that holds a character is the last one that begins no later.
        first = self._starts.searchsorted(begins, side="right") - 1
        begins += len(wanted) - 1
        last = self._starts.searchsorted(begins, side="right") - 1
        widest = int((last - first).max(initial=-1)) + 1
        covered = first[:, None] + np.arange(widest)
        return np.unique(covered[covered <= last[:, None]]), at >= 0


class TopTokens:
    """The commonest token of each feature at each link."""

    def __init__(self, lives: LifeStore) -> None:
        """Sort them by token."""
        self._n_links = len(lives.manifest.links)
        self._d_sae = lives.manifest.d_sae
        tops = [lives.column(link, "top_token") for link in range(self._n_links)]
        of_all = np.stack(tops, axis=1).ravel()
        self._order = np.argsort(of_all, kind="stable").astype(np.uint32)
        self._tokens = of_all[self._order]

    def features(
        self, token_ids: Int[np.ndarray, " ids"], limit: int
    ) -> tuple[list[tuple[int, int, list[int]]], int]:
        """Features that have one of some tokens, those at most links first, and how many there are.

        Returns:
            Of at most `limit` of them feature, token (of the last link that has one), and the links
            that have one; and the number of all.
        """
        wanted_ids = token_ids.astype(self._tokens.dtype)
        at = _in_ranges(
            *(self._tokens.searchsorted(wanted_ids, side) for side in ("left", "right"))
        )
        features, links = np.divmod(self._order[at].astype(np.int64), self._n_links)
        counts = np.bincount(features, minlength=self._d_sae)
        total = int((counts > 0).sum())
        best = np.argsort(-counts, kind="stable")[: min(limit, total)]
        wanted = np.zeros(self._d_sae, bool)
        wanted[best] = True
        kept = wanted[features]
        found: dict[int, list[tuple[int, int]]] = {}
        columns = features[kept].tolist(), links[kept].tolist(), self._tokens[at[kept]].tolist()
        for feature, link, token in zip(*columns, strict=True):
            found.setdefault(feature, []).append((link, token))
        ordered = [(feature, sorted(found[feature])) for feature in best.tolist()]
        return [(one, pairs[-1][1], [link for link, _ in pairs]) for one, pairs in ordered], total


class ContextIndex:
    """All contexts in which a feature fires, of each link sorted by their place in the text.

    Where the contexts of a few tokens begin is kept too: looking up is quicker than searching.
    """

    def __init__(self, lives: LifeStore) -> None:
        """Sort them: a tenth of a second for a million."""
        silent = lives.manifest.context_groups.index(SILENT)
        self._n_places = lives.tokens.size
        n_rows, context_size = lives.tokens.shape
        kind = np.uint32 if self._n_places < 2**32 else np.uint64
        blocks = np.arange(0, self._n_places + TOKENS_OF_BLOCK, TOKENS_OF_BLOCK)
        sizes = []
        with tempfile.TemporaryFile() as file:
            for link in range(len(lives.manifest.links)):
                rows, positions, groups = (
                    lives.column(link, f"context_{name}").reshape(-1)
                    for name in ("rows", "positions", "groups")
                )
                is_there = (rows >= 0) & (rows < n_rows) & (positions < context_size)
                slots = np.flatnonzero(is_there & (groups != silent)).astype(np.uint32)
                in_text = rows[slots].astype(np.int64) * context_size + positions[slots]
                places = in_text.astype(kind)
                order = np.argsort(places, kind="stable")
                begins = places[order].searchsorted(blocks.astype(kind)).astype(np.uint32)
                for part in (places[order], slots[order], begins):
                    file.write(part.tobytes())
                sizes.append(len(slots))
            file.flush()
            self.mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._sorted, offset = [], 0
        for size in sizes:
            parts = []
            for dtype, length in ((kind, size), (np.uint32, size), (np.uint32, len(blocks))):
                parts.append(np.frombuffer(self.mapped, dtype, length, offset))
                offset += parts[-1].nbytes
            self._sorted.append(parts)

    def at(
        self, covered: Int[np.ndarray, " found"]
    ) -> Iterator[tuple[int, Int[np.ndarray, " slots"], Int[np.ndarray, " slots"]]]:
        """Contexts whose own token is one of some, the last link first.

        Yields:
            The link; of each context its number among those of the link; its token's number.
        """
        is_covered = np.zeros(self._n_places, bool)
        is_covered[covered] = True
        blocks = np.unique(covered // TOKENS_OF_BLOCK)
        for link in reversed(range(len(self._sorted))):
            places, slots, begins = self._sorted[link]
            near = _in_ranges(begins[blocks], begins[blocks + 1])
            at = near[is_covered[places[near]]]
            yield link, slots[at], places[at]


class SearchIndex:
    """All that a search needs of a chain."""

    def __init__(self, lives: LifeStore) -> None:
        """Make it."""
        self.text = TextIndex(lives)
        self.tops = TopTokens(lives)
        self.contexts = ContextIndex(lives)


def _in_ranges(
    firsts: Int[np.ndarray, " ranges"], ends: Int[np.ndarray, " ranges"]
) -> Int[np.ndarray, " numbers"]:
    """The numbers of some ranges, one behind another."""
    counts = ends.astype(np.int64) - firsts
    lasts = counts.cumsum()
    return np.repeat(firsts - (lasts - counts), counts) + np.arange(counts.sum())
