"""SIGKILL at any moment, run again: the same registry as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from saetrack.chain.plan import Chain, Track
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.utils.settings import Settings
from tests.support.memory_store import MemoryStore
from tests.support.running import run

ROOT = Path(__file__).parent.parent.parent


def start(where: str, settings: Settings, cache_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.nano_run", where],
        cwd=ROOT,
        env={
            **os.environ,
            "SAETRACK_TRACKING_URI": settings.tracking_uri,
            "SAETRACK_ARTIFACT_DIR": str(settings.artifact_dir),
            "SAETRACK_CACHE_DIR": str(cache_dir),
            "SAETRACK_DEVICE": "cpu",
        },
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL once the process says that it is where it should die."""
    assert process.stdout is not None
    assert any(line == "waiting\n" for line in process.stdout), "it ended by itself"
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def undisturbed(track: Track, source: CheckpointSource) -> MemoryStore:
    store = MemoryStore()
    run(track, source, store)
    return store


@pytest.mark.parametrize(
    "where", ["in a link's training", "before a version", "after a version", "in a command"]
)
def test_a_killed_track_ends_like_an_undisturbed_one(
    where: str, settings: Settings, cache_dir: Path, chain: Chain, undisturbed: MemoryStore
) -> None:
    kill(start(where, settings, cache_dir))
    registry = Registry(settings)
    left = registry.versions(chain)
    assert 1 <= len(left) < 4, "killed too early or too late to mean anything"
    assert start("-", settings, cache_dir).wait() == 0

    versions = registry.versions(chain)
    assert versions == {link.identity: link.number + 1 for link in chain.links}
    assert versions.items() >= left.items(), "finished links must be pulled, not trained again"
    for link in chain.links:
        resumed = registry.pull(chain.name, version=versions[link.identity]).sae
        expected = undisturbed.links[link.identity].sae
        pairs = zip(resumed.parameters(), expected.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), f"link {link.number} differs"

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + len(chain.links), "one run for the chain and one per link"
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(client.search_model_versions(f"name = '{chain.name}'")) == len(chain.links)


def test_a_killed_lm_training_goes_on_to_the_same_lm(
    settings: Settings, tmp_path: Path, source: CheckpointSource, chain: Chain
) -> None:
    cache = tmp_path / "cache"
    kill(start("in the LM's training", settings, cache))
    refs = cache / "refs" / source.repo.replace("/", "--")
    published = sorted(ref.name for ref in refs.iterdir())
    assert published == ["step0", "step1", "step2"]
    written = {name: (refs / name).stat().st_mtime_ns for name in published[:2]}
    assert start("-", settings, cache).wait() == 0
    for name, before in written.items():
        assert (refs / name).stat().st_mtime_ns == before, "finished checkpoints must be kept"
    for checkpoint in source.resolve(list(range(6))):
        commit = (refs / checkpoint.revision).read_text()
        assert commit == checkpoint.commit, "the same training must give the same LM"
    assert not list(cache.rglob(".partial-*"))
    assert len(Registry(settings).versions(chain)) == 4
