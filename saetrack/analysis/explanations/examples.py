"""Which contexts explain a feature, and by which an explanation is judged.

All come from the life store: the strongest contexts of a link, some of each quarter of its
activations, and some positions where the feature does not fire. Of each group every second context
explains; the others judge. A row of text that has explained judges at no link.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saetrack.analysis.life_store.layout import GROUPS

if TYPE_CHECKING:
    from saetrack.analysis.life_store.reader import LifeStore

# Tokens of a text that is judged, before and behind the one that the context was chosen for.
BEFORE, AFTER = 10, 5
LENGTH = BEFORE + 1 + AFTER
# Texts of either kind that a score needs at least.
MIN_TEXTS = 3
# A feature is marked on the tokens where it is this strong, beside the context's own token.
MARKED_SHARE = 0.5
SILENT = GROUPS.index("silent")
# Other features that are looked at for texts on which one may be silent.
TRIED_FEATURES = 64


@dataclass(frozen=True)
class Text:
    """Tokens that stand one behind another in the analysed text.

    Attributes:
        row: of the analysed text.
        first: position of the first token in its row.
        ids: of the tokens.
        marks: which tokens are marked.
        strength: of the feature on the context's own token, over its largest one, 0 to 1.
    """

    row: int
    first: int
    ids: tuple[int, ...]
    marks: tuple[bool, ...]
    strength: float = 0.0

    def marked(self, marks: Sequence[bool]) -> Text:
        """The same text with other marks."""
        return Text(self.row, self.first, self.ids, tuple(marks), self.strength)


@dataclass(frozen=True)
class Judged:
    """The texts by which an explanation is judged at one link.

    Attributes:
        firing: the feature fires on them; where it does is marked.
        silent: as many, or fewer, on which it does not fire; nothing is marked.
        unknown: of the silent ones, how many come from other features: that this one does not fire
            on them is likely and not known.
    """

    firing: tuple[Text, ...]
    silent: tuple[Text, ...]
    unknown: int


class LinkContexts:
    """The contexts of one feature at one link."""

    def __init__(self, store: LifeStore, feature: int, link: int) -> None:
        """Read them.

        Raises:
            UserError: there is no such feature or link.
        """
        self.feature = feature
        counts = [0] * len(GROUPS)
        self._found = []
        for context in store.contexts(feature, link):
            self._found.append({**context, "explains": counts[context["group"]] % 2 == 0})
            counts[context["group"]] += 1

    def explaining(self) -> tuple[Text, ...]:
        """The contexts that are shown to whoever explains, the strongest first."""
        chosen = [one for one in self._firing() if one["explains"]]
        chosen.sort(key=lambda one: -one["act"])
        return tuple(
            _text(one, 0, len(one["ids"])).marked(_marks(one, 0, len(one["ids"]))) for one in chosen
        )

    def firing(self, seen: Collection[int]) -> tuple[Text, ...]:
        """The contexts that judge, cut to their surroundings.

        Args:
            seen: rows of text that have explained.
        """
        found = []
        for one in self._firing():
            if one["explains"] or one["row"] in seen:
                continue
            begin, end = _around(one)
            found.append(_text(one, begin, end).marked(_marks(one, begin, end)))
        return tuple(found)

    def silent(self, seen: Collection[int]) -> Iterator[Text]:
        """Texts on which the feature is known not to fire: around silent positions, then others.

        The others are parts of contexts in which it fires elsewhere, one of each context.
        """
        at_own, elsewhere = [], []
        for one in self._found:
            if one["row"] in seen:
                continue
            begin, end = _around(one)
            if one["group"] == SILENT and not any(one["acts"][begin:end]):
                at_own.append(_text(one, begin, end))
            elif (quiet := _quiet(one["acts"])) is not None:
                elsewhere.append(_text(one, quiet, quiet + LENGTH))
        yield from at_own
        yield from elsewhere

    def rows(self) -> set[int]:
        """Rows in which the feature is known to fire."""
        return {one["row"] for one in self._firing()}

    def _firing(self) -> list[dict[str, Any]]:
        return [one for one in self._found if one["group"] != SILENT and (one["act"] or 0) > 0]


def judged_texts(
    store: LifeStore, feature: int, link: int, seen: Collection[int], others: Sequence[int]
) -> Judged:
    """The texts by which an explanation of a feature is judged at a link.

    Args:
        store: of the chain.
        feature: that is explained.
        link: where it is judged.
        seen: rows of text that have explained it.
        others: features whose contexts fill up what is too few, in this order.

    Returns:
        No text at all where there are too few of either kind.
    """
    own = LinkContexts(store, feature, link)
    firing = own.firing(seen)
    if len(firing) < MIN_TEXTS:
        return Judged((), (), 0)
    silent = _apart(own.silent(seen), len(firing))
    known = len(silent)
    taken = {*seen, *own.rows(), *(text.row for text in silent)}
    for other in others[:TRIED_FEATURES]:
        if len(silent) >= len(firing):
            break
        near = LinkContexts(store, other, link).firing(taken) if other != feature else ()
        if near:
            silent.append(near[0].marked([False] * len(near[0].ids)))
            taken.add(near[0].row)
    if len(silent) < MIN_TEXTS:
        return Judged((), (), 0)
    return Judged(firing, tuple(silent), len(silent) - known)


def wrongly_marked(text: Text, seed: Sequence[int]) -> Text | None:
    """The same text with as many marks on tokens that had none; None if none is left.

    Args:
        text: with its marks.
        seed: of the choice.
    """
    free = [number for number, mark in enumerate(text.marks) if not mark]
    count = min(sum(text.marks), len(free))
    if count == 0:
        return None
    chosen = set(np.random.default_rng(seed).permutation(free)[:count].tolist())
    return text.marked([number in chosen for number in range(len(text.ids))])


def _apart(texts: Iterator[Text], count: int) -> list[Text]:
    """The first texts that share no token with each other."""
    found: list[Text] = []
    for text in texts:
        if len(found) == count:
            break
        if not any(text.row == one.row and abs(text.first - one.first) < LENGTH for one in found):
            found.append(text)
    return found


def _around(one: dict[str, Any]) -> tuple[int, int]:
    """Where the surroundings of a context's own token begin and end, in its window."""
    own = one["position"] - one["first"]
    return max(own - BEFORE, 0), min(own + AFTER + 1, len(one["ids"]))


def _quiet(acts: Sequence[int]) -> int | None:
    """Where the first part of a window begins in which the feature does not fire."""
    length = 0
    for number, act in enumerate(acts):
        length = 0 if act else length + 1
        if length == LENGTH:
            return number + 1 - LENGTH
    return None


def _text(one: dict[str, Any], begin: int, end: int) -> Text:
    own = one["position"] - one["first"]
    ids = tuple(one["ids"][begin:end])
    strength = one["acts"][own] / 255
    return Text(one["row"], one["first"] + begin, ids, (False,) * len(ids), strength)


def _marks(one: dict[str, Any], begin: int, end: int) -> list[bool]:
    own = one["acts"][one["position"] - one["first"]]
    return [act > 0 and act >= MARKED_SHARE * own for act in one["acts"][begin:end]]
