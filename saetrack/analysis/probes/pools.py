"""What a probe learns from and is tested on: balanced examples of a task, and splits of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saetrack.analysis.probes.token_labels import TASKS, row_labels

if TYPE_CHECKING:
    from jaxtyping import Bool, Int
    from numpy import ndarray

# Token texts that are looked at for labels, at most: a second of work.
SCANNED_TOKENS = 262_144
# Rows that follow each other may be of one document: so many are of one part of a split.
ROWS_TOGETHER = 4
# Of a class, no token makes up more than this share.
MAX_SHARE_OF_TOKEN = 0.02
# A split has as many examples of each class in each of its parts, or the task is left out.
MIN_OF_CLASS = 20
TEST_SHARE, NEW_TOKENS_SHARE = 1 / 3, 1 / 3

KNOWN, NEW, TEXTS = "known tokens", "new tokens", "texts"


@dataclass(frozen=True)
class Pool:
    """Examples of one task.

    Attributes:
        task: its name.
        labels: of each example, (examples,).
        groups: those of one group are never on both sides of a split, (examples,).
        tokens: the token of each example, (examples,); None if examples are whole texts.
    """

    task: str
    labels: Bool[ndarray, " examples"]
    groups: Int[ndarray, " examples"]
    tokens: Int[ndarray, " examples"] | None = None


@dataclass(frozen=True)
class TokenPool:
    """Examples of a task that are positions in rows of text.

    Attributes:
        pool: the task; its groups are of neighbouring rows.
        rows: of each example, (examples,).
        positions: in the row, (examples,).
    """

    pool: Pool
    rows: Int[ndarray, " examples"]
    positions: Int[ndarray, " examples"]


@dataclass(frozen=True)
class Split:
    """Examples of a pool by what they are for; in each part both classes are equally many.

    Attributes:
        train: what a probe learns from, ascending.
        tests: what it is tested on, by `KNOWN` (tokens that training had, in other rows), `NEW`
            (tokens that it had not), or `TEXTS`; ascending.
    """

    train: Int[ndarray, " train"]
    tests: dict[str, Int[ndarray, " test"]]


def token_pools(
    token_rows: Int[ndarray, "rows context"],
    kept: Bool[ndarray, "rows context"],
    texts: Sequence[str | None],
    size: int,
    seed: int,
) -> list[TokenPool]:
    """The examples of each task that a text has; of a task that it lacks, few or none.

    Args:
        token_rows: of the text.
        kept: positions that may be taken.
        texts: of each token of the vocabulary, None for special ones.
        size: examples of a task, both classes together, at most.
        seed: of the draws.
    """
    generator = np.random.default_rng([seed, 0])
    scanned = generator.permutation(len(token_rows))[: SCANNED_TOKENS // token_rows.shape[1]]
    labels = np.full((len(TASKS), *token_rows.shape), -1, np.int8)
    for row in scanned:
        found = row_labels([texts[token] for token in token_rows[row]])
        for position, of_token in enumerate(found):
            for task, label in of_token.items():
                labels[TASKS.index(task), row, position] = label
    labels[:, ~kept] = -1
    return [
        _token_pool(task, of_task, token_rows, size, seed)
        for task, of_task in zip(TASKS, labels, strict=True)
    ]


def _token_pool(
    task: str,
    labels: Int[ndarray, "rows context"],
    token_rows: Int[ndarray, "rows context"],
    size: int,
    seed: int,
) -> TokenPool:
    generator = np.random.default_rng([seed, _code(task)])
    classes = []
    for label in (0, 1):
        at = generator.permutation(np.flatnonzero(labels == label))
        tokens = token_rows.reshape(-1)[at]
        at = at[_rank_among_equals(tokens) < max(1, round(MAX_SHARE_OF_TOKEN * size / 2))]
        classes.append(at)
    of_class = min(size // 2, *(len(at) for at in classes))
    examples = np.sort(np.concatenate([at[:of_class] for at in classes]))
    rows, positions = np.divmod(examples, token_rows.shape[1])
    tokens = token_rows[rows, positions].astype(np.int64)
    pool = Pool(task, labels[rows, positions] == 1, rows // ROWS_TOGETHER, tokens)
    return TokenPool(pool, rows, positions)


def text_pool(
    task: str, texts: Sequence[str], labels: Bool[ndarray, " texts"], size: int, seed: int
) -> tuple[Pool, Int[ndarray, " examples"]]:
    """The examples of a task whose examples are whole texts, and which of the texts they are.

    Equal texts are of one group.
    """
    generator = np.random.default_rng([seed, _code(task)])
    classes = [generator.permutation(np.flatnonzero(labels == of)) for of in (False, True)]
    of_class = min(size // 2, *map(len, classes))
    chosen = np.sort(np.concatenate([of[:of_class] for of in classes]))
    numbers: dict[str, int] = {}
    groups = [numbers.setdefault(texts[number], len(numbers)) for number in chosen]
    return Pool(task, labels[chosen], np.array(groups, np.int64)), chosen


def split(pool: Pool, seed: int) -> Split:
    """One split of a pool; each part is balanced by leaving examples out at random."""
    generator = np.random.default_rng([seed, _code(pool.task), 1])
    in_test = _some(pool.groups, TEST_SHARE, generator)
    if pool.tokens is None:
        parts = {"train": ~in_test, TEXTS: in_test}
    else:
        new = _some(pool.tokens, NEW_TOKENS_SHARE, generator)
        parts = {"train": ~in_test & ~new, KNOWN: in_test & ~new, NEW: in_test & new}
    found = {name: _balanced(pool.labels, part, generator) for name, part in parts.items()}
    return Split(found.pop("train"), found)


def why_left_out(pool: Pool, seeds: Sequence[int]) -> str:
    """Why a task cannot be asked about, in half a line; empty if it can."""
    for seed in seeds:
        of_seed = split(pool, seed)
        for name, part in {"training": of_seed.train, **of_seed.tests}.items():
            if len(part) < 2 * MIN_OF_CLASS:
                return f"{len(part) // 2} of a class for {name}, fewer than {MIN_OF_CLASS}"
    return ""


def shuffled(pool: Pool, of_seed: Split, seed: int) -> Bool[ndarray, " examples"]:
    """A control: labels that say nothing; in each part of a split both are as many as they were."""
    generator = np.random.default_rng([seed, _code(pool.task), 2])
    labels = pool.labels.copy()
    for part in (of_seed.train, *of_seed.tests.values()):
        labels[part] = generator.permutation(labels[part])
    return labels


def drawn_features(
    live: Int[ndarray, " live"], d_sae: int, count: int, task: str, seed: int
) -> Int[ndarray, " drawn"]:
    """A control: some live features; the same at each link for as long as they are live."""
    order = np.random.default_rng([seed, _code(task), 3]).permutation(d_sae)
    return order[np.isin(order, live)][:count]


def _code(task: str) -> int:
    return zlib.crc32(task.encode())


def _some(
    groups: Int[ndarray, " examples"], share: float, generator: np.random.Generator
) -> Bool[ndarray, " examples"]:
    """The examples of a share of the groups."""
    names = np.unique(groups)
    return np.isin(groups, generator.permutation(names)[: round(share * len(names))])


def _balanced(
    labels: Bool[ndarray, " examples"],
    part: Bool[ndarray, " examples"],
    generator: np.random.Generator,
) -> Int[ndarray, " kept"]:
    classes = [generator.permutation(np.flatnonzero(part & (labels == of))) for of in (False, True)]
    fewest = min(map(len, classes))
    return np.sort(np.concatenate([of[:fewest] for of in classes]))


def _rank_among_equals(values: Int[ndarray, " values"]) -> Int[ndarray, " values"]:
    """How many equal values stand before each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return ranks
