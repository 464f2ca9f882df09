"""The disk that fetched checkpoints take is bounded, by those that nobody needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub import constants

from saetrack.lm.catalog.models import Checkpoint
from saetrack.lm.checkpoints import eviction, hub, store
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.checkpoints.download import TemporaryError
from saetrack.lm.checkpoints.files import CHECKPOINT
from saetrack.utils.errors import UserError
from saetrack.utils.settings import load_settings
from tests.support.faulty_hub import Fault, FaultyHub
from tests.support.hub_cache import put_in_hub_cache
from tests.support.hub_files import CONFIG, DOWNLOADER, REPO, WEIGHTS, noise

SIZE_BYTES = 40_000 + len(CONFIG)
TWO_BYTES = 2 * SIZE_BYTES


@pytest.fixture
def server(running: FaultyHub, monkeypatch: pytest.MonkeyPatch) -> FaultyHub:
    """The hub with five checkpoints, whose configs are one blob; nobody waits for room."""
    monkeypatch.setattr(eviction, "WAIT_S", -1.0)
    monkeypatch.setattr(eviction, "POLL_S", 0.01)
    running.reset()
    for step in range(5):
        running.add(REPO, f"step{step}", {"config.json": CONFIG, WEIGHTS: noise(step)})
    return running


class Source:
    """What HubSource does, with one limit."""

    def __init__(self, server: FaultyHub, cache: Path, limit_bytes: int) -> None:
        self.server, self.cache, self.limit_bytes = server, cache, limit_bytes

    def checkpoints(self) -> list[Checkpoint]:
        revisions = self.server.repos[REPO].items()
        return [
            Checkpoint(index, index, REPO, name, revision.commit)
            for index, (name, revision) in enumerate(revisions)
        ]

    def fetch(self, checkpoint: Checkpoint) -> Path:
        one = (checkpoint.repo, checkpoint.revision, checkpoint.commit)
        return hub.fetch(*one, CHECKPOINT, self.cache, self.limit_bytes)

    def folder(self, checkpoint: Checkpoint) -> Path:
        return store.commit_folder(self.cache, CHECKPOINT, REPO, checkpoint.commit)

    def kept(self) -> list[int]:
        """Steps whose checkpoints are there: whole, and with nothing else beside them."""
        folders = {self.folder(checkpoint): checkpoint for checkpoint in self.checkpoints()}
        there = {path for path in self.cache.glob("checkpoints/*/*") if path.is_dir()}
        assert there <= folders.keys(), "no drafts"
        assert not any(store.damaged_files(folder, CHECKPOINT) for folder in there)
        return sorted(folders[folder].lm_step for folder in there)


def test_the_longest_unused_go_first(server: FaultyHub, tmp_path: Path) -> None:
    source = Source(server, tmp_path, TWO_BYTES)
    zero, one, two, three, _ = source.checkpoints()
    source.fetch(zero)
    source.fetch(one)
    assert source.kept() == [0, 1]
    source.fetch(zero)
    source.fetch(two)
    assert source.kept() == [0, 2], "0 was used after 1"
    source.fetch(three)
    assert source.kept() == [2, 3]
    assert (source.fetch(one) / WEIGHTS).read_bytes() == noise(1), "and an evicted one comes again"


def test_what_saetrack_did_not_fetch_stays(
    server: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"config.json": CONFIG, WEIGHTS: noise(9, 10 * SIZE_BYTES)}
    commit = put_in_hub_cache(tmp_path / "hub", "someone/else", "main", mine)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    source = Source(server, tmp_path, SIZE_BYTES)
    for checkpoint in source.checkpoints():
        source.fetch(checkpoint)
    assert source.kept() == [4]
    folder = hub.fetch("someone/else", "main", commit, CHECKPOINT, tmp_path, SIZE_BYTES)
    assert folder.is_relative_to(tmp_path / "hub"), "used where it is, however large"
    assert (folder / WEIGHTS).read_bytes() == mine[WEIGHTS]


def test_one_that_can_never_fit_is_refused_before_anything_goes(
    server: FaultyHub, tmp_path: Path
) -> None:
    source = Source(server, tmp_path, SIZE_BYTES)
    source.fetch(source.checkpoints()[0])
    source.limit_bytes -= 1
    line = f"^SAETRACK_FETCHED_BYTES={SIZE_BYTES - 1}: {REPO} at step1 alone needs {SIZE_BYTES}$"
    with pytest.raises(UserError, match=line):
        source.fetch(source.checkpoints()[1])
    assert source.kept() == [0]


HOLDER = """
import sys, time
from pathlib import Path
from saetrack.lm.checkpoints.eviction import hold
with hold(Path(sys.argv[1])) as there:
    print(there, flush=True)
    time.sleep(600)
"""


def test_what_another_process_holds_stays_until_it_dies(server: FaultyHub, tmp_path: Path) -> None:
    source = Source(server, tmp_path, SIZE_BYTES)
    zero, one, *_ = source.checkpoints()
    command = [sys.executable, "-c", HOLDER, str(source.fetch(zero))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    with pytest.raises(TemporaryError, match=f"running tracks hold {SIZE_BYTES}$"):
        source.fetch(one)
    assert source.kept() == [0]
    process.send_signal(signal.SIGKILL)
    process.wait()
    source.fetch(one)
    assert source.kept() == [1]


def test_room_is_waited_for(
    server: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eviction, "WAIT_S", 60.0)
    source = Source(server, tmp_path, SIZE_BYTES)
    zero, one, *_ = source.checkpoints()
    with eviction.hold(source.fetch(zero)):
        waiting = threading.Thread(target=source.fetch, args=(one,))
        waiting.start()
        waiting.join(timeout=0.1)
        assert source.kept() == [0]
    waiting.join()
    assert source.kept() == [1]


def test_what_a_killed_download_took_is_given_back(server: FaultyHub, tmp_path: Path) -> None:
    source = Source(server, tmp_path, SIZE_BYTES)
    zero, *_ = source.checkpoints()
    server.fail(WEIGHTS, Fault.STALL, times=1)
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    process = subprocess.Popen(
        [sys.executable, "-c", DOWNLOADER, REPO, server.repos[REPO]["step1"].commit, str(tmp_path)],
        env={**online, "HF_ENDPOINT": server.address, "NO_PROXY": "*"},
    )
    assert server.stalled.wait(timeout=60)
    with pytest.raises(TemporaryError, match=f"running tracks hold {SIZE_BYTES}$"):
        source.fetch(zero)  # it counts from the moment that it begins
    process.send_signal(signal.SIGKILL)
    process.wait()
    source.fetch(zero)
    assert source.kept() == [0]


def test_both_the_used_and_the_coming_one_are_held(server: FaultyHub, tmp_path: Path) -> None:
    source = Source(server, tmp_path, SIZE_BYTES)
    zero, one, two, *_ = source.checkpoints()
    with Ahead(source, [zero, one, two]) as ahead:
        with ahead.checkpoint(zero), pytest.raises(TemporaryError):
            source.fetch(two)
        with ahead.checkpoint(one):  # room was made for it: the LM of the other is loaded
            assert source.kept() == [1]
        assert ahead._coming is not None
        ahead._coming[1].result(timeout=60)
        assert source.kept() == [2]
        with pytest.raises(TemporaryError):
            source.fetch(one)
        with ahead.checkpoint(zero):  # another than was expected: that one is let go
            assert source.kept() == [0]
    source.fetch(one)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("0", "^SAETRACK_FETCHED_BYTES='0': input should be greater than 0$"),
        ("plenty", "^SAETRACK_FETCHED_BYTES='plenty': input should be a valid integer"),
    ],
)
def test_a_limit_that_is_none_is_one_line(
    value: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no .env is, and settings may make their folders
    monkeypatch.setenv("SAETRACK_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("SAETRACK_FETCHED_BYTES", value)
    with pytest.raises(UserError, match=line):
        load_settings()
    monkeypatch.setenv("SAETRACK_FETCHED_BYTES", "5")
    assert load_settings().fetched_bytes == 5
