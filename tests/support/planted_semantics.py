"""A planted corpus, vocabulary and features whose contexts and meanings are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse

from saetrack.analysis.contexts.top_contexts import Contexts, Firings, TokenBatch
from saetrack.analysis.life_store.spool import Pairs
from saetrack.data.exclusion import Excluded

# A vocabulary with forms of one word, cases and pieces.
FORM_TOKENS = [
    *("<s>", " utilize", "utilized", "Utilizing", " utiliz", "utiliz"),
    *(" firm", "Firm", "\n", "\n\n", " cat", "cats", " dog", " fish", " Sea", "!!"),
]
CONTEXT = 16
BOS = 0


def planted_rows(rows: int, vocabulary: int, seed: int = 0) -> np.ndarray:
    """Random tokens behind a BOS; rows 3 and 7 are repeats of row 1."""
    tokens = np.random.default_rng(seed).integers(1, vocabulary, (rows, CONTEXT), dtype=np.uint32)
    tokens[:, 0] = BOS
    tokens[[3, 7]] = tokens[1]
    return tokens


def planted_acts(tokens: np.ndarray, d_sae: int, seed: int = 0) -> np.ndarray:
    """Sparse activations, (rows, context, d_sae), with ties; feature 0 is dead, 1 fires thrice."""
    generator = np.random.default_rng(seed)
    acts = generator.integers(1, 50, (*tokens.shape, d_sae)) / 8.0
    acts[generator.random(acts.shape) < 0.6] = 0
    acts[..., 0] = 0
    acts[..., 1] = 0
    acts[2, 4, 1], acts[2, 9, 1], acts[5, 1, 1] = 1.0, 2.0, 3.0
    acts[[3, 7]] = acts[1]  # as a causal LM's would be on repeated rows
    return acts


def feed(collector, tokens: np.ndarray, acts: np.ndarray, batch_rows: int) -> None:
    """Stream everything through a collector, some rows at a time, pairs sorted by feature."""
    for start in range(0, len(tokens), batch_rows):
        chunk = acts[start : start + batch_rows]
        flat = torch.from_numpy(chunk.reshape(-1, chunk.shape[-1]).T.copy()).float()
        features, places = flat.nonzero(as_tuple=True)
        numbers = np.arange(start, start + len(chunk))
        batch = TokenBatch(numbers, tokens[start : start + batch_rows])
        collector.add(Firings(features, places, flat[features, places]), batch)


def pairs_of(tokens: np.ndarray, acts: np.ndarray, excluded: Excluded) -> Pairs:
    """All active pairs of dense activations, feature by feature."""
    kept = excluded.kept_in(tokens)[..., None]
    of_feature = np.where(kept, acts, 0).reshape(-1, acts.shape[-1]).T
    features, places = np.nonzero(of_feature > 0)
    offsets = np.searchsorted(features, np.arange(len(of_feature) + 1))
    return Pairs(offsets, places.astype(np.int32), of_feature[features, places].astype(np.float32))


def lists_of(contexts: Contexts, feature: int) -> list[tuple[int, int, float]]:
    n = int(contexts.counts[feature])
    columns = (contexts.rows, contexts.positions, contexts.feature_acts)
    assert all(
        (column[feature, n:] == empty).all()
        for column, empty in zip(columns, (-1, -1, 0), strict=True)
    )
    return list(zip(*(column[feature, :n].tolist() for column in columns), strict=True))


def slow_top(
    tokens: np.ndarray,
    acts: np.ndarray,
    k: int,
    *,
    window: tuple[int, int] | None,
    excluded: Excluded,
    rows_count_once: bool = True,
) -> list[tuple[int, int, float]]:
    """Of one feature, by sorting everything: the definition, not the method."""
    found = [
        (-acts[row, at], row, at)
        for row, at in np.ndindex(*tokens.shape)
        if acts[row, at] > 0
        and tokens[row, at] not in excluded.token_ids
        and at >= excluded.first_positions
    ]
    best: dict[Any, tuple] = {}
    for entry in sorted(found):
        best.setdefault(entry[1] if rows_count_once else entry[1:], entry)
    chosen, texts = [], set()
    for act, row, at in sorted(best.values()):
        if window is not None:
            text = tuple(
                tokens[row, place] if 0 <= place < CONTEXT else None
                for place in range(at - window[0], at + window[1] + 1)
            )
            if text in texts:
                continue
            texts.add(text)
        chosen.append((row, at, -act))
    return chosen[:k]


def planted_chain(
    checkpoints: int, k: int, appears: dict[int, int], d_in: int = 24, seed: int = 0
) -> tuple[list[torch.Tensor], list[sparse.csr_array], dict[int, np.ndarray], np.ndarray]:
    """Residuals and feature activations of a dictionary whose features appear at known checkpoints.

    Feature `f` has k datapoints. Before checkpoint `appears[f]` they lie at random, from there on
    along a direction of their own. The last 120 points are random at every checkpoint.

    Returns:
        Per checkpoint the residuals and the activations, each feature's points, random points.
    """
    generator = np.random.default_rng(seed)
    directions = np.linalg.qr(generator.normal(size=(d_in, d_in)))[0]
    sets = {feature: np.arange(k) + place * k for place, feature in enumerate(appears)}
    points = k * len(appears) + 120
    common = 0.3 * directions[-1]
    xs, acts = [], []
    for checkpoint in range(checkpoints):
        x = generator.normal(size=(points, d_in)) / np.sqrt(d_in) + common
        z = np.abs(generator.normal(size=(points, 40))) * (generator.random((points, 40)) < 0.1)
        for feature, members in sets.items():
            if checkpoint >= appears[feature]:
                x[members] = 3 * directions[feature] + 0.3 * x[members]
                z[members, feature] += 5
        xs.append(torch.from_numpy(x).float())
        acts.append(sparse.csr_array(z))
    return xs, acts, sets, np.arange(points - 120, points)
