"""Scores of all pairs of two sets of features, which are never in memory together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

# Scores in memory at a time: 134 MB in float32.
BLOCK_SCORES = 2**25

DENSE_PAIRS = 2**24
"""Up to so many scores all are held at once: 0.13 GB in float64, some seconds at most."""


def precision(n_pairs: int) -> torch.dtype:
    """Of so many scores: of large dictionaries float32, half of the time, errors of 1e-7."""
    return torch.float64 if n_pairs <= DENSE_PAIRS else torch.float32


class Scores(Protocol):
    """A matrix of scores that is never there as a whole."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def T(self) -> Scores:  # noqa: N802 - as arrays call it
        """The same with rows and columns exchanged."""

    def rows(self, block: slice) -> Float[Tensor, "block columns"]:
        """Some rows in their `precision`, on any device."""


@dataclass(frozen=True)
class ProductScores:
    """Scores that are products of rows: cosines, if these have norm 1.

    Attributes:
        left: (rows, d_in), in the `precision` of the scores.
        right: (columns, d_in), the same, on the same device.
    """

    left: Float[Tensor, "rows d_in"]
    right: Float[Tensor, "columns d_in"]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.left), len(self.right)

    @property
    def T(self) -> ProductScores:  # noqa: N802
        """The same with rows and columns exchanged."""
        return ProductScores(self.right, self.left)

    def rows(self, block: slice) -> Float[Tensor, "block columns"]:
        """Some rows."""
        return self.left[block] @ self.right.T


def blocks(scores: Scores) -> Iterator[tuple[slice, Float[Tensor, "block columns"]]]:
    """All rows, some at a time, with their scores."""
    n_rows, n_columns = scores.shape
    size = max(1, BLOCK_SCORES // max(1, n_columns))
    for start in range(0, n_rows, size):
        block = slice(start, min(start + size, n_rows))
        yield block, scores.rows(block)
