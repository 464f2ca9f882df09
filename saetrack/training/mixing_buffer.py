"""Residuals in the order of the rows to batches of mixed residuals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from saetrack.training.activations_store import ActivationsStore
from saetrack.utils.timing import part

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class MixingBuffer:
    """The first `tokens` training residuals, each served once, in mixed order.

    A pool of `buffer_tokens` residuals is kept. A random half of it is served and replaced by new
    ones (as in the authors' store) until the budget is used up; then the rest of the pool is
    served. Between two batches the whole state can be saved and restored: the batches then go on as
    if nothing had happened.
    """

    def __init__(
        self, store: ActivationsStore, tokens: int, batch_tokens: int, buffer_tokens: int
    ) -> None:
        """Nothing is computed yet.

        Args:
            store: where residuals come from.
            tokens: how many to serve in all.
            batch_tokens: how many at a time.
            buffer_tokens: size of the pool; at least twice `batch_tokens`.
        """
        self._store = store
        self._batch_tokens = batch_tokens
        self._pool_tokens = min(buffer_tokens, tokens)
        self._tokens_to_take = tokens  # from the store
        self._tokens_to_serve = tokens
        self._chunks_taken = 0
        self._shuffler = torch.Generator().manual_seed(store.seed)
        self._pool: Float[Tensor, "hooks pool d_in"] | None = None
        # What of the last chunk did not fit into the pool.
        self._leftover: Float[Tensor, "hooks tokens d_in"] | None = None
        # Indices into the pool in the order in which they are served, on its device: a GPU's host
        # would wait at each batch for a copy. And how many were served.
        self._order: Int[Tensor, " order"] = torch.empty(0, dtype=torch.int64)
        self._served = 0

    def first_tokens(self, tokens: int) -> Float[Tensor, "hooks tokens d_in"]:
        """The first residuals in the order of the rows; only before the first batch."""
        return self._filled_pool()[:, :tokens]

    def __iter__(self) -> Iterator[Float[Tensor, "hooks batch d_in"]]:
        pool = self._filled_pool()
        while self._tokens_to_serve:
            if self._served == len(self._order):
                self._refill(pool)
            chosen = self._order[self._served : self._served + self._batch_tokens]
            self._served += len(chosen)
            self._tokens_to_serve -= len(chosen)
            with part("buffer"):
                batch = pool[:, chosen]
            yield batch

    @property
    def is_used_up(self) -> bool:
        """Whether what is served next is not in the pool yet, so that the pool will change."""
        return self._served == len(self._order)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and counts from which `restore` goes on.

        They are no copies: they stay as they are until the batch that follows `is_used_up`.
        """
        tensors = {
            "pool": self._filled_pool(),
            "order": self._order,
            "shuffler": self._shuffler.get_state(),
        }
        if self._leftover is not None:
            tensors["leftover"] = self._leftover
        counts = {
            "tokens_to_take": self._tokens_to_take,
            "tokens_to_serve": self._tokens_to_serve,
            "chunks_taken": self._chunks_taken,
            "served": self._served,
        }
        return tensors, counts

    def restore(self, tensors: dict[str, Tensor], counts: dict[str, Any], hooks: list[int]) -> None:
        """Go on from a `state`.

        Args:
            tensors: of the state.
            counts: of the state.
            hooks: which of the state's hooks are still trained, as indices into its first axis.
        """
        device = self._store.lm.device
        self._pool = tensors["pool"][hooks].to(device)
        leftover = tensors.get("leftover")
        self._leftover = None if leftover is None else leftover[hooks].to(device)
        self._order = tensors["order"].to(device)
        self._shuffler.set_state(tensors["shuffler"])
        self._tokens_to_take = counts["tokens_to_take"]
        self._tokens_to_serve = counts["tokens_to_serve"]
        self._chunks_taken = counts["chunks_taken"]
        self._served = counts["served"]

    @part("buffer")
    def _filled_pool(self) -> Float[Tensor, "hooks pool d_in"]:
        if self._pool is None:
            self._leftover = self._next_chunk()
            n_hooks, _, d_in = self._leftover.shape
            self._pool = self._leftover.new_empty(n_hooks, self._pool_tokens, d_in)
            self._fill(self._pool, torch.arange(self._pool_tokens))
            self._shuffle(self._pool, torch.arange(self._pool_tokens))
        return self._pool

    @part("buffer")
    def _refill(self, pool: Float[Tensor, "hooks pool d_in"]) -> None:
        """Replace what was served by new residuals, as far as the budget goes."""
        n_new = min(len(self._order), self._tokens_to_take)
        replaced, used_up = self._order[:n_new], self._order[n_new:].cpu()
        self._fill(pool, replaced)
        indices = torch.arange(self._pool_tokens)
        self._shuffle(pool, indices[~torch.isin(indices, used_up)])

    def _shuffle(
        self, pool: Float[Tensor, "hooks pool d_in"], indices: Int[Tensor, " indices"]
    ) -> None:
        """A new order: of half of these residuals, or of all once there are no new ones."""
        order = indices[torch.randperm(len(indices), generator=self._shuffler)]
        half = self._pool_tokens // 2 // self._batch_tokens * self._batch_tokens
        self._order = (order[:half] if self._tokens_to_take else order).to(pool.device)
        self._served = 0

    def _fill(
        self, pool: Float[Tensor, "hooks pool d_in"], indices: Int[Tensor, " indices"]
    ) -> None:
        """Put new residuals at these indices of the pool."""
        self._tokens_to_take -= len(indices)
        indices = indices.to(pool.device)
        while len(indices):
            if self._leftover is None or not self._leftover.shape[1]:
                self._leftover = self._next_chunk()
            new = self._leftover[:, : len(indices)]
            pool[:, indices[: new.shape[1]]] = new
            indices = indices[new.shape[1] :]
            self._leftover = self._leftover[:, new.shape[1] :]

    def _next_chunk(self) -> Float[Tensor, "hooks tokens d_in"]:
        self._chunks_taken += 1
        return self._store.training_chunk(self._chunks_taken - 1)
