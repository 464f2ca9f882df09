"""Do a feature's contexts speak of the same thing? Similarity under an embedder that never changes.

The measure of a concept (section 3, made operational): the contexts of a feature, embedded by
something that is the same for all checkpoints, are more alike than as many random contexts whose
tokens are as frequent. Frequency is matched because rare tokens stand in similar texts.

    z = (S(contexts) - mean of S(random sets)) / standard deviation of S(random sets)

with S as in Eq 8. Random sets are put together for each feature from `sets` shared draws per class
of token frequency: the first n of a draw's contexts of a class, n being what the feature has of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.geometry.similarity import cosine
from saetrack.data.exclusion import NOTHING, Excluded

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray
    from torch import Tensor

    Embedder = Callable[
        [Int[ndarray, " points"], Int[ndarray, " points"]], Float[Tensor, "points width"]
    ]

# Features at a time: their embeddings, and their random sets, are held at once.
CHUNK_FEATURES = 1024
# Weights of tokens in a window are a / (a + frequency) (Arora et al. 2017): "the" says little.
FREQUENCY_WEIGHT = 1e-3


@torch.no_grad()
def window_embedder(
    token_embeddings: Float[Tensor, "vocabulary width"],
    token_rows: Int[ndarray, "rows context"],
    *,
    window: tuple[int, int] = (10, 10),
    own_token: bool = True,
    skip: Sequence[int] = (),
) -> Embedder:
    """A weighted mean of the token embeddings around a datapoint, less that of the whole corpus.

    Args:
        token_embeddings: for example the final LM's input embedding.
        token_rows: rows of the corpus split.
        window: tokens before and after the datapoint.
        own_token: whether the datapoint's own token counts.
        skip: tokens that never count, such as BOS.

    Returns:
        A function of rows and positions.
    """
    vocabulary = len(token_embeddings)
    counts = np.bincount(token_rows.reshape(-1), minlength=vocabulary)
    frequency = torch.from_numpy(counts / counts.sum())
    weights = FREQUENCY_WEIGHT / (FREQUENCY_WEIGHT + frequency)
    weights[list(skip)] = 0
    mass = frequency * weights
    vectors = token_embeddings.detach().cpu().double()
    vectors = (vectors - mass @ vectors / mass.sum()) * weights[:, None]
    # A last row of zeros for what lies behind a row's ends.
    table = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])]).float()
    before, after = window
    padded = np.pad(
        token_rows.astype(np.int64), ((0, 0), (before, after)), constant_values=vocabulary
    )
    offsets = np.arange(before + 1 + after)
    if not own_token:
        offsets = np.delete(offsets, before)

    def embed(
        rows: Int[ndarray, " points"], positions: Int[ndarray, " points"]
    ) -> Float[Tensor, "points width"]:
        ids = torch.from_numpy(padded[rows[:, None], positions[:, None] + offsets])
        summed: Tensor = torch.nn.functional.embedding_bag(ids, table, mode="sum")
        return summed

    return embed


@dataclass(frozen=True)
class MatchedNull:
    """Shared random contexts by class of token frequency, reduced to what similarities need.

    Attributes:
        frequency_class: of each token, (vocabulary,).
        products: between the summed unit embeddings of the first n contexts of class b and of the
            first n' of b', at index b * (k + 1) + n, (prefixes, prefixes, sets).
        squares: summed squares of the first n of class b: n, less zero vectors, (prefixes, sets).
        k: the largest n.
    """

    frequency_class: Int[ndarray, " vocabulary"]
    products: Float[ndarray, "prefixes prefixes sets"]
    squares: Float[ndarray, "prefixes sets"]
    k: int

    def similarities(
        self, token_ids: Int[ndarray, "features k"]
    ) -> Float[ndarray, "features sets"]:
        """S of each feature's matched random sets; NaN for features of fewer than two contexts."""
        classes = np.where(token_ids >= 0, self.frequency_class[token_ids], -1)
        n_classes = int(self.frequency_class.max()) + 1
        counts = np.stack([(classes == b).sum(axis=1) for b in range(n_classes)], axis=1)
        indices = np.arange(n_classes) * (self.k + 1) + counts
        total = np.zeros((len(token_ids), self.squares.shape[1]))
        for row in indices.T:
            total -= self.squares[row]
            for column in indices.T:
                total += self.products[row, column]
        n = counts.sum(axis=1, keepdims=True)
        return np.where(n > 1, total / np.maximum(n * (n - 1), 1), np.nan)


def matched_null(
    embedder: Embedder,
    token_rows: Int[ndarray, "rows context"],
    vocabulary: int,
    k: int,
    seed: int,
    *,
    sets: int = 500,
    frequency_classes: int = 8,
    excluded: Excluded = NOTHING,
) -> MatchedNull:
    """Draw the random contexts, at most k per feature and set, for the features' own embedder.

    Each frequency class makes up about the same share of the corpus. `excluded` positions are
    never drawn.
    """
    flat = token_rows.reshape(-1).astype(np.int64)
    kept = excluded.kept_in(token_rows).reshape(-1)
    counts = np.bincount(flat[kept], minlength=vocabulary)
    by_frequency = np.argsort(counts, kind="stable")
    mass = counts[by_frequency].cumsum() - counts[by_frequency] / 2
    indices = (mass / max(counts.sum(), 1) * frequency_classes).astype(np.int64)
    # Numbered without gaps: a very common token may leave a class empty.
    numbered = np.unique(indices.clip(0, frequency_classes - 1), return_inverse=True)[1]
    frequency_class = np.empty(vocabulary, np.int64)
    frequency_class[by_frequency] = numbered
    generator = np.random.default_rng(seed)
    sums, squares = [], []
    for b in range(int(numbered.max()) + 1):
        eligible = np.flatnonzero((frequency_class[flat] == b) & kept)
        drawn_tokens = np.stack(
            [generator.choice(eligible, k, replace=len(eligible) < k) for _ in range(sets)]
        )
        rows, positions = np.divmod(drawn_tokens.reshape(-1), token_rows.shape[1])
        units = torch.nn.functional.normalize(embedder(rows, positions), dim=1)
        units = units.view(sets, k, -1).cpu()
        sums.append(_from_zero(units))
        squares.append(_from_zero(units.square().sum(dim=2)))
    summed = torch.cat(sums, dim=1)
    # Sets last: of a feature's prefixes all sets are read at a time, side by side in memory.
    products = (summed @ summed.transpose(1, 2)).permute(1, 2, 0).contiguous()
    of_sets = torch.cat(squares, dim=1).T.contiguous()
    return MatchedNull(frequency_class, products.numpy(), of_sets.numpy(), k)


def _from_zero(values: Float[Tensor, "sets k ..."]) -> Float[Tensor, "sets k_and_one ..."]:
    """Sums of the first 0, 1, ... k."""
    return torch.cat([torch.zeros_like(values[:, :1]), values.cumsum(dim=1)], dim=1)


def coherence(
    embedder: Embedder,
    rows: Int[ndarray, "features k"],
    positions: Int[ndarray, "features k"],
    token_ids: Int[ndarray, "features k"],
    null: MatchedNull,
) -> pd.DataFrame:
    """How alike each feature's contexts are, against matched random ones.

    Returns:
        One row per feature: `coherence` (S), `coherence_random` and `coherence_spread` (mean and
        standard deviation over the random sets), `coherence_z`.
    """
    found = likeness(embedder, rows, positions)
    parts = []
    for start in range(0, len(rows), CHUNK_FEATURES):
        chunk = slice(start, start + CHUNK_FEATURES)
        random = null.similarities(token_ids[chunk])
        mean, spread = random.mean(axis=1), random.std(axis=1, ddof=1)
        less = found[chunk] - mean
        z = np.divide(less, spread, out=np.full(len(less), np.nan), where=spread > 0)
        of_random = {"coherence_random": mean, "coherence_spread": spread}
        parts.append(pd.DataFrame(of_random | {"coherence_z": z}))
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "coherence", found)
    return table


def likeness(
    embedder: Embedder, rows: Int[ndarray, "features k"], positions: Int[ndarray, "features k"]
) -> Float[ndarray, " features"]:
    """S of each feature's contexts; NaN for those of fewer than two."""
    parts = [np.empty(0)]
    for start in range(0, len(rows), CHUNK_FEATURES):
        chunk = slice(start, start + CHUNK_FEATURES)
        inside = rows[chunk] >= 0
        indices = np.full(inside.shape, -1)
        indices[inside] = np.arange(inside.sum())
        vectors = embedder(rows[chunk][inside], positions[chunk][inside])
        parts.append(cosine(vectors, indices))
    return np.concatenate(parts)
