"""Running a track against any store, as tests do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from saetrack.chain.config import load_config
from saetrack.chain.link_store import LinkStore
from saetrack.chain.plan import CheckpointJob, Track, plan_track, scheduled
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.training.checkpoint import TrainingContext, train_checkpoint
from saetrack.training.loop import train_track
from saetrack.training.mixing_buffer import MixingBuffer
from saetrack.utils.settings import Settings
from tests.support.memory_store import MemoryStore
from tests.support.nano import NANO_TRACK

CPU = torch.device("cpu")


def run(
    track: Track,
    source: CheckpointSource,
    store: LinkStore,
    state_dir: Path | None = None,
    device: torch.device = CPU,
) -> int:
    """Train what is missing of a track; how many links that were."""
    with tempfile.TemporaryDirectory() as folder:
        return train_track(track, source, TrainingContext(store, device, state_dir or Path(folder)))


def run_jobs(jobs: Iterable[CheckpointJob], source: CheckpointSource, store: LinkStore) -> None:
    """Train some checkpoints of a track only."""
    chosen = list(jobs)
    with (
        tempfile.TemporaryDirectory() as folder,
        Ahead(source, [job.checkpoint for job in chosen]) as ahead,
    ):
        for job in chosen:
            train_checkpoint(job, ahead, TrainingContext(store, CPU, Path(folder)))


@contextmanager
def broken_off(after_batches: int, of_pass: int = 1) -> Iterator[None]:
    """The block trains, and is broken off after so many batches of a checkpoint.

    Args:
        after_batches: that are trained on.
        of_pass: of the first checkpoint that the block trains, or of a later one.
    """
    batches, passes = MixingBuffer.__iter__, 0

    def breaking_off(self: MixingBuffer) -> Iterator[torch.Tensor]:
        nonlocal passes
        passes += 1
        for number, batch in enumerate(batches(self)):
            if passes == of_pass and number == after_batches:
                raise KeyboardInterrupt
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MixingBuffer, "__iter__", breaking_off)
        with pytest.raises(KeyboardInterrupt):
            yield


def plan(source: CheckpointSource, corpus: Corpus, /, **changes: Any) -> Track:
    """The nano track with other parameters."""
    config = load_config({**NANO_TRACK, **changes})
    return plan_track(config, source, scheduled(config, source), corpus)


def trained_with(source: CheckpointSource, corpus: Corpus, /, **changes: Any) -> MemoryStore:
    """What the nano track with other parameters gives."""
    store = MemoryStore()
    run(plan(source, corpus, **changes), source, store)
    return store


def set_environment(settings: Settings, patch: pytest.MonkeyPatch) -> None:
    """Let whoever reads the settings from the environment find these."""
    for name in ("tracking_uri", "artifact_dir", "cache_dir", "device"):
        patch.setenv(f"SAETRACK_{name.upper()}", str(getattr(settings, name)))
