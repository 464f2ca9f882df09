"""Rows of tokens through the LM to shuffled batches of residuals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from saetrack.corpus import Corpus
from saetrack.lm.residual import ResidualLM
from saetrack.text import Split

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

LM_BATCH_ROWS = 32


@dataclass(frozen=True)
class ResidualStream:
    """Residuals of one split at one checkpoint, in an order that every checkpoint shares.

    Attributes:
        lm: the checkpoint.
        corpus: the rows.
        exclude_bos: leave out the residuals at BOS positions.
        seed: of the order of rows and of the mixing.
    """

    lm: ResidualLM
    corpus: Corpus
    exclude_bos: bool
    seed: int

    def held_out(self) -> Float[Tensor, "tokens d_in"]:
        """Every residual of the held-out split."""
        order = torch.arange(len(self.corpus.rows("held_out")))
        return torch.cat(list(self._in_order("held_out", order)))

    def first_tokens(self, tokens: int) -> Float[Tensor, "tokens d_in"]:
        """The first `tokens` residuals that training will see, unmixed."""
        return _take(self._train_chunks(), tokens)

    def mixed_batches(
        self, tokens: int, batch_tokens: int, buffer_tokens: int
    ) -> Iterator[Float[Tensor, "batch d_in"]]:
        """The first `tokens` residuals of the train split, each once, mixed by a buffer.

        A pool of `buffer_tokens` residuals is kept. A random half of it is served and replaced by
        fresh ones (as in the authors' store) until all are harvested; then the pool is emptied.
        `buffer_tokens` must be at least twice `batch_tokens`.
        """
        chunks = self._train_chunks()
        shuffler = torch.Generator().manual_seed(self.seed)
        pool = _take(chunks, min(buffer_tokens, tokens))
        to_harvest = tokens - len(pool)
        while to_harvest:
            half_tokens = len(pool) // 2 // batch_tokens * batch_tokens
            order = torch.randperm(len(pool), generator=shuffler).to(pool.device)
            served, kept = order[:half_tokens], order[half_tokens:]
            yield from (pool[batch] for batch in served.split(batch_tokens))
            fresh = _take(chunks, min(half_tokens, to_harvest))
            to_harvest -= len(fresh)
            pool = torch.cat([pool[kept], fresh])
        order = torch.randperm(len(pool), generator=shuffler).to(pool.device)
        yield from (pool[batch] for batch in order.split(batch_tokens))

    def _train_chunks(self) -> Iterator[Float[Tensor, "tokens d_in"]]:
        """Training residuals of a few rows at a time, forever; each pass has its own order."""
        n_rows = len(self.corpus.rows("train"))
        for a_pass in itertools.count():
            shuffler = torch.Generator().manual_seed(self.seed + a_pass)
            yield from self._in_order("train", torch.randperm(n_rows, generator=shuffler))

    def _in_order(
        self, split: Split, order: Int[Tensor, " rows"]
    ) -> Iterator[Float[Tensor, "tokens d_in"]]:
        rows = self.corpus.rows(split)
        for chosen in order.split(LM_BATCH_ROWS):
            tokens = torch.from_numpy(rows[chosen.numpy()].astype(np.int64))
            resid = self.lm.resid_pre(tokens)
            if self.exclude_bos:
                yield resid[(tokens != self.corpus.bos_token_id).to(resid.device)]
            else:
                yield resid.flatten(0, 1)


def _take(
    chunks: Iterator[Float[Tensor, "tokens d_in"]], tokens: int
) -> Float[Tensor, "tokens d_in"]:
    parts = []
    missing = tokens
    while missing > 0:
        part = next(chunks)[:missing]
        parts.append(part)
        missing -= len(part)
    return torch.cat(parts)
