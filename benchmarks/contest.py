"""The step benchmark: all contestants on the same data, round by round, then judged alike."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.contestant import Contestant, Worker
from benchmarks.judged import judge
from benchmarks.peers import (
    DICTIONARY_LEARNING,
    SAE_LENS,
    SPARSIFY,
    UnavailableError,
    say,
)
from benchmarks.planted import L1_TIMES_D_IN, perturbed_sae, plant, sae_config, settle
from benchmarks.roofline import Roofline, best_seconds, measure, middle
from benchmarks.rounds import Job
from saetrack.sae.files import save_tensors
from saetrack.utils.progress import duration

OURS = "saetrack sparse"
START_L0 = 30.0
SETTLING_RATES = [1e-3] * 28 + [1e-4] * 12
LEARNING_RATE = 1e-4
DISTINCT_BATCHES = 12
HELD_OUT_TOKENS = 4096
WARMUP_STEPS = 3  # a compiler is done after three: the second finds that the step number varies
# How much slower than float32 a bfloat16 product may be before it is plain that the processor only
# emulates it: one autocast step then takes minutes.
EMULATED = 4.0


@dataclass(frozen=True)
class Plan:
    """A benchmark of one shape.

    Attributes:
        d_in: width of the residuals.
        d_sae: features.
        batch_tokens: of a step.
        rounds: of every contestant.
        steps: of a round.
        device: `cpu` or `cuda`.
    """

    d_in: int
    d_sae: int
    batch_tokens: int
    rounds: int
    steps: int
    device: str

    @property
    def name(self) -> str:
        """As people write a shape."""
        return f"{self.d_in}x{self.d_sae}"


def contestants(device: str) -> list[Contestant]:
    """Who takes part; peers with every setting of theirs that may be fast."""
    lens, standard = "sae_lens_step", "dictionary_learning_step"
    chosen = [
        Contestant(OURS, None, "saetrack_step", "sparse"),
        Contestant("saetrack dense", None, "saetrack_step", "dense"),
        Contestant("SAELens", SAE_LENS, lens, "plain"),
        Contestant("SAELens compile", SAE_LENS, lens, "compile"),
        Contestant("dictionary_learning", DICTIONARY_LEARNING, standard, "standard"),
        Contestant("dictionary_learning April", DICTIONARY_LEARNING, standard, "april update"),
        Contestant(f"{OURS} TopK", None, "saetrack_step", "topk", counts_features=True),
        Contestant("sparsify TopK", SPARSIFY, "sparsify_step", "topk", counts_features=True),
    ]
    if multiplies_bfloat16(device):
        chosen += [
            Contestant(f"{OURS} bfloat16", None, "saetrack_step", "sparse bfloat16"),
            Contestant("SAELens autocast", SAE_LENS, lens, "autocast"),
            Contestant("SAELens autocast compile", SAE_LENS, lens, "autocast compile"),
            Contestant(
                "sparsify TopK autocast",
                SPARSIFY,
                "sparsify_step",
                "topk autocast",
                counts_features=True,
            ),
        ]
        if device == "cuda":  # its loop knows no autocast on the CPU
            chosen.append(
                Contestant(
                    "dictionary_learning autocast",
                    DICTIONARY_LEARNING,
                    standard,
                    "standard autocast",
                )
            )
    return chosen


def multiplies_bfloat16(device: str) -> bool:
    """Whether autocast is worth a try here; says so if not."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(256, 256, device=device, dtype=dtype)
        W = torch.ones(256, 1024, device=device, dtype=dtype)
        seconds[dtype] = best_seconds(partial(torch.mm, x, W), device)
    slower = seconds[torch.bfloat16] / seconds[torch.float32]
    if slower > EMULATED:
        say(
            f"all autocast: left out: this processor emulates bfloat16, a product takes "
            f"{slower:.0f} times as long as in float32"
        )
    return slower <= EMULATED


def compete(plan: Plan) -> tuple[pd.DataFrame, Roofline]:
    """One row per contestant, and the roofline, measured between the rounds."""
    with tempfile.TemporaryDirectory() as name:
        arena = _Arena(plan, Path(name))
        workers = arena.workers()
        try:
            seconds, rooflines = _interleave(plan, workers)
            rows = [arena.judge(worker, seconds[label]) for label, worker in workers.items()]
        finally:
            for worker in workers.values():
                worker.end()
    table = pd.DataFrame(rows)
    ours = table.loc[table["contestant"] == OURS, "ms_per_step"]
    table.insert(5, "times_ours", table["ms_per_step"] / (ours.iloc[0] if len(ours) else np.nan))
    return table, middle(rooflines)


def _interleave(
    plan: Plan, workers: dict[str, Worker]
) -> tuple[dict[str, list[float]], list[Roofline]]:
    """A, B, C, ..., and again: what disturbs the machine disturbs all of them."""
    seconds: dict[str, list[float]] = {label: [] for label in workers}
    rooflines = []
    began_s = time.monotonic()
    for number in range(1, plan.rounds + 1):
        for label, worker in list(workers.items()):
            try:
                seconds[label].append(worker.steps(plan.steps) / plan.steps)
            except UnavailableError as error:
                say(str(error))
                del workers[label]
        rooflines.append(
            measure(plan.d_in, plan.d_sae, plan.batch_tokens, plan.device, torch.float32)
        )
        left_s = (time.monotonic() - began_s) / number * (plan.rounds - number)
        say(f"{plan.name}: round {number} of {plan.rounds}, {duration(left_s)} left")
    return seconds, rooflines


class _Arena:
    """The data, the warm start and the judge of one shape."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        planted = plant(plan.d_in, plan.d_sae)
        say(f"{plan.name}: planting data, settling the warm start")
        vectors = planted.draw(DISTINCT_BATCHES * plan.batch_tokens, seed=1)
        np.save(folder / "data.npy", vectors.numpy())
        self._held_out = planted.draw(HELD_OUT_TOKENS, seed=2)
        sae = perturbed_sae(planted, vectors[:512], START_L0, seed=3).to(plan.device)
        batches = vectors.to(plan.device).split(plan.batch_tokens)
        repeated = [batches[i % len(batches)] for i in range(len(SETTLING_RATES))]
        settle(sae, iter(repeated), SETTLING_RATES)
        save_tensors(folder / "start.safetensors", dict(sae.named_parameters()))
        self._k = round(self._judged(folder / "start.safetensors", None)["l0"])
        say(f"{plan.name}: the warm start has {self._k} active features per token")

    def workers(self) -> dict[str, Worker]:
        """All that can take part, each after its first steps."""
        started: dict[str, Worker] = {}
        for contestant in contestants(self._plan.device):
            began_s = time.monotonic()
            try:
                worker = Worker(contestant, self._job(contestant))
                worker.steps(WARMUP_STEPS)
                worker.forget_peak()
            except UnavailableError as error:
                say(str(error))
                continue
            started[contestant.label] = worker
            took = duration(time.monotonic() - began_s)
            say(f"{self._plan.name}: {contestant.label} is ready ({took})")
        return started

    def judge(self, worker: Worker, seconds: list[float]) -> dict[str, Any]:
        """A contestant's row."""
        contestant, plan = worker.contestant, self._plan
        path = self._folder / "final.safetensors"
        report = worker.report(path)
        step_s = median(seconds)
        return {
            "contestant": contestant.label,
            "version": report["version"],
            "ms_per_step": 1e3 * step_s,
            "least_ms": 1e3 * min(seconds),
            "tokens_per_s": plan.batch_tokens / step_s,
            **self._judged(path, self._k if contestant.counts_features else None),
            "peak_mb": report["peak_bytes"] / 1e6,
        }

    def _judged(self, weights: Path, k: int | None) -> dict[str, float]:
        """Held-out metrics, the same for all."""
        l1_coefficient = sae_config(self._plan.d_in).l1_coefficient
        return judge(weights, self._held_out, l1_coefficient, k)

    def _job(self, contestant: Contestant) -> Job:
        return Job(
            package="saetrack" if contestant.peer is None else contestant.peer.package,
            variant=contestant.variant,
            weights=str(self._folder / "start.safetensors"),
            data=str(self._folder / "data.npy"),
            batch_tokens=self._plan.batch_tokens,
            learning_rate=LEARNING_RATE,
            l1_times_d_in=L1_TIMES_D_IN,
            k=self._k,
            device=self._plan.device,
        )
