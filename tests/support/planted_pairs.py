"""A dense matrix of activations over a small text, fed to collectors as batches of active pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from saetrack.analysis.contexts.top_contexts import Firings, TokenBatch


def planted_activations(
    rows: int = 12, context: int = 40, d_sae: int = 12, vocabulary: int = 9, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (rows, context), and activations (d_sae, rows * context).

    Feature 0 never fires, feature 1 fires everywhere, 2 on three tokens only, 3 with few different
    strengths; the others ever more rarely.
    """
    random = np.random.default_rng(seed)
    tokens = random.integers(0, vocabulary, (rows, context))
    fires = random.random((d_sae, rows * context)) < 1 / np.arange(1, d_sae + 1)[:, None]
    acts = np.where(fires, random.exponential(2, fires.shape), 0).astype(np.float32)
    acts[0] = 0
    acts[1] = random.uniform(0.5, 3, acts.shape[1])
    acts[2] = 0
    acts[2, [7, 30, 31]] = [1, 3, 2]
    acts[3] = np.where(acts[3] > 0, np.ceil(acts[3]), 0)
    return tokens, acts


def feed(collectors: Any, tokens: np.ndarray, acts: np.ndarray, batch_rows: int) -> None:
    """One pass, in the order of `ActivePairs`: by feature, then by token."""
    context = tokens.shape[1]
    for start in range(0, len(tokens), batch_rows):
        ids = tokens[start : start + batch_rows]
        batch = TokenBatch(np.arange(start, start + len(ids)), ids)
        part = torch.from_numpy(acts[:, start * context : start * context + ids.size])
        features, at = part.nonzero(as_tuple=True)
        for collector in collectors:
            collector.add(Firings(features, at, part[features, at]), batch)
