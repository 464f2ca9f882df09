"""The worker's side of the step benchmark: batches that wait for the driver between rounds.

A contestant runs its own training loop, whole; what it iterates over decides when it may go on.
Needs torch, NumPy and safetensors alone, which every contestant's environment has.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Weights = dict[str, Tensor]


class Finished(Exception):
    """The driver needs no more steps."""


@dataclass(frozen=True)
class Job:
    """What a contestant is to train.

    Attributes:
        package: whose version is reported.
        variant: of the contestant's settings.
        weights: safetensors with W_enc (d_in, d_sae), b_enc, W_dec (d_sae, d_in), b_dec.
        data: .npy of vectors, (tokens, d_in), served over and over.
        batch_tokens: of one step.
        learning_rate: of Adam, constant.
        l1_times_d_in: weight of the summed activations against the squared error summed over d_in.
        k: active features per token where they are counted rather than penalised.
        device: `cpu` or `cuda`.
    """

    package: str
    variant: str
    weights: str
    data: str
    batch_tokens: int
    learning_rate: float
    l1_times_d_in: float
    k: int
    device: str

    def start(self) -> Weights:
        """The warm start, copied out of its file."""
        return {name: tensor.clone() for name, tensor in load_file(self.weights).items()}


class Rounds:
    """Serves batches, times rounds of them, and answers the driver."""

    def __init__(self, job: Job, channel: TextIO) -> None:
        self.job = job
        self.weights: Callable[[], Weights] = dict
        # Of memory maps only what was touched counts as memory, so all of it is touched now.
        vectors = torch.from_numpy(np.load(job.data, mmap_mode="c"))
        self._vectors = vectors.to(job.device)
        float(self._vectors.sum())
        self._channel = channel
        self._baseline_bytes = resident_bytes("VmRSS")

    def batches(self) -> Iterator[Tensor]:
        """Batches without end; raises `Finished` when the driver has had enough."""
        place = 0
        self._tell(ready=True)
        for count in self._wanted_rounds():
            began_s = self._now_s()
            for _ in range(count):
                if place + self.job.batch_tokens > len(self._vectors):
                    place = 0
                yield self._vectors[place : place + self.job.batch_tokens]
                place += self.job.batch_tokens
            self._tell(seconds=self._now_s() - began_s)
        raise Finished

    def _wanted_rounds(self) -> Iterator[int]:
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "steps":
                yield command["count"]
            elif command["do"] == "forget":
                self._forget_peak()
                self._tell(ready=True)
            elif command["do"] == "report":
                # What lies elsewhere was copied out by then: the peak is of the training alone.
                peak_bytes = self._peak_bytes()
                tensors = {n: t.detach().cpu().contiguous() for n, t in self.weights().items()}
                save_file(tensors, command["path"])
                self._tell(peak_bytes=peak_bytes, version=version(self.job.package))
            else:
                return

    def _now_s(self) -> float:
        if self.job.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _forget_peak(self) -> None:
        if self.job.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        forget_resident_peak()

    def _peak_bytes(self) -> int:
        if self.job.device == "cuda":
            return torch.cuda.max_memory_allocated() - self._vectors.nbytes
        return resident_bytes("VmHWM") - self._baseline_bytes

    def _tell(self, **answer: Any) -> None:
        self._channel.write(json.dumps(answer) + "\n")
        self._channel.flush()


def resident_bytes(field: str) -> int:
    """Resident memory of this process: now (`VmRSS`) or at most so far (`VmHWM`)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def forget_resident_peak() -> None:
    """Let `VmHWM` count from now on."""
    with contextlib.suppress(OSError):  # then the peak is that of the whole process
        Path("/proc/self/clear_refs").write_text("5")


def serve(train: Callable[[Rounds], None]) -> None:
    """Read a job from stdin and let a contestant train on it until the driver says so."""
    job = Job(**json.loads(sys.stdin.readline()))
    # Libraries print to stdout, some while they are imported: answers have a pipe of their own.
    with os.fdopen(int(sys.argv[1]), "w") as channel, contextlib.suppress(Finished):
        train(Rounds(job, channel))
