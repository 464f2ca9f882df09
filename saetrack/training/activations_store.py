"""Rows of tokens to residuals: one checkpoint's, in an order that all checkpoints share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from saetrack.data.corpus import Corpus
from saetrack.data.splits import Split
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import LM_BATCH_ROWS
from saetrack.sae.tensor_parallel import ALONE, Ranks
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class GivesActivations(Protocol):
    """What a store asks of an LM (`saetrack.lm.hooked.HookedLM`), or of several in its place."""

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """At which activations are read."""

    @property
    def device(self) -> torch.device:
        """On which they are."""

    @property
    def d_in(self) -> int:
        """Their width."""

    def activations(
        self, tokens: Int[Tensor, "rows context"]
    ) -> Float[Tensor, "hooks rows context d_in"]:
        """Of some rows at every hook."""


@dataclass(frozen=True)
class ActivationsStore:
    """Activations of one checkpoint at every hook that is trained, computed when asked for.

    Training residuals come in chunks, each of `LM_BATCH_ROWS` rows. The order of the rows depends
    on the seed alone, so that every link of a chain sees the same tokens in the same order.

    Attributes:
        lm: the checkpoint.
        corpus: the rows.
        exclude_bos: leave out the residuals at BOS positions too.
        seed: of the order of the rows, and of the mixing (`MixingBuffer`).
        validation_tokens: of the train split's last rows, which are not trained on.
        ranks: each computes a share of every chunk's rows and ends with all residuals.
    """

    lm: GivesActivations
    corpus: Corpus
    exclude_bos: bool
    seed: int
    ranks: Ranks = ALONE
    validation_tokens: int = 0

    def held_out(self) -> Float[Tensor, "hooks tokens d_in"]:
        """Every residual of the held-out split."""
        return self._all("held_out", torch.arange(len(self.corpus.rows("held_out"))))

    def validation(self) -> Float[Tensor, "hooks tokens d_in"]:
        """Every residual of the rows that are kept from training.

        Raises:
            UserError: the corpus' exclusions leave none of them.
        """
        resid = self._all("train", torch.arange(self._n_train_rows, self._n_rows))
        if not resid.shape[1]:
            raise UserError(
                f"schedule: tokens.until='plateau': the last {self._n_rows - self._n_train_rows} "
                "rows of the train split, on which it is looked for, hold nothing but what "
                "corpus.exclude_tokens and corpus.exclude_bos leave out"
            )
        return resid

    def held_out_positions(self) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " tokens"]]:
        """The token of each of these residuals, and its position within its row."""
        tokens = torch.from_numpy(self.corpus.rows("held_out").astype(np.int64))
        kept = self.corpus.kept(tokens, exclude_bos=self.exclude_bos)
        return tokens[kept], torch.arange(tokens.shape[1]).expand_as(tokens)[kept]

    def training_chunk(self, number: int) -> Float[Tensor, "hooks tokens d_in"]:
        """The `number`-th chunk of training residuals, from 0; each epoch has its own order."""
        chunks_per_epoch = -(-self._n_train_rows // LM_BATCH_ROWS)
        epoch, chunk = divmod(number, chunks_per_epoch)
        # Of all rows, so that links with other validation rows see the rest in the same order.
        order = _shuffled(self._n_rows, self.seed + epoch)
        order = order[order < self._n_train_rows]
        return self._residuals("train", order[chunk * LM_BATCH_ROWS :][:LM_BATCH_ROWS])

    @property
    def _n_rows(self) -> int:
        return len(self.corpus.rows("train"))

    @property
    def _n_train_rows(self) -> int:
        return self._n_rows - -(-self.validation_tokens // self.corpus.context_size)

    def _all(self, split: Split, order: Int[Tensor, " rows"]) -> Float[Tensor, "hooks tokens d_in"]:
        parts = [self._residuals(split, rows) for rows in order.split(LM_BATCH_ROWS)]
        return torch.cat(parts, dim=1)

    def _residuals(
        self, split: Split, chosen: Int[Tensor, " rows"]
    ) -> Float[Tensor, "hooks tokens d_in"]:
        tokens = torch.from_numpy(self.corpus.rows(split)[chosen.numpy()].astype(np.int64))
        own = self.lm.activations(tokens[self.ranks.shard_rows(len(tokens))])
        resid = self.ranks.all_gather_rows(own, len(tokens))
        resid, kept = resid.flatten(1, 2), self.corpus.kept(tokens, exclude_bos=self.exclude_bos)
        if kept.all():
            return resid
        # As numbers: a GPU's host would wait to know how many a mask chooses.
        return resid[:, kept.view(-1).nonzero().view(-1).to(resid.device)]


@lru_cache(maxsize=1)
def _shuffled(n_rows: int, seed: int) -> Int[Tensor, " rows"]:
    return torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed))
