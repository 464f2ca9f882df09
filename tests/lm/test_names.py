"""Folders as training codes write them: which checkpoints are taken, and what is said of others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from saetrack.lm.checkpoints import checkpoint_files, folder_layout
from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.folder_layout import find_lm, folder_spec, no_checkpoint
from tests.support.live_folder import halve, look_into, write

pytestmark = pytest.mark.usefixtures("impatient")


def checkpoint(live: Path, name: str, trainer_step: int | None = None) -> Path:
    """A checkpoint under any name, with weights of its own."""
    path = write(live, 0, value=float(len(list(live.iterdir()))), name=".draft-")
    path = path.rename(live / name)
    if trainer_step is not None:
        (path / "trainer_state.json").write_text(json.dumps({"global_step": trainer_step}))
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("checkpoint-20", "checkpoint-100"),
        ("checkpoint_20", "checkpoint_100"),
        ("step20", "step100"),
        ("step_20", "step_100"),
        ("step-20", "step-100"),
        ("global_step20", "global_step100"),
        ("iter_0000020", "iter_0000100"),
        ("ckpt-20", "ckpt-100"),
        ("epoch-20", "epoch-100"),
        ("epoch_20", "epoch_100"),
    ],
    ids=lambda names: str(names[0]),
)
def test_the_names_that_training_codes_write(
    names: tuple[str, str], live: Path, look: Callable[[], FolderSource]
) -> None:
    for name in names:
        checkpoint(live, name)
    assert folder_spec(str(live)).lm_steps == look().spec.lm_steps == (20, 100)
    first, second = look().resolve([0, 1])
    assert (first.revision, second.revision) == names
    assert look().fetch(second) == live / names[1]


def test_epochs_and_the_last_one_come_where_the_trainer_was(
    live: Path, look: Callable[[], FolderSource]
) -> None:
    checkpoint(live, "epoch-1", trainer_step=500)
    checkpoint(live, "epoch-2", trainer_step=1_000)
    checkpoint(live, "final", trainer_step=1_234)
    source = look()
    assert source.spec.lm_steps == (500, 1_000, 1_234)
    assert [found.revision for found in source.resolve([0, 1, 2])] == [
        "epoch-1",
        "epoch-2",
        "final",
    ]
    assert not source.left_out


def test_the_last_one_saved_twice_counts_once(live: Path, look: Callable[[], FolderSource]) -> None:
    checkpoint(live, "checkpoint-40", trainer_step=40)
    checkpoint(live, "last", trainer_step=40)
    checkpoint(live, "epoch-3")
    source = look()
    assert source.spec.lm_steps == (40,)
    assert source.left_out["last"] == "is of the same step as checkpoint-40"
    assert "trainer_state.json" in source.left_out["epoch-3"]


@pytest.mark.parametrize(("name", "lm_step"), [("checkpoint-70", 70), ("my-model", 0)])
def test_a_checkpoint_may_be_the_model_itself(
    live: Path, tmp_path: Path, name: str, lm_step: int
) -> None:
    path = checkpoint(live, name)
    source = look_into(path, tmp_path / "cache")
    assert source.spec.lm_steps == (lm_step,)
    (only,) = source.resolve([0])
    assert only.revision == name and source.fetch(only) == path
    assert source.spec.name == ("nano-live-checkpoint-70" if lm_step else "my-model")


def test_the_model_beside_its_checkpoints_is_not_one_more(
    live: Path, look: Callable[[], FolderSource]
) -> None:
    checkpoint(live, "checkpoint-20")
    for file in list((live / "checkpoint-20").iterdir()):
        shutil.copy(file, live)  # as `trainer.save_model()` does
    assert look().spec.lm_steps == (20,)


def test_spaces_and_links(tmp_path: Path) -> None:
    folder = tmp_path / "My runs, 2024" / "run no 3"
    folder.mkdir(parents=True)
    checkpoint(folder, "checkpoint-20")
    elsewhere = tmp_path / "other disk"
    elsewhere.mkdir()
    (folder / "checkpoint-40").symlink_to(checkpoint(elsewhere, "ckpt"))
    (tmp_path / "link").symlink_to(folder)
    for path in (folder, tmp_path / "link"):
        source = look_into(path, tmp_path / "cache")
        assert source.spec.name == "run-no-3"
        assert source.spec.lm_steps == (20, 40)
        assert source.fetch(source.resolve([1])[0]).name == "checkpoint-40"


def adapter(live: Path) -> None:
    path = checkpoint(live, "checkpoint-20")
    for file in path.iterdir():
        file.unlink()
    (path / "adapter_config.json").write_text("{}")
    (path / "adapter_model.safetensors").write_bytes(b"")


def without_weights(live: Path) -> None:
    (checkpoint(live, "checkpoint-20") / "model.safetensors").unlink()


def deepspeed(live: Path) -> None:
    without_weights(live)
    (live / "checkpoint-20" / "global_step20").mkdir()
    (live / "checkpoint-20" / "global_step20" / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()


def other_pickle(live: Path) -> None:
    without_weights(live)
    (live / "checkpoint-20" / "pytorch_model.bin").write_bytes(b"\x80\x04\x95\x00.")


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda live: None, "nothing in it looks like a model"),
        (adapter, "checkpoint-20 holds an adapter only (PEFT): merge it into its LM and save that"),
        (without_weights, "checkpoint-20 has no model.safetensors or pytorch_model.bin"),
        (deepspeed, "checkpoint-20 holds the shards of DeepSpeed only"),
        (other_pickle, "a pickle of another kind is never read"),
        (
            lambda live: halve(checkpoint(live, "step_20") / "model.safetensors"),
            "step_20 has only a part of model.safetensors",
        ),
        (lambda live: checkpoint(live, "best"), "best has no training step in its name"),
        (lambda live: checkpoint(live, "final"), "final its training step is not known"),
        (
            lambda live: [checkpoint(live, f"run-{n}") for n in range(9)],
            "run-3 has no training step in its name; and 5 more",
        ),
    ],
    ids=["nothing", "adapter", "weights", "deepspeed", "pickle", "half", "best", "final", "many"],
)
def test_what_is_not_taken_is_told_with_its_reason(
    make: Callable[[Path], object], line: str, live: Path
) -> None:
    make(live)
    assert find_lm(str(live)).lm_steps == ()
    text = str(no_checkpoint(str(live)))
    assert text.startswith(f"model={str(live)!r}: holds no whole checkpoint yet (")
    assert line in text
    assert "global_stepN" in text and "\n" not in text


def test_old_torch_files_count_when_they_are_left_alone(
    live: Path, look: Callable[[], FolderSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(live, "checkpoint-20")
    (path / "model.safetensors").unlink()
    weights = {"a": torch.ones(3)}
    torch.save(weights, path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert look().spec.lm_steps == ()
    monkeypatch.setattr(checkpoint_files, "SETTLED_S", 0.0)
    assert look().spec.lm_steps == (20,)


def test_one_that_stays_broken_is_left_out_in_the_end(
    live: Path, look: Callable[[], FolderSource], caplog: pytest.LogCaptureFixture
) -> None:
    for lm_step in (20, 60, 100):
        write(live, lm_step)
    broken = live / "checkpoint-60"
    halve(broken / "model.safetensors")
    assert look().spec.lm_steps == (20,), "it may still be in the midst of being written"
    assert folder_spec(str(live)).lm_steps == (20,)
    long_ago_s = broken.stat().st_mtime - folder_layout.BROKEN_AFTER_S
    for path in (*broken.iterdir(), broken):
        os.utime(path, (long_ago_s, long_ago_s))
    source = look()
    assert source.spec.lm_steps == folder_spec(str(live)).lm_steps == (20, 100)
    assert source.left_out == {"checkpoint-60": "has only a part of model.safetensors"}
    line = "folder/nano-live: checkpoint-60 has only a part of model.safetensors, and is left out"
    assert line in caplog.messages


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gpt_neo", "num_layers": 2, "hidden_size": 8}
        | {"attention_types": [[["global", "local"], 1]]},
        {"model_type": "mpt", "n_layers": 2, "d_model": 8, "max_seq_len": 2_048},
        {"model_type": "xglm", "num_layers": 2, "d_model": 8},
    ],
    ids=lambda config: str(config["model_type"]),
)
def test_sizes_are_those_that_transformers_knows(live: Path, config: dict[str, object]) -> None:
    path = checkpoint(live, "checkpoint-20")
    (path / "config.json").write_text(json.dumps({**config, "vocab_size": 97}))
    spec = folder_spec(str(live))
    assert (spec.n_layers, spec.d_model, spec.max_context, spec.vocabulary) == (2, 8, 2_048, 97)
