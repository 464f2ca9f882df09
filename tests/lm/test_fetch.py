"""Whatever the hub does, a checkpoint is whole and right, or refused in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub import constants

from saetrack.lm.checkpoints import hub, store
from saetrack.lm.checkpoints.download import TRIES, TemporaryError
from saetrack.lm.checkpoints.files import CHECKPOINT, TOKENIZER
from saetrack.utils.errors import UserError
from tests.support.faulty_hub import Fault, FaultyHub, point_client_at, serve
from tests.support.hub_files import CONFIG, DOWNLOADER, REPO, WEIGHTS, noise

LIMIT_BYTES = 10**9

MODEL = {
    "config.json": CONFIG,
    WEIGHTS: noise(0),
    "pytorch_model.bin": noise(1),
    "README.md": b"# a model",
}
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
INDEX = {"weight_map": {f"tensor{number}": shard for number, shard in enumerate(SHARDS)}}
SHARDED = {
    "config.json": CONFIG,
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    **{shard: noise(number) for number, shard in enumerate(SHARDS)},
}


@pytest.fixture
def server(running: FaultyHub) -> FaultyHub:
    """The hub, empty and in order."""
    running.reset()
    return running


def fetch(server: FaultyHub, cache: Path, revision: str = "step1") -> Path:
    commit = server.repos[REPO][revision].commit
    return hub.fetch(REPO, revision, commit, CHECKPOINT, cache, LIMIT_BYTES)


def be_impatient(fault: Fault, patch: pytest.MonkeyPatch) -> None:
    if fault is Fault.STALL:
        patch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)


def contents(folder: Path) -> dict[str, bytes]:
    """Of a commit's folder, less the list of what must be in it."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    files.pop(store.MANIFEST, None)
    return files


def wanted(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: files[name] for name in files if name not in {"README.md", "pytorch_model.bin"}}


def assert_nothing_wrong_is_kept(cache: Path, files: dict[str, bytes]) -> None:
    drafts = list(cache.glob("checkpoints/*/*.draft"))
    folders = [path for path in cache.glob("checkpoints/*/*") if path.is_dir()]
    assert folders == drafts, "nothing that is not whole is taken for whole"
    for draft in drafts:
        assert contents(draft).items() <= files.items()


def test_config_and_weights_come_once(server: FaultyHub, tmp_path: Path) -> None:
    server.add(REPO, "step1", MODEL)
    folder = fetch(server, tmp_path)
    assert contents(folder) == wanted(MODEL)
    server.asked.clear()
    assert fetch(server, tmp_path) == folder
    assert not server.asked
    assert hub.commits(REPO, ["step1"], tmp_path) == {"step1": folder.name}
    assert not server.asked, "the name is known too"


def test_bin_files_come_where_the_hub_has_no_safetensors(server: FaultyHub, tmp_path: Path) -> None:
    files = {"config.json": CONFIG, "pytorch_model.bin": noise(1), "tf_model.h5": noise(2)}
    server.add(REPO, "step1", files)
    del files["tf_model.h5"]
    assert contents(fetch(server, tmp_path)) == files


def test_a_tokenizer_comes_by_the_same_way(server: FaultyHub, tmp_path: Path) -> None:
    files = {"tokenizer.json": noise(3), "tokenizer_config.json": b"{}"}
    commit = server.add(REPO, "main", {**MODEL, **files})
    server.fail("tokenizer.json", Fault.FLIP, times=1)
    folder = hub.fetch(REPO, "main", commit, TOKENIZER, tmp_path)
    assert contents(folder) == files


FILE_FAULTS = [fault for fault in Fault if fault is not Fault.GARBAGE]


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_fault_that_passes_is_recovered_from(
    server: FaultyHub, tmp_path: Path, fault: Fault, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_impatient(fault, monkeypatch)
    server.add(REPO, "step1", MODEL)
    server.fail(name, fault, times=1)
    assert contents(fetch(server, tmp_path)) == wanted(MODEL)
    assert server.faults[name] == [], "the fault did happen"
    assert not list(tmp_path.rglob("*.incomplete"))


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.BROKEN, Fault.GARBAGE])
def test_a_listing_that_comes_late_is_enough(
    server: FaultyHub, tmp_path: Path, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    server.add(REPO, "step1", MODEL)
    server.fail("listing", fault, times=2)
    assert contents(fetch(server, tmp_path)) == wanted(MODEL)
    tries = [line for line in caplog.messages if " of 4 in " in line]
    assert [f"try {number} of" in line for number, line in enumerate(tries, 2)] == [True, True]


LASTING = {
    Fault.DROP: "cannot be had: ",
    Fault.CUT: "cannot be had: ",
    Fault.SHORT: "cannot be had: Consistency check failed",
    Fault.LESS: r"is not what the hub lists \(20,000 of 40,000 bytes\)",
    Fault.FLIP: r"is not what the hub lists \(SHA-256 differs\)",
    Fault.STALL: "cannot be had: timed out",
    Fault.UNAVAILABLE: "cannot be had: Server error '503",
    Fault.BROKEN: "cannot be had: Server error '500",
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_lasts_is_one_line_and_keeps_nothing_wrong(
    server: FaultyHub, tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_impatient(fault, monkeypatch)
    server.add(REPO, "step1", MODEL)
    server.fail(WEIGHTS, fault)
    line = f"^model: {REPO} at step1: {WEIGHTS} {LASTING[fault]}.* after {TRIES} tries$"
    with pytest.raises(UserError, match=line) as caught:
        fetch(server, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert_nothing_wrong_is_kept(tmp_path, MODEL)
    del server.faults[WEIGHTS]
    assert contents(fetch(server, tmp_path)) == wanted(MODEL), "and later all is well"


def test_a_hub_that_disappears_is_one_line(server: FaultyHub, tmp_path: Path) -> None:
    server.add(REPO, "step1", MODEL)
    commit = server.repos[REPO]["step1"].commit
    with serve() as gone:
        pass
    with pytest.MonkeyPatch.context() as patch:
        point_client_at(gone.address, patch)
        line = rf"^model: {REPO} at step1 cannot be had: .*refused.* after {TRIES} tries$"
        with pytest.raises(TemporaryError, match=line):
            hub.fetch(REPO, "step1", commit, CHECKPOINT, tmp_path, LIMIT_BYTES)
        assert not list(tmp_path.iterdir())


def test_what_the_hub_lacks_is_asked_for_once(server: FaultyHub, tmp_path: Path) -> None:
    server.add(REPO, "step1", {"config.json": CONFIG})
    with pytest.raises(UserError, match="cannot be had: 404 Client Error"):
        hub.fetch(REPO, "step2", "0" * 40, CHECKPOINT, tmp_path, LIMIT_BYTES)
    assert server.asked["listing"] == 1
    with pytest.raises(UserError, match=r"step1 has no model\*\.safetensors or pytorch_model"):
        fetch(server, tmp_path)
    server.add(REPO, "step3", {name: SHARDED[name] for name in SHARDED if name != SHARDS[1]})
    with pytest.raises(UserError, match=f"step3 on the hub lacks {SHARDS[1]}"):
        fetch(server, tmp_path, "step3")


@pytest.mark.parametrize("lost", [SHARDS[1], "model.safetensors.index.json", "config.json"])
def test_an_incomplete_snapshot_is_completed(server: FaultyHub, tmp_path: Path, lost: str) -> None:
    server.add(REPO, "step1", SHARDED)
    (fetch(server, tmp_path) / lost).unlink()
    server.asked.clear()
    assert contents(fetch(server, tmp_path)) == SHARDED
    assert not set(server.asked) - {"listing", lost, f"content of {lost}"}


@pytest.mark.parametrize("name", [SHARDS[0], "model.safetensors.index.json", "config.json"])
def test_a_file_damaged_in_the_cache_is_fetched_anew(
    server: FaultyHub, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add(REPO, "step1", SHARDED)
    path = fetch(server, tmp_path) / name
    path.write_bytes(SHARDED[name][:-1] + b"!")
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(UserError, match="cannot be had: offline mode is on"):
            fetch(server, tmp_path)
    assert contents(fetch(server, tmp_path)) == SHARDED


def test_a_download_killed_in_the_middle_is_taken_up(server: FaultyHub, tmp_path: Path) -> None:
    commit = server.add(REPO, "step1", SHARDED)
    server.fail(SHARDS[1], Fault.STALL, times=1)
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    process = subprocess.Popen(
        [sys.executable, "-c", DOWNLOADER, REPO, commit, str(tmp_path)],
        env={**online, "HF_ENDPOINT": server.address, "NO_PROXY": "*"},
    )
    assert server.stalled.wait(timeout=60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.rglob("*.incomplete")), "killed in the middle of a file"
    assert_nothing_wrong_is_kept(tmp_path, SHARDED | {"partial": noise(1)[:20_000], "none": b""})
    server.asked.clear()
    assert contents(fetch(server, tmp_path)) == SHARDED
    assert not server.asked[SHARDS[0]], "what was whole is kept"
    assert not list(tmp_path.rglob("*.incomplete")), "what the killed one left is gone"


def test_two_at_once_fetch_once(server: FaultyHub, tmp_path: Path) -> None:
    server.add(REPO, "step1", MODEL)
    server.fail(WEIGHTS, Fault.SLOW)
    threads = [threading.Thread(target=fetch, args=(server, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(fetch(server, tmp_path)) == wanted(MODEL)
    assert server.asked[f"content of {WEIGHTS}"] == 1
