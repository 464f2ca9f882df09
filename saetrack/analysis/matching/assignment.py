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

from saetrack.analysis.matching.scores import Scores, blocks

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

CANDIDATES = 32

DENSE_PAIRS = 2**24
"""Up to so many scores all are held at once: 0.13 GB in float64, some seconds at most."""


@dataclass(frozen=True)
class Assignment:
    """As many pairs as the smaller side has members, one to one.

    Attributes:
        rows: ascending, (pairs,).
        columns: the partner of each row, (pairs,).
        score: of each pair, (pairs,).
        outside: the pair is no candidate of either of its two, (pairs,): both had better ones, all
            of which went to others.
    """

    rows: Int[np.ndarray, " pairs"]
    columns: Int[np.ndarray, " pairs"]
    score: Float[np.ndarray, " pairs"]
    outside: Bool[np.ndarray, " pairs"]

    def transposed(self) -> Assignment:
        """The same with rows and columns exchanged."""
        order = np.argsort(self.columns)
        return Assignment(
            self.columns[order], self.rows[order], self.score[order], self.outside[order]
        )


@torch.no_grad()
def assign(
    scores: Scores, candidates: int = CANDIDATES, dense_pairs: int = DENSE_PAIRS
) -> Assignment:
    """The assignment with the largest summed score: of all pairs, or among candidates.

    Args:
        scores: of all pairs.
        candidates: per row and per column, where not all scores are held at once.
        dense_pairs: up to so many scores all of them are.
    """
    n_rows, n_columns = scores.shape
    if n_rows > n_columns:
        return assign(scores.T, candidates, dense_pairs).transposed()
    if n_rows == 0:
        nothing = np.zeros(0, dtype=int)
        return Assignment(nothing, nothing, nothing.astype(float), nothing.astype(bool))
    if n_rows * n_columns <= dense_pairs:
        dense = scores.rows(slice(None)).cpu().numpy()
        rows, columns = linear_sum_assignment(dense, maximize=True)
        return Assignment(rows, columns, dense[rows, columns], np.zeros(n_rows, dtype=bool))
    return _assign_candidates(_best_of_rows_and_columns(scores, candidates), scores)


class _Pairs(NamedTuple):
    """Pairs of rows and columns, each once, and their scores."""

    row: Int[np.ndarray, " pairs"]
    column: Int[np.ndarray, " pairs"]
    score: Float[np.ndarray, " pairs"]

    def matrix(self, values: Float[np.ndarray, " pairs"], shape: tuple[int, int]) -> csr_array:
        """Values of the pairs; none may be 0, which stands for no pair."""
        return csr_array((values, (self.row, self.column)), shape=shape)


def _assign_candidates(candidates: _Pairs, scores: Scores) -> Assignment:
    """The best assignment of all rows among candidates, and what makes one possible."""
    added = _left_over_pairs(candidates, scores)
    pairs = _Pairs(*(np.concatenate(parts) for parts in zip(candidates, added, strict=True)))
    costs = pairs.matrix(pairs.score.max() + 1 - pairs.score, scores.shape)
    rows, columns = min_weight_full_bipartite_matching(costs)
    order = np.argsort(rows)
    rows, columns = rows[order].astype(np.int64), columns[order].astype(np.int64)
    numbers = pairs.matrix(np.arange(1.0, len(pairs.row) + 1), scores.shape)
    chosen = np.asarray(numbers[rows, columns]).ravel().astype(np.int64) - 1
    return Assignment(rows, columns, pairs.score[chosen], chosen >= len(candidates.row))


def _best_of_rows_and_columns(scores: Scores, count: int) -> _Pairs:
    """Each row's and each column's highest few scores, in one pass."""
    n_columns = scores.shape[1]
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    best: tuple[Tensor, Tensor] | None = None
    for block, of_block in blocks(scores):
        numbers = torch.arange(block.start, block.stop, device=of_block.device)[:, None]
        top, column = of_block.topk(min(count, n_columns), dim=1)
        found.append((numbers.expand_as(column), column, top))
        # Of columns: the best of what was there before and of this block.
        seen = of_block, numbers.expand_as(of_block)
        if best is not None:
            seen = torch.cat([best[0], seen[0]]), torch.cat([best[1], seen[1]])
        top, index = seen[0].topk(min(count, len(seen[0])), dim=0)
        best = top, seen[1].gather(0, index)
    assert best is not None
    columns = torch.arange(n_columns, device=best[0].device).expand_as(best[1])
    found.append((best[1], columns, best[0]))
    rows, columns_of, score = (
        torch.cat([part.reshape(-1).cpu() for part in parts]).numpy()
        for parts in zip(*found, strict=True)
    )
    # A pair may be a candidate of its row and of its column.
    _, once = np.unique(rows.astype(np.int64) * n_columns + columns_of, return_index=True)
    return _Pairs(rows[once], columns_of[once], score[once])


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
