"""sparsify's trainer: TopK, with Adam in place of its default optimiser so that all have the same.

Its step lives within `fit`, in a hook on an LM's module: a stand-in for the LM gives our batches
out at that module. It minimises the squared error over the batch's variance, without a penalty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from sparsify.config import SparseCoderConfig, TrainConfig
from sparsify.sparse_coder import SparseCoder
from sparsify.trainer import Trainer
from torch import Tensor, nn

from benchmarks.rounds import Rounds, Weights, serve

HOOK = "residuals"
# Its schedule lets the rate fall linearly to the end of the data: so far away, it does not fall.
ENDLESS = 10**12


class StandIn(nn.Module):
    """As much of an LM as the trainer asks for: one module, whose output is the batch."""

    def __init__(self, d_in: int, device: str) -> None:
        super().__init__()
        self.residuals = nn.Identity()
        self.batch = torch.zeros(1, 1, d_in, device=device)
        self.device = torch.device(device)
        self.dummy_inputs = {"tokens": torch.zeros(1, 1, dtype=torch.long)}

    @property
    def base_model(self) -> StandIn:
        """Where hookpoints are looked for."""
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        """The batch, whatever the tokens are."""
        out: Tensor = self.residuals(self.batch)
        return out


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """One row per step; asking for it moves the stand-in to the next batch."""

    def __init__(self, lm: StandIn, batches: Iterator[Tensor], batch_tokens: int) -> None:
        self._lm = lm
        self._batches = batches
        self._tokens = torch.zeros(batch_tokens, dtype=torch.long)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        self._lm.batch = next(self._batches)[None]
        return {"input_ids": self._tokens}


def run(rounds: Rounds) -> None:
    """Its trainer's `fit` over our batches."""
    job = rounds.job
    start = job.start()
    d_in, d_sae = start["W_enc"].shape
    lm = StandIn(d_in, job.device)
    config = TrainConfig(
        sae=SparseCoderConfig(num_latents=d_sae, k=job.k),
        batch_size=1,
        optimizer="adam",
        lr=job.learning_rate,
        lr_warmup_steps=0,
        hookpoints=[HOOK],
        finetune="the warm start",  # or it would put b_dec at the first batch's mean
        save_every=ENDLESS,
        log_to_wandb=False,
    )
    rows = Rows(lm, rounds.batches(), job.batch_tokens)
    trainer = Trainer(config, cast("Any", rows), cast("Any", lm))
    coder = trainer.saes[HOOK]
    with torch.no_grad():
        coder.encoder.weight.copy_(start["W_enc"].T)
        coder.encoder.bias.copy_(start["b_enc"])
        coder.W_dec.copy_(start["W_dec"])
        coder.b_dec.copy_(start["b_dec"])
    del start
    rounds.weights = lambda: weights(coder)
    trainer.fit()


def weights(coder: SparseCoder) -> Weights:
    """Its parameters in the shapes that the driver knows."""
    assert coder.W_dec is not None
    return {
        "W_enc": coder.encoder.weight.T,
        "b_enc": coder.encoder.bias,
        "W_dec": coder.W_dec,
        "b_dec": coder.b_dec,
    }


if __name__ == "__main__":
    serve(run)
