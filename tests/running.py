"""Running a track against any store, as tests do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from saetrack.chain import run_track
from saetrack.config import load_config
from saetrack.corpus import Corpus
from saetrack.link import LinkStore
from saetrack.lm.ahead import Ahead
from saetrack.lm.checkpoints import CheckpointSource
from saetrack.plan import Stage, Track, plan_track
from saetrack.settings import Settings
from saetrack.stage import Workshop, run_stage
from tests.memory_store import MemoryStore
from tests.nano import NANO_TRACK

CPU = torch.device("cpu")


def run(
    track: Track, source: CheckpointSource, store: LinkStore, state_dir: Path | None = None
) -> int:
    """Train what is missing of a track; how many links that were."""
    with tempfile.TemporaryDirectory() as folder:
        return run_track(track, source, Workshop(store, CPU, state_dir or Path(folder)))


def run_stages(stages: Iterable[Stage], source: CheckpointSource, store: LinkStore) -> None:
    """Train some stages only."""
    chosen = list(stages)
    with (
        tempfile.TemporaryDirectory() as folder,
        Ahead(source, [stage.checkpoint for stage in chosen]) as ahead,
    ):
        for stage in chosen:
            run_stage(stage, ahead, Workshop(store, CPU, Path(folder)))


def plan(source: CheckpointSource, corpus: Corpus, /, **changes: Any) -> Track:
    """The nano track with other parameters."""
    return plan_track(load_config({**NANO_TRACK, **changes}), source, corpus)


def trained_with(source: CheckpointSource, corpus: Corpus, /, **changes: Any) -> MemoryStore:
    """What the nano track with other parameters gives."""
    store = MemoryStore()
    run(plan(source, corpus, **changes), source, store)
    return store


def set_environment(settings: Settings, patch: pytest.MonkeyPatch) -> None:
    """Let whoever reads the settings from the environment find these."""
    for name in ("tracking_uri", "artifact_dir", "cache_dir", "device"):
        patch.setenv(f"SAETRACK_{name.upper()}", str(getattr(settings, name)))
