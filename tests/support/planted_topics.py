"""A text of topics, and embeddings in which the words of a topic are alike."""

from __future__ import annotations

import numpy as np
import torch

# Ten topics of twenty words each; every row is of one topic; 200 to 209 stand everywhere.
TOPICS, WORDS, ROWS, LENGTH = 10, 20, 400, 24


def topical() -> tuple[np.ndarray, torch.Tensor]:
    """Rows of tokens, and the embedding of each token."""
    generator = np.random.default_rng(0)
    words = (
        generator.integers(0, WORDS, (ROWS, LENGTH)) + WORDS * (np.arange(ROWS) % TOPICS)[:, None]
    )
    common = generator.random((ROWS, LENGTH)) < 0.4
    rows = np.where(common, generator.integers(200, 210, (ROWS, LENGTH)), words)
    centres = generator.normal(size=(TOPICS, 16))
    embeddings = np.repeat(centres, WORDS, axis=0) + generator.normal(size=(200, 16))
    return rows, torch.from_numpy(np.concatenate([embeddings, generator.normal(size=(10, 16))]))
