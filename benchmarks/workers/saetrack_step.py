"""This project's own training loop, with the step forced to be dense or sparse."""

from __future__ import annotations

from benchmarks.planted import sae_config
from benchmarks.rounds import Rounds, serve
from saetrack.sae.config import EncoderPrecision, Optimiser
from saetrack.sae.model import SAE
from saetrack.sae.step import TrainStep
from saetrack.sae.trainer import Training, train

SPARSE_BELOW = {"dense": 0.0, "sparse": 2.0, "sparse bfloat16": 2.0}


def run(rounds: Rounds) -> None:
    """Train with a constant rate, as a chain's later links do."""
    job = rounds.job
    start = job.start()
    d_in, d_sae = start["W_enc"].shape
    sae = SAE(d_in, d_sae)
    sae.load_state_dict(start)
    sae.to(job.device)
    rounds.weights = lambda: dict(sae.named_parameters())
    precision: EncoderPrecision = "bfloat16" if job.variant.endswith("bfloat16") else "float32"
    step = TrainStep(
        sae, sae_config(d_in), precision=precision, sparse_below=SPARSE_BELOW[job.variant]
    )
    training = Training(step, Optimiser(learning_rate=job.learning_rate))
    del start
    for _ in train([training], (x[None] for x in rounds.batches())):
        pass


if __name__ == "__main__":
    serve(run)
