"""The state of unfinished training: written beside it, whole or absent, and gone in the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.training import state
from saetrack.training.state import StateWriter, discard_state, load_state, save_state, snapshot
from tests.support.memory_store import MemoryStore
from tests.support.running import plan, run

X = {"x": torch.arange(6.0).view(2, 3)}


def killed_while_writing(*args: Any, **_: Any) -> None:
    """As safetensors is found after a SIGKILL: its temporary file lies beside its target."""
    path = Path(args[1])
    (path.parent / ".tmpAb12Cd").write_bytes(b"half of it")
    raise KeyboardInterrupt


def kill_while_saving(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(state, "save_file", killed_while_writing)
        with pytest.raises(KeyboardInterrupt):
            save_state(path, X, {"done": 2})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_kill_while_writing_leaves_the_old_state_and_then_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.safetensors"
    (tmp_path / "key.partial").write_bytes(b"as release 0.1 left it")
    save_state(path, X, {"done": 1})
    kill_while_saving(path, monkeypatch)
    found = load_state(path)
    assert found is not None
    assert found[1] == {"done": 1}
    save_state(path, X, {"done": 3})
    assert names(tmp_path) == ["key.safetensors"]
    kill_while_saving(path, monkeypatch)
    discard_state(path)
    assert names(tmp_path) == []


def test_training_goes_on_while_a_state_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "key.safetensors", state.save_file

    def slow(*args: Any, **kwargs: Any) -> None:
        time.sleep(0.3)
        write(*args, **kwargs)

    monkeypatch.setattr(state, "save_file", slow)
    weights = {"W_enc": torch.ones(4, 3).T}
    with StateWriter(path) as writer:
        began_s = time.monotonic()
        writer.save(snapshot(weights), {"done": 1})
        weights["W_enc"].zero_()
        assert time.monotonic() - began_s < 0.2
    found = load_state(path)
    assert found is not None
    assert torch.equal(found[0]["W_enc"], torch.ones(3, 4))


def test_a_full_disk_costs_the_state_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "save_file", full)
    with StateWriter(tmp_path / "key.safetensors") as writer:
        writer.save(X, {})
    assert "cannot be written: [Errno 28] No space left on device" in caplog.text
    discard_state(tmp_path / "key.safetensors")
    assert names(tmp_path) == []


def test_no_state_is_written_after_the_last_batch_or_before_its_time(
    source: CheckpointSource, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    write = state.save_state

    def counted(path: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        written.append(facts["links"]["1"]["done_tokens"])
        write(path, tensors, facts)

    monkeypatch.setattr(state, "save_state", counted)
    schedule = [{"first": 0, "last": 0, "tokens": 1_024}]
    run(plan(source, corpus, schedule=schedule, save_every_s=0), source, MemoryStore(), tmp_path)
    assert written == [256, 512, 768]
    written.clear()
    run(plan(source, corpus, schedule=schedule, save_every_s=60), source, MemoryStore(), tmp_path)
    assert written == []


def test_the_state_of_links_that_are_registered_goes(
    source: CheckpointSource, corpus: Corpus, tmp_path: Path
) -> None:
    # SIGKILL between the last registration and the removal of the state.
    track = plan(source, corpus, schedule=[{"first": 0, "last": 0, "tokens": 1_024}])
    store = MemoryStore()
    run(track, source, store, tmp_path)
    save_state(tmp_path / f"{track.jobs[0].key}.safetensors", X, {})
    assert run(track, source, store, tmp_path) == 0
    assert names(tmp_path) == []
