"""dictionary_learning's standard trainer, or that of the April update, in its training loop.

Both sum the squared error over d_in. `StandardTrainer` projects the decoder's gradient and keeps
columns at norm 1; the April update leaves them free, weighs activations by them, clips gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from dictionary_learning.trainers.standard import StandardTrainer, StandardTrainerAprilUpdate
from dictionary_learning.training import trainSAE

from benchmarks.rounds import Rounds, Weights, serve

TRAINERS = {"standard": StandardTrainer, "april update": StandardTrainerAprilUpdate}
ENDLESS = 10**15


def run(rounds: Rounds) -> None:
    """Its `trainSAE` over our batches."""
    job = rounds.job
    start = job.start()
    d_in, d_sae = start["W_enc"].shape
    trainer = TRAINERS[job.variant.removesuffix(" autocast")](
        steps=ENDLESS,
        activation_dim=d_in,
        dict_size=d_sae,
        layer=0,
        lm_name="none",
        lr=job.learning_rate,
        l1_penalty=job.l1_times_d_in,
        warmup_steps=0,
        sparsity_warmup_steps=None,
        device=job.device,
    )
    ae = trainer.ae
    with torch.no_grad():
        ae.encoder.weight.copy_(start["W_enc"].T)
        ae.encoder.bias.copy_(start["b_enc"])
        ae.decoder.weight.copy_(start["W_dec"].T)
        ae.bias.copy_(start["b_dec"])
    del start
    rounds.weights = lambda: weights(ae)
    trainSAE(
        data=rounds.batches(),
        # It calls this with the rest of the dictionary, to make the trainer.
        trainer_configs=[{"trainer": lambda: trainer}],
        steps=ENDLESS,
        device=job.device,
        autocast_dtype=torch.bfloat16 if "autocast" in job.variant else torch.float32,
    )


def weights(ae: Any) -> Weights:
    """Its two linear maps in the shapes that the driver knows."""
    return {
        "W_enc": ae.encoder.weight.T,
        "b_enc": ae.encoder.bias,
        "W_dec": ae.decoder.weight.T,
        "b_dec": ae.bias,
    }


if __name__ == "__main__":
    serve(run)
