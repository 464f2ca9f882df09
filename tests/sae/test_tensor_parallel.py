"""A dictionary over two processes: the weights of one process, to rounding, and one registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from saetrack.chain.plan import Chain, Track
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.sae.tensor_parallel import ALONE, Ranks
from saetrack.training.state import load_state
from saetrack.utils.settings import Settings
from tests.support.memory_store import MemoryStore
from tests.support.ranks import steps
from tests.support.running import run

ROOT = Path(__file__).parent.parent.parent


def torchrun(*arguments: str, settings: Settings | None = None) -> int:
    """Two ranks on this machine; the exit status."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if settings is not None:
        env |= {
            "SAETRACK_TRACKING_URI": settings.tracking_uri,
            "SAETRACK_ARTIFACT_DIR": str(settings.artifact_dir),
            "SAETRACK_CACHE_DIR": str(settings.cache_dir),
            "SAETRACK_DEVICE": "cpu",
            "PREFECT_HOME": str(settings.artifact_dir.parent / "prefect"),
        }
        env.pop("PREFECT_API_URL", None)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "-m", "tests.support.ranks", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, check=False, timeout=300).returncode


def test_two_ranks_train_the_weights_of_one(tmp_path: Path) -> None:
    path = tmp_path / "steps.safetensors"
    assert torchrun("steps", str(path)) == 0
    saved = load_state(path)
    assert saved is not None
    found, expected = saved[0], steps(ALONE)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        if name.endswith(("sparse_steps", "adam_steps")):
            assert torch.equal(found[name], tensor), name
        else:
            error = (found[name] - tensor).double().norm()
            assert error <= 1e-5 * tensor.double().norm(), name
    assert int(expected["0 1.1 sparse_steps"]) > 0 == int(expected["0 0.0 sparse_steps"])


@pytest.fixture(scope="module")
def alone(track: Track, source: CheckpointSource) -> MemoryStore:
    """The nano chain, trained by one process."""
    store = MemoryStore()
    run(track, source, store)
    return store


def assert_same_chain(settings: Settings, chain: Chain, alone: MemoryStore) -> None:
    registry = Registry(settings)
    assert registry.versions(chain) == {link.identity: link.number + 1 for link in chain.links}
    assert registry.is_finished(chain)
    for link in chain.links:
        found = registry.pull(chain.name, version=link.number + 1)
        expected = alone.links[link.identity]
        assert found.cfg["processes"] == 2
        for name, weight in expected.sae.state_dict().items():
            error = (found.sae.state_dict()[name] - weight).norm() / weight.norm()
            assert error < 1e-5, f"link {link.number} {name}: {error:.1e}"
        for name in ("loss", "explained_variance", "explained_variance_at_l0", "ce_loss_spliced"):
            assert found.cfg["metrics"][name] == pytest.approx(expected.metrics[name], rel=1e-4)


def test_a_track_of_two_ranks_gives_the_registry_of_one(
    settings: Settings, chain: Chain, alone: MemoryStore
) -> None:
    assert torchrun("command", settings=settings) == 0
    assert_same_chain(settings, chain, alone)


def test_killed_ranks_go_on_from_their_state(
    settings: Settings, chain: Chain, alone: MemoryStore, tmp_path: Path
) -> None:
    # In the middle of the third link, one state after its start.
    assert torchrun("track", "22", settings=settings) != 0
    left = Registry(settings).versions(chain)
    assert 1 <= len(left) < 4, "killed too early or too late to mean anything"
    (state,) = (settings.cache_dir / "states").glob("*.safetensors")
    saved = load_state(state)
    assert saved is not None
    assert saved[0]["1.W_dec"].shape == (64, 32), "whole: another number of ranks may go on"
    assert torchrun("track", settings=settings) == 0
    assert Registry(settings).versions(chain).items() >= left.items()
    assert_same_chain(settings, chain, alone)
    assert not state.exists()


def test_one_rank_gives_back_what_it_is_given() -> None:
    values = {"W_enc": torch.randn(3, 4), "b_dec": torch.randn(3)}
    assert ALONE.shard(values) is ALONE.unshard(values) is values
    assert ALONE.all_reduce(values["b_dec"]) is ALONE.all_gather(values["b_dec"]) is values["b_dec"]
    assert ALONE.shard_rows(7) == slice(0, 7)


@pytest.mark.parametrize("n_rows", [1, 2, 7, 32])
def test_rows_are_shared_without_gap_or_overlap(n_rows: int) -> None:
    shares = [list(range(n_rows))[Ranks(rank, 3).shard_rows(n_rows)] for rank in range(3)]
    if n_rows < 3:
        assert shares == [list(range(n_rows))] * 3
    else:
        assert [row for share in shares for row in share] == list(range(n_rows))
