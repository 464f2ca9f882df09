"""The sparse step of one shape, at a fixed number of active features."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.planted import perturbed_sae, plant, sae_config
from benchmarks.rounds import forget_resident_peak, resident_bytes
from saetrack.sae.step import TrainStep

L0 = 32.0
WARMUP_STEPS = 2
# So low that the sparsity stays what it was made: here only the shape may differ.
LEARNING_RATE = 1e-6


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each step, and the peak of memory above data and interpreter."""
    d_in, d_sae, batch_tokens = job["d_in"], job["d_sae"], job["batch_tokens"]
    planted = plant(d_in, d_sae)
    vectors = planted.draw(2 * batch_tokens, seed=1)
    baseline_bytes = resident_bytes("VmRSS") - planted.directions.nbytes
    sae = perturbed_sae(planted, vectors[:256], L0, seed=3)
    del planted
    step = TrainStep(sae, sae_config(d_in), sparse_below=2.0)
    seconds = []
    for number in range(WARMUP_STEPS + job["steps"]):
        if number == WARMUP_STEPS:
            forget_resident_peak()
        x = vectors[number % 2 * batch_tokens :][:batch_tokens]
        began_s = time.perf_counter()
        step(x, LEARNING_RATE)
        seconds.append(time.perf_counter() - began_s)
    return {
        "seconds": seconds[WARMUP_STEPS:],
        "peak_bytes": resident_bytes("VmHWM") - baseline_bytes,
        "l0": step.density * d_sae,
    }


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    Path(given["answer"]).write_text(json.dumps(main(given)))
