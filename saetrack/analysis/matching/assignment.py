"""One-to-one assignment with the largest summed score, without the matrix of all scores.

Between two dictionaries of 65,536 features there are 4 billion scores: 34 GB. Here they exist in
blocks of rows. An assignment is searched among candidates, each row's and each column's best few,
exactly (shortest augmenting paths on the sparse graph, scipy). Whether it is also the best of all
pairs is then checked against all of them: with prices p >= 0 on the columns, no assignment can
exceed

    sum over rows i of  max_j (s_ij - p_j)   +   sum over columns j of  p_j      (linear programming
                                                                                  duality)

for the prices that the assignment itself implies. Pairs that would improve on it come to light in
the same pass; they join the candidates, and it starts over. When there are none, bound and sum are
equal: the result IS the dense exact assignment (which of several equally good ones is open). If it
does not end within the given rounds, `gap` says how much might be missing at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching, min_weight_full_bipartite_matching

from saetrack.analysis.matching.scores import Scores, blocks

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

# New candidates per row and round.
PRICED_IN = 8
# Of one pair's score: below, it is rounding.
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Assignment:
    """As many pairs as the smaller side has members, one to one.

    Attributes:
        rows: ascending, (pairs,).
        columns: each one's partner, (pairs,).
        score: of each pair, (pairs,).
        gap: what the best assignment of all could have more in sum, at most; 0 up to rounding if
            this is it.
        exact: the gap is rounding: no other assignment has a larger sum.
        candidates: pairs that were looked at in the end.
        rounds: how often the candidates were assigned.
    """

    rows: Int[np.ndarray, " pairs"]
    columns: Int[np.ndarray, " pairs"]
    score: Float[np.ndarray, " pairs"]
    gap: float
    exact: bool
    candidates: int
    rounds: int


class _Graph(NamedTuple):
    """Candidates: pairs by row, then column, and their scores."""

    row: Int[np.ndarray, " edges"]
    column: Int[np.ndarray, " edges"]
    score: Float[np.ndarray, " edges"]


@torch.no_grad()
def assign(scores: Scores, candidates: int = 32, rounds: int = 30) -> Assignment:
    """The assignment with the largest summed score, and a proof of it or a bound.

    Args:
        scores: of all pairs.
        candidates: per row and per column, to begin with.
        rounds: at most so many assignments; each is followed by a pass over all scores.
    """
    if scores.shape[0] > scores.shape[1]:
        found = assign(scores.T, candidates, rounds)
        order = np.argsort(found.columns)
        return Assignment(
            found.columns[order],
            found.rows[order],
            found.score[order],
            *(found.gap, found.exact, found.candidates, found.rounds),
        )
    n_rows, n_columns = scores.shape
    if n_rows == 0:
        nothing = np.zeros(0, dtype=int)
        return Assignment(nothing, nothing, nothing.astype(float), 0.0, True, 0, 0)
    graph = _completed(_best_candidates(scores, candidates), scores)
    for done in range(1, rounds + 1):
        columns, matched = _assign_candidates(graph, scores.shape)
        prices = _prices(graph, columns, matched, n_columns)
        bound, better = _price(scores, columns, matched, prices)
        gap = max(0.0, bound - float(matched.sum()))
        if not len(better.row):
            break
        if done < rounds:
            graph = _joined(graph, better, n_columns)
    return Assignment(
        rows=np.arange(n_rows),
        columns=columns,
        score=matched,
        gap=gap,
        exact=gap <= TOLERANCE * n_rows,
        candidates=len(graph.row),
        rounds=done,
    )


def _best_candidates(scores: Scores, count: int) -> _Graph:
    """Each row's and each column's best few, in one pass."""
    n_columns = scores.shape[1]
    by_row, best = [], None
    for block, values in blocks(scores):
        offset = torch.arange(block.start, block.stop, device=values.device)
        top, column = values.topk(min(count, n_columns), dim=1)
        by_row.append(_edges(offset[:, None].expand_as(column), column, top))
        # Columns: the best of what was there so far and of this block.
        here = values, offset[:, None].expand_as(values)
        if best is not None:
            here = torch.cat([best[0], here[0]]), torch.cat([best[1], here[1]])
        top, place = here[0].topk(min(count, len(here[0])), dim=0)
        best = top, here[1].gather(0, place)
    assert best is not None
    columns = torch.arange(n_columns, device=best[0].device).expand_as(best[1])
    graph = by_row[0]
    for more in (*by_row[1:], _edges(best[1], columns, best[0])):
        graph = _Graph(*(np.concatenate(both) for both in zip(graph, more, strict=True)))
    return _unique(graph, n_columns)


def _edges(
    row: Int[Tensor, "..."], column: Int[Tensor, "..."], score: Float[Tensor, "..."]
) -> _Graph:
    return _Graph(*(part.reshape(-1).cpu().numpy() for part in (row, column, score)))


def _joined(graph: _Graph, more: _Graph, n_columns: int) -> _Graph:
    both = _Graph(*(np.concatenate(parts) for parts in zip(graph, more, strict=True)))
    return _unique(both, n_columns)


def _unique(graph: _Graph, n_columns: int) -> _Graph:
    """Each pair once, by row and column."""
    _, kept = np.unique(graph.row.astype(np.int64) * n_columns + graph.column, return_index=True)
    return _Graph(*(part[kept] for part in graph))


def _completed(graph: _Graph, scores: Scores) -> _Graph:
    """Candidates among which an assignment of all rows exists.

    Rows that are left over by the largest matching there is each get one column that is left over.
    """
    n_columns = scores.shape[1]
    ones = csr_array((np.ones(len(graph.row)), (graph.row, graph.column)), shape=scores.shape)
    partner = maximum_bipartite_matching(ones, perm_type="column")
    rows = np.flatnonzero(partner < 0)
    columns = np.setdiff1d(np.arange(n_columns), partner[partner >= 0])[: len(rows)]
    if not len(rows):
        return graph
    found = []
    for row, column in zip(rows, columns, strict=True):
        found.append(float(scores.rows(slice(int(row), int(row) + 1))[0, int(column)]))
    return _joined(graph, _Graph(rows, columns, np.array(found)), n_columns)


def _assign_candidates(
    graph: _Graph, shape: tuple[int, int]
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """The best assignment of all rows among the candidates: columns and scores."""
    # Costs from 1 to 1 + range: scipy takes a zero for a pair that is no candidate.
    costs = graph.score.max() + 1 - graph.score
    matrix = csr_array((costs, (graph.row, graph.column)), shape=shape)
    rows, columns = min_weight_full_bipartite_matching(matrix)
    columns = columns[np.argsort(rows)].astype(np.int64)
    key = graph.row.astype(np.int64) * shape[1] + graph.column
    place = np.searchsorted(key, np.arange(shape[0]) * np.int64(shape[1]) + columns)
    return columns, graph.score[place]


def _prices(
    graph: _Graph,
    columns: Int[np.ndarray, " rows"],
    matched: Float[np.ndarray, " rows"],
    n_columns: int,
) -> Float[np.ndarray, " columns"]:
    """The least prices p >= 0 at which no row would rather have another of its candidates.

    p_j = max(0, max over candidates (i, j) of  p_partner(i) + s_ij - s_i,partner(i)), iterated from
    0 until nothing changes (Bellman and Ford). Columns without a row keep a price of 0, because the
    assignment is the best among the candidates.
    """
    order = np.argsort(graph.column, kind="stable")
    row, column = graph.row[order], graph.column[order]
    gain = graph.score[order] - matched[row]
    begins = np.flatnonzero(np.r_[True, column[1:] != column[:-1]])
    prices = np.zeros(n_columns)
    for _ in range(n_columns):
        wanted = np.maximum.reduceat(prices[columns[row]] + gain, begins)
        raised = wanted > prices[column[begins]] + TOLERANCE / 10
        if not raised.any():
            break
        prices[column[begins][raised]] = wanted[raised]
    return prices


def _price(
    scores: Scores,
    columns: Int[np.ndarray, " rows"],
    matched: Float[np.ndarray, " rows"],
    prices: Float[np.ndarray, " columns"],
) -> tuple[float, _Graph]:
    """The bound on every assignment, and of each row the columns it would rather have."""
    bound = float(prices.sum())
    better = []
    for block, values in blocks(scores):
        net = values - torch.from_numpy(prices).to(values.device)
        top, column = net.topk(min(PRICED_IN, net.shape[1]), dim=1)
        bound += float(top[:, 0].sum())
        has = torch.from_numpy(matched[block] - prices[columns[block]]).to(values.device)
        at = (top > has[:, None] + TOLERANCE).nonzero(as_tuple=True)
        chosen = column[at]
        better.append(_edges(at[0] + block.start, chosen, values[at[0], chosen]))
    return bound, _Graph(*(np.concatenate(parts) for parts in zip(*better, strict=True)))
