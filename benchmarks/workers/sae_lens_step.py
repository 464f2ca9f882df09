"""SAELens' trainer: its standard (L1) architecture, plain, with autocast, or compiled.

Its loss sums the squared error over d_in and weighs activations by decoder norms, which it leaves
free; rows begin with norm 1. Gradients are clipped to norm 1, which it has no setting for.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.llm_sae_training_runner import LanguageModelSAETrainingRunner
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer

from benchmarks.rounds import Rounds, serve

ENDLESS = 10**15


def run(rounds: Rounds) -> None:
    """Its trainer's `fit` over our batches."""
    job = rounds.job
    start = job.start()
    d_in, d_sae = start["W_enc"].shape
    config = StandardTrainingSAEConfig(
        d_in=d_in, d_sae=d_sae, device=job.device, l1_coefficient=job.l1_times_d_in
    )
    sae = StandardTrainingSAE(config)
    sae.load_state_dict(start)
    del start
    rounds.weights = lambda: {name: getattr(sae, name) for name in NAMES}
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=ENDLESS,
            train_batch_size_samples=job.batch_tokens,
            lr=job.learning_rate,
            lr_end=job.learning_rate,
            device=job.device,
            autocast="autocast" in job.variant,
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae=sae,
        data_provider=rounds.batches(),
    )
    if "compile" in job.variant:
        # Its runner's own way of compiling, without the LM that a runner needs.
        settings = SimpleNamespace(compile_sae=True, sae_compilation_mode=None, device=job.device)
        LanguageModelSAETrainingRunner._compile_sae_if_needed(
            cast("Any", SimpleNamespace(cfg=settings, sae=sae))
        )
    trainer.fit()


NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")

if __name__ == "__main__":
    serve(run)
