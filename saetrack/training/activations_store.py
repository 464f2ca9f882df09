"""Rows of tokens through the LM to shuffled batches of residuals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from saetrack.data.corpus import Corpus
from saetrack.data.splits import Split
from saetrack.lm.hooked import LM_BATCH_ROWS, HookedLM
from saetrack.sae.tensor_parallel import ALONE, Ranks
from saetrack.utils.timing import part

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class ActivationsStore:
    """Residuals of one checkpoint at every layer of its LM, in an order all checkpoints share.

    They come in chunks, the residuals of a few rows at a time.

    Attributes:
        lm: the checkpoint.
        corpus: the rows.
        exclude_bos: leave out the residuals at BOS positions.
        seed: of the order of rows and of the mixing.
        ranks: that share the LM's passes; each ends with all residuals.
    """

    lm: HookedLM
    corpus: Corpus
    exclude_bos: bool
    seed: int
    ranks: Ranks = ALONE

    def held_out(self) -> Float[Tensor, "layers tokens d_in"]:
        """Every residual of the held-out split."""
        order = torch.arange(len(self.corpus.rows("held_out")))
        parts = [self._residuals("held_out", rows) for rows in order.split(LM_BATCH_ROWS)]
        return torch.cat(parts, dim=1)

    def training_chunk(self, number: int) -> Float[Tensor, "layers tokens d_in"]:
        """The `number`-th chunk of training residuals; each pass has its own order of rows."""
        n_rows = len(self.corpus.rows("train"))
        a_pass, place = divmod(number, -(-n_rows // LM_BATCH_ROWS))
        order = _shuffled(n_rows, self.seed + a_pass)
        return self._residuals("train", order[place * LM_BATCH_ROWS :][:LM_BATCH_ROWS])

    def _residuals(
        self, split: Split, chosen: Int[Tensor, " rows"]
    ) -> Float[Tensor, "layers tokens d_in"]:
        tokens = torch.from_numpy(self.corpus.rows(split)[chosen.numpy()].astype(np.int64))
        own = self.lm.resid_pre(tokens[self.ranks.shard_rows(len(tokens))])
        resid = self.ranks.all_gather_rows(own, len(tokens))
        if self.exclude_bos:
            return resid[:, (tokens != self.corpus.bos_token_id).to(resid.device)]
        return resid.flatten(1, 2)


@lru_cache(maxsize=1)
def _shuffled(n_rows: int, seed: int) -> Int[Tensor, " rows"]:
    return torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed))


class MixingBuffer:
    """The first `tokens` residuals of the train split, each once, mixed by a pool.

    A pool of `buffer_tokens` residuals is kept. A random half of it is served and replaced by fresh
    ones (as in the authors' store) until all are harvested; then the pool is emptied. Between two
    batches the whole state can be taken and put back: the batches then go on as if nothing had
    happened.
    """

    def __init__(
        self, stream: ActivationsStore, tokens: int, batch_tokens: int, buffer_tokens: int
    ) -> None:
        """Nothing is harvested yet.

        Args:
            stream: where residuals come from.
            tokens: how many to serve in all.
            batch_tokens: how many at a time.
            buffer_tokens: size of the pool; at least twice `batch_tokens`.
        """
        self._stream = stream
        self._batch_tokens = batch_tokens
        self._pool_tokens = min(buffer_tokens, tokens)
        self._to_harvest = tokens
        self._to_serve = tokens
        self._chunks = 0
        self._shuffler = torch.Generator().manual_seed(stream.seed)
        self._pool: Float[Tensor, "layers pool d_in"] | None = None
        self._leftover: Float[Tensor, "layers tokens d_in"] | None = None
        # Places of the pool in the order in which they are served, and how many of them were.
        self._order: Int[Tensor, " served"] = torch.empty(0, dtype=torch.int64)
        self._served = 0

    def first_tokens(self, tokens: int) -> Float[Tensor, "layers tokens d_in"]:
        """The first residuals that were harvested; only before the first batch."""
        return self._filled_pool()[:, :tokens]

    def __iter__(self) -> Iterator[Float[Tensor, "layers batch d_in"]]:
        pool = self._filled_pool()
        while self._to_serve:
            if self._served == len(self._order):
                self._refill(pool)
            chosen = self._order[self._served : self._served + self._batch_tokens]
            self._served += len(chosen)
            self._to_serve -= len(chosen)
            with part("buffer"):
                batch = pool[:, chosen.to(pool.device)]
            yield batch

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and counts from which `restore` goes on."""
        tensors = {
            "pool": self._filled_pool(),
            "order": self._order,
            "shuffler": self._shuffler.get_state(),
        }
        if self._leftover is not None:
            tensors["leftover"] = self._leftover
        counts = {
            "to_harvest": self._to_harvest,
            "to_serve": self._to_serve,
            "chunks": self._chunks,
            "served": self._served,
        }
        return tensors, counts

    def restore(
        self, tensors: dict[str, Tensor], counts: dict[str, Any], layers: list[int]
    ) -> None:
        """Go on from a `state`, with those of its layers (by place) that are still wanted."""
        device = self._stream.lm.device
        self._pool = tensors["pool"][layers].to(device)
        leftover = tensors.get("leftover")
        self._leftover = None if leftover is None else leftover[layers].to(device)
        self._order = tensors["order"]
        self._shuffler.set_state(tensors["shuffler"])
        self._to_harvest = counts["to_harvest"]
        self._to_serve = counts["to_serve"]
        self._chunks = counts["chunks"]
        self._served = counts["served"]

    @part("buffer")
    def _filled_pool(self) -> Float[Tensor, "layers pool d_in"]:
        if self._pool is None:
            self._leftover = self._next_chunk()
            n_layers, _, d_in = self._leftover.shape
            self._pool = self._leftover.new_empty(n_layers, self._pool_tokens, d_in)
            self._harvest_into(self._pool, torch.arange(self._pool_tokens))
            self._shuffle(torch.arange(self._pool_tokens))
        return self._pool

    @part("buffer")
    def _refill(self, pool: Float[Tensor, "layers pool d_in"]) -> None:
        """Replace what was served by fresh residuals while there are any."""
        fresh = min(len(self._order), self._to_harvest)
        replaced, stale = self._order[:fresh], self._order[fresh:]
        self._harvest_into(pool, replaced)
        places = torch.arange(self._pool_tokens)
        self._shuffle(places[~torch.isin(places, stale)])

    def _shuffle(self, places: Int[Tensor, " places"]) -> None:
        """A new order of service: half of the pool, or all once nothing is left to harvest."""
        order = places[torch.randperm(len(places), generator=self._shuffler)]
        half = self._pool_tokens // 2 // self._batch_tokens * self._batch_tokens
        self._order = order[:half] if self._to_harvest else order
        self._served = 0

    def _harvest_into(
        self, pool: Float[Tensor, "layers pool d_in"], places: Int[Tensor, " places"]
    ) -> None:
        self._to_harvest -= len(places)
        places = places.to(pool.device)
        while len(places):
            if self._leftover is None or not self._leftover.shape[1]:
                self._leftover = self._next_chunk()
            part = self._leftover[:, : len(places)]
            pool[:, places[: part.shape[1]]] = part
            places = places[part.shape[1] :]
            self._leftover = self._leftover[:, part.shape[1] :]

    def _next_chunk(self) -> Float[Tensor, "layers tokens d_in"]:
        self._chunks += 1
        return self._stream.training_chunk(self._chunks - 1)
