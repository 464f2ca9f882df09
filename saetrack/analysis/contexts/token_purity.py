"""Tokens as text, as stems, and how much of a list one of them makes up (appendix F)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray

# Pieces of words, as BPE cuts them, have no proper stem: those that begin alike count as one.
PREFIX_LETTERS = 4


@dataclass(frozen=True)
class VocabularyForms:
    """Which tokens of a vocabulary count as the same text, stem or beginning.

    Attributes:
        texts: the normalised texts: without blanks around them, lower case, (texts,).
        text_ids: of each token, its index in `texts`, (vocabulary,).
        stem_ids: of each token, the number of its stem (Snowball, English); what is no word is its
            own stem, (vocabulary,).
        prefix_ids: the same of its first four letters; a shorter word is its own, (vocabulary,).
    """

    texts: tuple[str, ...]
    text_ids: Int[ndarray, " vocabulary"]
    stem_ids: Int[ndarray, " vocabulary"]
    prefix_ids: Int[ndarray, " vocabulary"]


def vocabulary_forms(tokens: Sequence[str]) -> VocabularyForms:
    """Normalise a vocabulary.

    A token of blanks alone is not normalised: a line break is not a blank.
    """
    from snowballstemmer import stemmer  # of the extra [analysis]

    normalised = [token.strip().lower() or token for token in tokens]
    texts, text_ids = np.unique(np.array(normalised, dtype=object), return_inverse=True)
    words = [text for text in texts if text.isalpha()]
    stems = dict(zip(words, stemmer("english").stemWords(words), strict=True))
    prefixes = [
        text[:PREFIX_LETTERS] if text.isalpha() and len(text) >= PREFIX_LETTERS else text
        for text in texts
    ]
    return VocabularyForms(
        texts=tuple(texts),
        text_ids=text_ids,
        stem_ids=_numbers([stems.get(text, text) for text in texts])[text_ids],
        prefix_ids=_numbers(prefixes)[text_ids],
    )


def _numbers(names: Sequence[str]) -> Int[ndarray, " names"]:
    """Equal numbers for equal names."""
    return np.unique(np.array(names, dtype=object), return_inverse=True)[1]


class Purity(NamedTuple):
    """How pure lists of ids are.

    Attributes:
        share: of the commonest id; NaN for an empty list, (lists,).
        commonest: that id, of equally common ones the smallest; -1 for an empty list, (lists,).
        distinct: how many different ids, (lists,).
    """

    share: Float[ndarray, " lists"]
    commonest: Int[ndarray, " lists"]
    distinct: Int[ndarray, " lists"]


def purity(ids: Int[ndarray, "lists k"]) -> Purity:
    """How much of each list its commonest id makes up.

    Args:
        ids: of tokens, texts or stems; -1 fills up a shorter list.
    """
    lists, sizes = len(ids), (ids >= 0).sum(axis=1)
    width = int(ids.max(initial=0)) + 1
    of_list, _ = np.nonzero(ids >= 0)
    codes, counts = np.unique(of_list * width + ids[ids >= 0], return_counts=True)
    of_code, id_of_code = np.divmod(codes, width)
    order = np.lexsort((id_of_code, -counts, of_code))
    filled, first = np.unique(of_code[order], return_index=True)
    share, commonest = np.full(lists, np.nan), np.full(lists, -1)
    share[filled] = counts[order][first] / sizes[filled]
    commonest[filled] = id_of_code[order][first]
    return Purity(share, commonest, np.bincount(of_code, minlength=lists))


def mapped(
    ids: Int[ndarray, "lists k"], forms: Int[ndarray, " vocabulary"]
) -> Int[ndarray, "lists k"]:
    """Token ids as the numbers of their forms; -1 stays."""
    return np.where(ids >= 0, forms[ids], -1)
