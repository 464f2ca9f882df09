"""This project's own training loop, with the step forced to be dense or sparse."""

from __future__ import annotations

from benchmarks.planted import sae_config
from benchmarks.rounds import Rounds, serve
from saetrack.sae.architectures import empty_sae
from saetrack.sae.config import EncoderPrecision, Optimiser, TopKConfig
from saetrack.sae.step import TrainStep
from saetrack.sae.trainer import Training, train

NEVER_SPARSE, ALWAYS_SPARSE = 0.0, 2.0


def run(rounds: Rounds) -> None:
    """Train with a constant rate, as a chain's later links do."""
    job = rounds.job
    start = job.start()
    d_in, d_sae = start["W_enc"].shape
    config = TopKConfig(k=job.k) if job.variant == "topk" else sae_config(d_in)
    sae = empty_sae(config, d_in, d_sae)
    sae.load_state_dict(start)
    sae.to(job.device)
    rounds.weights = lambda: dict(sae.named_parameters())
    precision: EncoderPrecision = "bfloat16" if job.variant.endswith("bfloat16") else "float32"
    sparse_below = NEVER_SPARSE if job.variant == "dense" else ALWAYS_SPARSE
    step = TrainStep(sae, config, precision=precision, sparse_below=sparse_below)
    training = Training(step, Optimiser(learning_rate=job.learning_rate))
    del start
    for _ in train([training], (x[None] for x in rounds.batches())):
        pass


if __name__ == "__main__":
    serve(run)
