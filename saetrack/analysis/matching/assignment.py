"""One-to-one assignment of features with the largest summed score.

Between small dictionaries all scores are held at once and the assignment is exact (scipy's
`linear_sum_assignment`). Two dictionaries of 65,536 features have 4 billion scores, 34 GB: there
the assignment is the best among candidates, the highest few scores of each row and of each column,
which are found in blocks of rows (scipy's `min_weight_full_bipartite_matching`). A row that the
candidates leave without a column is given one that is left over; `Assignment.outside` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching, min_weight_full_bipartite_matching

from saetrack.analysis.matching.scores import DENSE_PAIRS, Scores, blocks

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

CANDIDATES = 32


@dataclass(frozen=True)
class Assignment:
    """As many pairs as the smaller side has members, one to one.

    Attributes:
        rows: ascending, (pairs,).
        columns: the partner of each row, (pairs,).
        score: of each pair, (pairs,).
        runner_up: the best score that either of the two has with another, (pairs,); -inf if there
            is no other.
        outside: the pair is no candidate of either of its two, (pairs,): both had better ones, all
            of which went to others.
    """

    rows: Int[np.ndarray, " pairs"]
    columns: Int[np.ndarray, " pairs"]
    score: Float[np.ndarray, " pairs"]
    runner_up: Float[np.ndarray, " pairs"]
    outside: Bool[np.ndarray, " pairs"]

    def transposed(self) -> Assignment:
        """The same with rows and columns exchanged."""
        order = np.argsort(self.columns)
        parts = (self.columns, self.rows, self.score, self.runner_up, self.outside)
        return Assignment(*(part[order] for part in parts))


@torch.no_grad()
def assign(
    scores: Scores, candidates: int = CANDIDATES, dense_pairs: int = DENSE_PAIRS
) -> Assignment:
    """The assignment with the largest summed score, from one pass over all scores.

    Args:
        scores: of all pairs.
        candidates: per row and per column, where not all scores are held at once.
        dense_pairs: up to so many scores all of them are.
    """
    n_rows, n_columns = scores.shape
    if n_rows > n_columns:
        return assign(scores.T, candidates, dense_pairs).transposed()
    if n_rows == 0:
        none = np.zeros(0)
        return Assignment(none.astype(int), none.astype(int), none, none, none.astype(bool))
    # Two at least: a pair's runner-up is the second where the first is the partner.
    of_rows, of_columns = _highest(scores, max(candidates, 2))
    if n_rows * n_columns <= dense_pairs:
        dense = scores.rows(slice(None)).cpu().numpy()
        rows, columns = linear_sum_assignment(dense, maximize=True)
        score, outside = dense[rows, columns], np.zeros(n_rows, dtype=bool)
    else:
        pairs = _candidates(of_rows, of_columns, candidates, n_columns)
        rows, columns, score, outside = _assign_candidates(pairs, scores)
    runner_up = np.maximum(of_rows.best_other(rows, columns), of_columns.best_other(columns, rows))
    return Assignment(rows, columns, score, runner_up, outside)


class _Highest(NamedTuple):
    """The highest scores of each member of one side, descending, and the other side's members."""

    scores: Float[np.ndarray, "members count"]
    others: Int[np.ndarray, "members count"]

    def best_other(
        self, members: Int[np.ndarray, " pairs"], partners: Int[np.ndarray, " pairs"]
    ) -> Float[np.ndarray, " pairs"]:
        """The best score of each with another than its partner; -inf if there is no other."""
        best = np.pad(self.scores[members, :2], ((0, 0), (0, 1)), constant_values=-np.inf)
        return np.where(self.others[members, 0] == partners, best[:, 1], best[:, 0])


def _highest(scores: Scores, count: int) -> tuple[_Highest, _Highest]:
    """Each row's and each column's highest few scores, in one pass."""
    n_rows, n_columns = scores.shape
    # Whole from the start: small pieces that stay would keep the memory of each block from reuse.
    of_rows = torch.empty(n_rows, min(count, n_columns), dtype=torch.float64)
    columns = torch.empty_like(of_rows, dtype=torch.int64)
    best: tuple[Tensor, Tensor] | None = None
    for block, of_block in blocks(scores):
        of_rows[block], columns[block] = of_block.topk(of_rows.shape[1], dim=1)
        # Of columns: the best of what was there before and of this block.
        top, rows = of_block.topk(min(count, len(of_block)), dim=0)
        rows += block.start
        if best is not None:
            top, rows = torch.cat([best[0], top]), torch.cat([best[1], rows])
            top, index = top.topk(min(count, len(top)), dim=0)
            rows = rows.gather(0, index)
        best = top, rows
    assert best is not None
    return (
        _Highest(of_rows.numpy(), columns.numpy()),
        _Highest(best[0].T.cpu().double().numpy(), best[1].T.cpu().numpy()),
    )


class _Pairs(NamedTuple):
    """Pairs of rows and columns, each once, and their scores."""

    row: Int[np.ndarray, " pairs"]
    column: Int[np.ndarray, " pairs"]
    score: Float[np.ndarray, " pairs"]

    def matrix(self, values: Float[np.ndarray, " pairs"], shape: tuple[int, int]) -> csr_array:
        """Values of the pairs; none may be 0, which stands for no pair."""
        return csr_array((values, (self.row, self.column)), shape=shape)


def _candidates(of_rows: _Highest, of_columns: _Highest, count: int, n_columns: int) -> _Pairs:
    """The pairs that are among the highest of their row or of their column."""
    columns, rows = of_rows.others[:, :count], of_columns.others[:, :count]
    row = np.concatenate([np.repeat(np.arange(len(columns)), columns.shape[1]), rows.ravel()])
    column = np.concatenate([columns.ravel(), np.repeat(np.arange(len(rows)), rows.shape[1])])
    score = np.concatenate([side.scores[:, :count].ravel() for side in (of_rows, of_columns)])
    _, once = np.unique(row * n_columns + column, return_index=True)
    return _Pairs(row[once], column[once], score[once])


def _assign_candidates(
    candidates: _Pairs, scores: Scores
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns, scores, `outside` of the best assignment among candidates.

    What makes one possible is added to them.
    """
    added = _left_over_pairs(candidates, scores)
    pairs = _Pairs(*(np.concatenate(parts) for parts in zip(candidates, added, strict=True)))
    costs = pairs.matrix(pairs.score.max() + 1 - pairs.score, scores.shape)
    rows, columns = min_weight_full_bipartite_matching(costs)
    order = np.argsort(rows)
    rows, columns = rows[order].astype(np.int64), columns[order].astype(np.int64)
    numbers = pairs.matrix(np.arange(1.0, len(pairs.row) + 1), scores.shape)
    chosen = np.asarray(numbers[rows, columns]).ravel().astype(np.int64) - 1
    return rows, columns, pairs.score[chosen], chosen >= len(candidates.row)


def _left_over_pairs(candidates: _Pairs, scores: Scores) -> _Pairs:
    """A column for each row that the largest matching among the candidates leaves without one."""
    graph = candidates.matrix(np.ones(len(candidates.row)), scores.shape)
    partner = maximum_bipartite_matching(graph, perm_type="column")
    rows = np.flatnonzero(partner < 0)
    free = np.setdiff1d(np.arange(scores.shape[1]), partner[partner >= 0])
    columns = free[: len(rows)]
    found = [
        float(scores.rows(slice(int(row), int(row) + 1))[0, int(column)])
        for row, column in zip(rows, columns, strict=True)
    ]
    return _Pairs(rows, columns, np.array(found))
