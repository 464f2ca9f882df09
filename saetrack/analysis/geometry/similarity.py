"""Mean pairwise similarity within sets of datapoints (Eq 8, 9, 20, 21, 24 to 26), all sets at once.

    S(A) = 1 / (n (n - 1))  sum over p != q of  sim(a_p, a_q)

of residuals (activation space) or of the SAE's feature activations (feature space). A set is a row
of indices into a table of points; -1 fills up shorter ones. A set of fewer than two has no
similarity: NaN. Cosines come in the paper's form and centred: of the vectors less a mean, because a
direction that all residuals share makes every raw cosine large. The cosine of a zero vector with
any other is 0; the Jaccard similarity of two vectors without an active feature is 0 as well.

Where the similarity is a product, the sum over pairs needs no loop over pairs: for unit vectors u,
sum over p != q of <u_p, u_q>  =  |sum of u|^2  -  sum of |u|^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray
    from torch import Tensor

# Numbers that are gathered at a time: memory is some times this many, whatever there are of sets.
CHUNK_NUMBERS = 2**22


class JaccardSimilarity(NamedTuple):
    """Both kinds, from one pass over the pairs.

    Attributes:
        jaccard: of supports (Eq 25), (sets,).
        weighted: summed minima over summed maxima of activations (Eq 26), (sets,).
    """

    jaccard: Float[ndarray, " sets"]
    weighted: Float[ndarray, " sets"]


@torch.no_grad()
def cosine(
    x: Float[Tensor, "points d_in"],
    sets: Int[ndarray, "sets k"],
    centre: Float[Tensor, " d_in"] | None = None,
) -> Float[ndarray, " sets"]:
    """Mean pairwise cosine (Eq 8 with Eq 24) of each set's vectors; `sets` are indices into `x`.

    `centre` is taken away from every vector first; None is the paper's form.
    """
    results = []
    for members in _chunks(sets, x.shape[1]):
        indices = torch.from_numpy(members).to(x.device)
        vectors = x[indices.clamp_min(0)].float()
        if centre is not None:
            vectors -= centre.float()
        vectors *= (indices >= 0).unsqueeze(2)
        units = normalize(vectors, dim=2)
        summed = units.sum(dim=1).double().square().sum(dim=1)
        own = torch.linalg.vector_norm(units, dim=(1, 2), dtype=torch.float64).square()
        results.append(_per_pair((summed - own).cpu().numpy(), members))
    return np.concatenate([*results, np.empty(0)])


def sparse_cosine(
    feature_acts: sparse.csr_array,
    sets: Int[ndarray, "sets k"],
    centre: Float[ndarray, " d_sae"] | None = None,
) -> Float[ndarray, " sets"]:
    """The same (Eq 20 with Eq 24) of feature activations, which are never made dense."""
    squared = row_sums(feature_acts.multiply(feature_acts))
    if centre is not None:
        squared = squared - 2 * (feature_acts @ centre) + centre @ centre
    # Of a vector that equals the centre, rounding may leave a negative square.
    weights = np.where(squared > 1e-12 * squared.max(initial=0), squared, np.inf) ** -0.5
    scaled = sparse.csr_array(sparse.diags_array(weights) @ feature_acts)
    results = []
    for members in _chunks(sets, _row_numbers(feature_acts)):
        inside = members >= 0
        chosen = _membership(members, len(weights))
        summed = sparse.csr_array(chosen @ scaled)
        squares = row_sums(summed.multiply(summed))
        if centre is not None:
            total = chosen @ weights
            squares += total * (total * (centre @ centre) - 2 * (summed @ centre))
        # Each unit vector has square 1, unless it is a zero vector.
        own = ((weights > 0)[members] & inside).sum(axis=1)
        results.append(_per_pair(squares - own, members))
    return np.concatenate([*results, np.empty(0)])


def jaccard(feature_acts: sparse.csr_array, sets: Int[ndarray, "sets k"]) -> JaccardSimilarity:
    """Mean pairwise Jaccard similarity, plain and weighted, of each set's feature activations.

    Every two active (point, feature) entries of a set that share the feature are visited once: the
    cost is that of co-activations, not of `d_sae`. The authors' 1e-8 in the denominators is left
    out.
    """
    plain: list[Float[ndarray, " sets"]] = []
    weighted: list[Float[ndarray, " sets"]] = []
    active = sparse.csr_array(feature_acts, copy=True)
    active.eliminate_zeros()
    k = sets.shape[1]
    for members in _chunks(sets, _row_numbers(feature_acts) + k):
        slots, acts, shared = _set_entries(active, members)
        n_sets = len(members)
        sizes = np.bincount(slots, minlength=n_sets * k).reshape(n_sets, k)
        masses = np.bincount(slots, weights=acts, minlength=n_sets * k).reshape(n_sets, k)
        both, minima = _intersections(slots, acts, shared, n_sets, k)
        for results, inter, size in ((plain, both, sizes), (weighted, minima, masses)):
            union = size[:, :, None] + size[:, None, :] - inter - inter.transpose(0, 2, 1)
            share = np.divide(inter, union, out=np.zeros(union.shape), where=union > 0)
            results.append(_per_pair(2 * share.sum(axis=(1, 2)), members))
    return JaccardSimilarity(
        np.concatenate([*plain, np.empty(0)]), np.concatenate([*weighted, np.empty(0)])
    )


def _intersections(
    slots: Int[ndarray, " entries"],
    acts: Float[ndarray, " entries"],
    shared: Int[ndarray, " entries"],
    n_sets: int,
    k: int,
) -> tuple[Float[ndarray, "sets k k"], Float[ndarray, "sets k k"]]:
    """Common features, and summed minima, of each set's members p < q; 0 elsewhere.

    Entries of one set and feature lie side by side, their members ascending: those that are `lag`
    apart and still of one group are a pair.
    """
    size = n_sets * k * k
    both, minima = np.zeros(size), np.zeros(size)
    first = np.arange(len(slots))
    for lag in range(1, k):
        first = first[first + lag < len(slots)]
        first = first[shared[first] == shared[first + lag]]
        if not len(first):
            break
        pair = slots[first] * k + slots[first + lag] % k
        both += np.bincount(pair, minlength=size)
        minima += np.bincount(
            pair, weights=np.minimum(acts[first], acts[first + lag]), minlength=size
        )
    return both.reshape(n_sets, k, k), minima.reshape(n_sets, k, k)


def _set_entries(
    active: sparse.csr_array, members: Int[ndarray, "sets k"]
) -> tuple[Int[ndarray, " entries"], Float[ndarray, " entries"], Int[ndarray, " entries"]]:
    """The active entries of all members: their slot (set * k + member), value, and group.

    Sorted by group, the number of (set, feature), and within a group by member.
    """
    slots = np.flatnonzero(members.reshape(-1) >= 0)
    chosen = sparse.coo_array(active[members.reshape(-1)[slots]])
    rows, columns = chosen.coords
    of_slot = slots[rows]
    group = of_slot // members.shape[1] * active.shape[1] + columns
    order = np.lexsort((of_slot, group))
    return of_slot[order], chosen.data[order].astype(np.float64), group[order]


def _membership(members: Int[ndarray, "sets k"], points: int) -> sparse.csr_array:
    """A matrix of ones, (sets, points): its product sums each set's rows."""
    inside = members >= 0
    bounds = np.concatenate([[0], inside.sum(axis=1).cumsum()])
    return sparse.csr_array(
        (np.ones(bounds[-1]), members[inside], bounds), shape=(len(members), points)
    )


def _per_pair(
    total: Float[ndarray, " sets"], members: Int[ndarray, "sets k"]
) -> Float[ndarray, " sets"]:
    """A sum over ordered pairs as their mean."""
    n = (members >= 0).sum(axis=1)
    return np.where(n > 1, total / np.maximum(n * (n - 1), 1), np.nan)


def _chunks(
    sets: Int[ndarray, "sets k"], numbers_per_member: int
) -> Iterator[Int[ndarray, "sets k"]]:
    size = max(1, CHUNK_NUMBERS // max(1, sets.shape[1] * numbers_per_member))
    for start in range(0, len(sets), size):
        yield np.asarray(sets[start : start + size], dtype=np.int64)


def row_sums(matrix: sparse.csr_array) -> Float[ndarray, " rows"]:
    """The sum of each row, as a plain array."""
    return np.asarray(matrix.sum(axis=1), dtype=np.float64).reshape(-1)


def _row_numbers(matrix: sparse.csr_array) -> int:
    """Active entries of a typical row, rounded up."""
    return 1 + matrix.nnz // max(1, matrix.shape[0])
