"""A folder that a training run writes into: what counts as there, and what stays as it was."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saetrack.chain.compatibility import find_suitable_lm
from saetrack.chain.config import load_config
from saetrack.lm.catalog.models import find_model
from saetrack.lm.checkpoints import ledger
from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.folder_layout import find_lm, folder_spec
from saetrack.utils.errors import UserError
from tests.support.live_folder import CONFIG, commits, halve, look_into, pickle, shard, write
from tests.support.nano import NANO_TRACK

pytestmark = pytest.mark.usefixtures("impatient")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FIRST, SECOND = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
BREAK: dict[str, Callable[[Path], Any]] = {
    "half the weights": lambda path: halve(path / SINGLE),
    "a byte too few": lambda path: os.truncate(path / SINGLE, (path / SINGLE).stat().st_size - 1),
    "half a header": lambda path: os.truncate(path / SINGLE, 30),
    "not a byte of weights": lambda path: os.truncate(path / SINGLE, 0),
    "no weights": lambda path: (path / SINGLE).unlink(),
    "no config": lambda path: (path / "config.json").unlink(),
    "half a config": lambda path: halve(path / "config.json"),
    "shards without an index": lambda path: (shard(path), (path / INDEX).unlink()),
    "half an index": lambda path: (shard(path), halve(path / INDEX)),
    "a shard missing": lambda path: (shard(path), (path / SECOND).unlink()),
    "half a shard": lambda path: (shard(path), halve(path / FIRST)),
    "half a .bin": lambda path: (pickle(path), halve(path / "pytorch_model.bin")),
    "nothing": lambda path: (shutil.rmtree(path), path.mkdir()),
}


@pytest.mark.parametrize("how", BREAK)
def test_a_half_written_checkpoint_and_all_after_it_are_not_there_yet(
    how: str, live: Path, look: Callable[[], FolderSource]
) -> None:
    for lm_step in (1, 2, 10):
        write(live, lm_step)
    BREAK[how](live / "checkpoint-2")
    assert folder_spec(str(live)).lm_steps == (1,)
    assert look().spec.lm_steps == (1,)
    write(live, 2)
    assert folder_spec(str(live)).lm_steps == (1, 2, 10)
    assert look().spec.lm_steps == (1, 2, 10)


@pytest.mark.parametrize("form", [shard, pickle])
def test_every_form_of_weights_counts(
    form: Callable[[Path], None], live: Path, look: Callable[[], FolderSource]
) -> None:
    form(write(live, 3))
    assert look().spec.lm_steps == (3,)
    before = commits(look())
    last = max((live / "checkpoint-3").iterdir())
    halve(last)
    assert look().spec.lm_steps == (3,), "what was whole once keeps its place"
    form(write(live, 3))
    last.touch()
    assert commits(look()) == before


def test_a_whole_file_beside_other_shards_is_left_out(
    live: Path, look: Callable[[], FolderSource]
) -> None:
    whole = write(live, 3)
    kept = (whole / "model.safetensors").read_bytes()
    shard(whole)  # the same run, later, in shards
    (whole / "model.safetensors").write_bytes(kept)
    write(live, 4)
    source = look()
    assert source.spec.lm_steps == (4,)
    assert source.left_out["checkpoint-3"].startswith(
        "holds weights twice, in model.safetensors and in the shards of model.safetensors.index.js"
    )
    index = {"weight_map": {"a": "model.safetensors"}}  # one that names the whole file is no other
    (whole / "model.safetensors.index.json").write_text(json.dumps(index))
    assert look().spec.lm_steps == (3, 4)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_named_and_keeps_nothing_waiting(
    live: Path, look: Callable[[], FolderSource], name: str
) -> None:
    path = write(live, 3)
    (path / "model.safetensors").unlink()
    (path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n")
    write(live, 4)
    source = look()
    assert source.spec.lm_steps == (4,)
    assert source.left_out["checkpoint-3"].startswith(f"has a Git LFS pointer where {name} should")


def test_added_tokens_beside_a_vocabulary_are_read(live: Path, cache_dir: Path) -> None:
    """Older releases save them in a file of their own; without it their text is cut into pieces."""
    path = write(live, 3)
    words = {letter: number for number, letter in enumerate([*"abersu<|>", "<|end|>"])}
    for name, content in {
        "config.json": {**CONFIG, "model_type": "gpt2"},
        "vocab.json": words,
        "added_tokens.json": {"<|user|>": len(words)},
        "special_tokens_map.json": dict.fromkeys(("bos_token", "unk_token"), "<|end|>"),
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"},
    }.items():
        (path / name).write_text(json.dumps(content))
    (path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer, identity = look_into(live, cache_dir).tokenizer()
    assert tokenizer("<|user|>a").input_ids == [len(words), words["a"]]
    (path / "added_tokens.json").write_text("{}")
    assert look_into(live, cache_dir).tokenizer()[1] != identity


@pytest.mark.parametrize("content", [{}, {"weight_map": ["a"]}, {"weight_map": {}}])
def test_an_index_that_names_no_file_is_told(
    live: Path, look: Callable[[], FolderSource], content: dict[str, Any]
) -> None:
    shard(write(live, 3))
    (live / "checkpoint-3" / "model.safetensors.index.json").write_text(json.dumps(content))
    assert look().left_out["checkpoint-3"].endswith("that names no file (weight_map)")


def test_only_checkpoints_count_and_the_config_tells_the_shape(live: Path) -> None:
    write(live, 10, name="step")
    write(live, 9, name="step")
    for name in ("tmp-checkpoint-", "checkpoint-x"):
        write(live, 1, name=name)
    (live / "checkpoint-7").write_text("a file")
    spec = folder_spec(str(live))
    assert (spec.name, spec.repo, spec.folder) == ("nano-live", None, live)
    assert spec.lm_steps == (9, 10)
    assert (spec.n_layers, spec.d_model, spec.max_context) == (2, 8, 16)
    gpt2 = {"n_layer": 3, "n_embd": 12, "n_positions": 32}
    (live / "step10" / "config.json").write_text(json.dumps(gpt2))
    spec = folder_spec(str(live))
    assert (spec.n_layers, spec.d_model, spec.max_context) == (3, 12, 32)


def test_growth_extends_the_list_and_leaves_the_rest_alone(
    live: Path, look: Callable[[], FolderSource], caplog: pytest.LogCaptureFixture
) -> None:
    assert (look().spec.lm_steps, look().spec.n_layers) == ((), 0)
    seen: list[str] = []
    for count, lm_step in enumerate((0, 5, 50), start=1):
        write(live, lm_step)
        source = look()
        assert source.spec.lm_steps == (0, 5, 50)[:count]
        assert source.spec.n_layers == 2
        assert commits(source)[:-1] == seen
        seen = commits(source)
    assert len(set(seen)) == 3
    last = source.resolve([2])[0]
    assert (last.checkpoint_index, last.lm_step, last.revision) == (2, 50, "checkpoint-50")
    assert source.fetch(last) == live / "checkpoint-50"
    assert not warnings(caplog)


def test_deleted_checkpoints_keep_their_places(
    live: Path, look: Callable[[], FolderSource], caplog: pytest.LogCaptureFixture
) -> None:
    for lm_step in (1, 2, 3):
        write(live, lm_step)
    before = commits(look())
    (live / "checkpoint-1" / "config.json").unlink()  # in the midst of being deleted
    write(live, 4)
    assert look().spec.lm_steps == (1, 2, 3, 4)
    for lm_step in (1, 2, 3, 4):
        shutil.rmtree(live / f"checkpoint-{lm_step}")
    source = look()
    assert source.spec.lm_steps == (1, 2, 3, 4)
    assert source.spec.d_model == 8
    assert commits(source)[:3] == before
    with pytest.raises(UserError, match="nano-live has lost checkpoint-2 before it was") as e:
        source.fetch(source.resolve([1])[0])
    assert "\n" not in str(e.value)
    assert not warnings(caplog)


def test_another_training_run_in_the_same_folder_is_noticed_once(
    live: Path, look: Callable[[], FolderSource], caplog: pytest.LogCaptureFixture
) -> None:
    for lm_step in (1, 2, 3, 4):
        write(live, lm_step)
    planned = look()
    before = commits(planned)
    write(live, 2, value=-2)
    write(live, 3, value=-3)
    shutil.rmtree(live / "checkpoint-1")
    shutil.rmtree(live / "checkpoint-4")
    with pytest.raises(UserError, match="checkpoint-2 overwritten since this track was planned"):
        planned.fetch(planned.resolve([1])[0])
    source = look()
    assert source.spec.lm_steps == (1, 2, 3), "checkpoint-4 is not this run's"
    after = commits(source)
    assert after[0] == before[0] and not set(after[1:]) & set(before)
    source.fetch(source.resolve([1])[0])
    look()
    (line,) = warnings(caplog)
    assert "another training run has overwritten checkpoint-2 and later ones" in line


def test_a_checkpoint_that_comes_late_takes_its_place(
    live: Path, look: Callable[[], FolderSource], caplog: pytest.LogCaptureFixture
) -> None:
    write(live, 1)
    write(live, 3)
    look()
    write(live, 2)
    assert look().spec.lm_steps == (1, 2, 3)
    assert len(warnings(caplog)) == 1 and "checkpoint-2 came after later ones" in caplog.text


def test_a_commit_is_the_content_and_not_the_path(live: Path, tmp_path: Path) -> None:
    path = write(live, 1)
    (path / "tokenizer.json").write_text("{}")
    (path / "optimizer.pt").write_text("not the LM's")
    elsewhere = tmp_path / "moved" / "nano-live"
    shutil.copytree(live, elsewhere)
    (elsewhere / "checkpoint-1" / "optimizer.pt").unlink()

    def commit(path: Path, cache: str) -> tuple[str, str]:
        (checkpoint,) = look_into(path, tmp_path / cache).resolve([0])
        return checkpoint.repo, checkpoint.commit

    here = commit(live, "a")
    assert here == commit(elsewhere, "b") == commit(elsewhere, "a")
    assert len(here[1]) == 40
    write(elsewhere, 1, value=0.5)
    assert commit(elsewhere, "b") != here
    (path / "config.json").write_text(json.dumps({**CONFIG, "rotary_pct": 0.5}))
    assert commit(live, "a") != here, "the config determines the LM too"


def test_nothing_is_hashed_twice(
    live: Path, look: Callable[[], FolderSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    real = ledger.file_sha256
    monkeypatch.setattr(ledger, "file_sha256", lambda p: (hashed.append(p), real(p))[1])
    write(live, 1)
    source = look()
    assert len(hashed) == 2
    source.fetch(look().resolve([0])[0])
    assert not source.wait_for_more(1, 0.05)
    assert len(hashed) == 2
    write(live, 2)
    assert source.wait_for_more(1, 0.05)
    look()
    assert [path.parent.name for path in hashed[2:]] == ["checkpoint-2"] * 2


def test_a_checkpoint_that_changes_while_it_is_hashed_waits(
    live: Path, look: Callable[[], FolderSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(live, 1)
    real = ledger.file_sha256

    def slow(file: Path) -> str:
        result = real(file)
        os.utime(path / "model.safetensors", ns=(1, 1))
        return result

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "file_sha256", slow)
        assert look().spec.lm_steps == ()
    assert look().spec.lm_steps == (1,)


def test_waiting_ends_with_patience_and_says_what_is_wrong(
    live: Path, look: Callable[[], FolderSource], caplog: pytest.LogCaptureFixture
) -> None:
    write(live, 1)
    halve(write(live, 2) / "model.safetensors")
    source = look()
    assert source.wait_for_more(0, 0)
    assert not source.wait_for_more(1, 0.1)
    assert warnings(caplog) == [
        "folder/nano-live: checkpoint-2 has only a part of model.safetensors"
    ]


def two_of_one_step(live: Path) -> str:
    write(live, 4)
    write(live, 4, name="step")
    return str(live)


def unknown_config(live: Path) -> str:
    (write(live, 4) / "config.json").write_text('{"num_hidden_layers": 2}')
    return str(live)


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (lambda _: "x/y", "model='x/y': no such folder"),
        (lambda _: "EleutherAI/pythia-410m", "names of the catalogue hold no '/'"),
        (lambda _: "~nobody-has-this-name/x", "no such folder"),
        (lambda live: str(write(live, 4) / "config.json"), "no such folder"),
        (two_of_one_step, "checkpoint-4 and step4 are of one step"),
        (unknown_config, "checkpoint-4/config.json has none of hidden_size, n_embd, d_model"),
    ],
)
def test_mistakes_are_told_in_one_line(model: Callable[[Path], str], line: str, live: Path) -> None:
    with pytest.raises(UserError) as error:
        find_lm(model(live))
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_goes_away_is_told_in_one_line(
    live: Path, look: Callable[[], FolderSource]
) -> None:
    source = look()
    live.rmdir()
    with pytest.raises(UserError, match="no such folder"):
        source.wait_for_more(0, 1)


def test_names_are_the_catalogues_and_paths_are_folders(
    live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_lm("nano") == find_model("nano")
    monkeypatch.chdir(live)
    assert find_lm(".") == find_lm(str(live)) == find_lm("../nano-live/")


def test_the_config_tells_the_norm_and_so_the_convention(
    live: Path, look: Callable[[], FolderSource]
) -> None:
    path = write(live, 1)
    assert look().spec.norm == folder_spec(str(live)).norm == "layer"
    (path / "config.json").write_text(json.dumps({**CONFIG, "rms_norm_eps": 1e-5}))
    assert look().spec.norm == folder_spec(str(live)).norm == "rms"
    track = {**NANO_TRACK, "model": str(live), "layers": [1]}
    track["corpus"] = {**NANO_TRACK["corpus"], "context_size": 16}
    with pytest.raises(UserError, match=r"residual='centred': .*nano-live has RMSNorm"):
        find_suitable_lm(load_config(track))
    find_suitable_lm(load_config({**track, "residual": "raw"}))
