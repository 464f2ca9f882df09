"""What tests run in each of several processes: `torchrun -m tests.support.ranks WHAT`."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path
from unittest.mock import patch

import torch

from saetrack.chain.config import load_config
from saetrack.sae import dead_features
from saetrack.sae.config import (
    BatchTopKConfig,
    JumpReLUConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
)
from saetrack.sae.metrics import evaluate
from saetrack.sae.model import SAE
from saetrack.sae.step import TrainStep
from saetrack.sae.tensor_parallel import Ranks, join
from saetrack.training.chain_page import update_chain_page
from saetrack.training.loop import train_track
from saetrack.training.prepare import prepare
from saetrack.training.state import save_state
from saetrack.utils.settings import load_settings
from tests.support.nano import NANO_TRACK
from tests.support.nano_run import run_command
from tests.support.plain_sae import fresh_sae

D_IN, D_SAE, TOKENS = 16, 96, 128
RELU: list[SAEConfig] = [
    ReLUConfig(l1_coefficient=0.02, reconstruction=reconstruction, penalty=penalty)
    for reconstruction in ("scale_free", "mse")
    for penalty in ("unit_decoder", "decoder_norm")
]
# Features that never fire are dead from the third step on. They are among the first ones, so that
# the second of two ranks has none.
DEAD_AFTER = 2 * TOKENS
OTHERS: list[SAEConfig] = [
    TopKConfig(k=5, auxk_coefficient=0.5, dead_after_tokens=DEAD_AFTER),
    BatchTopKConfig(k=5, auxk=3, matryoshka=(20, 70), dead_after_tokens=DEAD_AFTER),
    JumpReLUConfig(
        l0_coefficient=0.01, bandwidth=0.4, pre_act_coefficient=0.1, dead_after_tokens=DEAD_AFTER
    ),
]
# Fewer where rounding decides which features fire: one that differs changes all that follows.
STEPS = {**dict.fromkeys(range(len(RELU)), 40), **dict.fromkeys(range(len(RELU), 7), 6)}


def residuals(seed: int) -> torch.Tensor:
    return torch.randn(TOKENS, D_IN, generator=torch.Generator().manual_seed(seed)) + 0.3


@patch.object(dead_features, "DENSE_NUMBERS", 12 * 50)  # dead features' activations in three parts
def steps(ranks: Ranks) -> dict[str, torch.Tensor]:
    """Weights, moments and losses after steps of all kinds."""
    found = {}
    for number, sae_config in enumerate([*RELU, *OTHERS]):
        for sparse_below in (0.0, 1.1):
            sae = fresh_sae(sae_config, torch.full((D_IN,), 0.2), D_SAE, seed=1)
            with torch.no_grad():
                sae.b_enc[: D_SAE // 8] = -50.0
            step = TrainStep(sae.shard(ranks), sae_config, sparse_below=sparse_below)
            terms = [step(residuals(seed), 3e-3) for seed in range(STEPS[number])]
            measured = evaluate(step.sae, residuals(100), sae_config, matched_l0=4)
            label = f"{number} {sparse_below}"
            found |= {f"{label} {name}": tensor for name, tensor in step.state().items()}
            found[f"{label} losses"] = torch.tensor([[float(t) for t in of] for of in terms])
            found[f"{label} metrics"] = torch.tensor(list(measured.scalars().values()))
            found[f"{label} feature_density"] = measured.feature_density
    return found


def peak(ranks: Ranks, d_in: int, d_sae: int) -> None:
    """Print by how much memory peaked over that of the imports, and a step's time."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    share = SAE(d_in, d_sae // ranks.count, ranks)
    generator = torch.Generator().manual_seed(ranks.rank)
    with torch.no_grad():
        share.W_enc.normal_(0, d_in**-0.5, generator=generator)
        share.W_dec.normal_(generator=generator)
        share.normalise_decoder()
        share.b_enc.fill_(-2.5)
    step = TrainStep(share, ReLUConfig())
    step.density = 0.0  # sparse from the first step on
    times = []
    for seed in range(6):
        x = torch.randn(1024, d_in, generator=torch.Generator().manual_seed(seed))
        began_s = time.perf_counter()
        step(x, 1e-4)
        times.append(time.perf_counter() - began_s)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(
        f"rank {ranks.rank} of {ranks.count}: {d_in} x {d_sae}: {(after - before) / 1024:.0f} MB, "
        f"step {sorted(times)[3] * 1e3:.0f} ms, density {step.density:.4f}\n"
    )


def track(ranks: Ranks, die_at: int | None) -> None:
    """The nano track, in dense and sparse steps; every rank dies with rank 0."""
    from saetrack.registry.link_run import LinkRun

    if die_at is not None and ranks.rank == 0:
        log, calls = LinkRun.log, []

        def counted(self: LinkRun, *args: object) -> None:
            calls.append(1)
            if len(calls) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            log(self, *args)  # type: ignore[arg-type]

        LinkRun.log = counted  # type: ignore[method-assign]
    ready = prepare(load_config({**NANO_TRACK, "save_every_s": 0}), load_settings())
    train_track(ready.track, ready.source, ready.context)
    if ranks.rank == 0:
        for chain in ready.track.chains:
            update_chain_page(ready.registry, chain)


def main(what: str, *arguments: str) -> None:
    ranks = join(torch.device("cpu"))
    if what == "steps":
        tensors = steps(ranks)
        if ranks.rank == 0:
            save_state(Path(arguments[0]), tensors, {})
    elif what == "peak":
        peak(ranks, *(int(number) for number in arguments))
    elif what == "command":
        run_command()
    else:
        track(ranks, int(arguments[0]) if arguments else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
