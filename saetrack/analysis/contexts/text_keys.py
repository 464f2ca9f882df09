"""Which datapoints have the same text around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int, UInt64
    from numpy import ndarray


def text_keys(
    token_ids: Int[ndarray, "rows context"], before: int, after: int
) -> UInt64[ndarray, "rows context"]:
    """A hash of the text around each position; behind a row's ends there is nothing.

    A sum of tokens times fixed random numbers modulo 2^64: two different texts agree with a
    probability of at most 2^-32.
    """
    context_size = token_ids.shape[1]
    factors = np.random.default_rng(0).integers(2**64, size=before + 1 + after, dtype=np.uint64)
    padded = np.pad(token_ids.astype(np.uint64) + np.uint64(1), ((0, 0), (before, after)))
    keys = np.zeros(token_ids.shape, np.uint64)
    for offset, factor in enumerate(factors):
        keys += factor * padded[:, offset : offset + context_size]
    return keys
