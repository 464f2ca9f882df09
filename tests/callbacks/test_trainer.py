"""Checkpoints that a training run saves for a track."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXForCausalLM,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from saetrack.callbacks import TrackCallback, save_checkpoint
from saetrack.chain.config import load_config
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.training.loop import train_missing
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.running import set_environment

pytestmark = pytest.mark.usefixtures("impatient")

BY_STEP = [
    {"first": 0, "last": 0, "every": 2, "tokens": 2_048},
    {"first": 2, "last": None, "every": 2, "tokens": 1_024},
]


def values(folder: Path, **changes: Any) -> dict[str, Any]:
    return {**NANO_TRACK, "model": str(folder), "schedule": BY_STEP, **changes}


@pytest.fixture
def lm(source: CheckpointSource) -> GPTNeoXForCausalLM:
    (checkpoint,) = source.resolve([5])
    model = AutoModelForCausalLM.from_pretrained(source.fetch(checkpoint))
    assert isinstance(model, GPTNeoXForCausalLM)
    return model


def train(
    lm: PreTrainedModel, source: CheckpointSource, tmp_path: Path, callback: TrackCallback
) -> Trainer:
    rows = torch.randint(0, 500, (40, 16), generator=torch.Generator().manual_seed(0))
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        max_steps=5,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=lm,
        args=arguments,
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        processing_class=source.tokenizer()[0],
        data_collator=default_data_collator,
        callbacks=[callback],
    )
    trainer.train()
    return trainer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_trainer_saves_the_steps_that_the_schedule_wants_and_the_track_runs_on_them(
    lm: GPTNeoXForCausalLM, source: CheckpointSource, tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "my-lm"
    before = lm.gpt_neox.embed_in.weight.detach().clone()
    config = load_config(values(folder))
    trainer = train(lm, source, tmp_path, TrackCallback(config))
    assert names(folder) == ["checkpoint-0", "checkpoint-2", "checkpoint-4"]
    first = AutoModelForCausalLM.from_pretrained(folder / "checkpoint-0")
    assert torch.equal(first.gpt_neox.embed_in.weight, before), "saved before the first step"
    assert not torch.equal(first.gpt_neox.embed_in.weight, lm.gpt_neox.embed_in.weight)
    assert not any("optimizer" in name for name in names(folder / "checkpoint-2"))
    assert trainer.state.global_step == 5
    n_trained, prepared = train_missing(config, settings)
    assert n_trained == 3
    lm_steps = [link.checkpoint.lm_step for link in prepared.track.chains[0].links]
    assert lm_steps == [0, 2, 4]


def test_a_new_training_does_not_mix_with_an_earlier_ones_checkpoints(
    lm: GPTNeoXForCausalLM, source: CheckpointSource, tmp_path: Path
) -> None:
    folder = tmp_path / "lm"
    save_checkpoint(lm, None, folder, 4)
    with pytest.raises(UserError, match="holds checkpoint-4 of an earlier training"):
        train(lm, source, tmp_path, TrackCallback(load_config(values(folder))))


def test_the_track_that_it_starts_ends_by_itself_with_all_links(
    lm: GPTNeoXForCausalLM,
    source: CheckpointSource,
    tmp_path: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_environment(settings, monkeypatch)
    folder = tmp_path / "lm"
    callback = TrackCallback(load_config(values(folder, follow_s=3.0)), start=True)
    train(lm, source, tmp_path, callback)
    registry = Registry(settings)
    for _ in _until(300):
        if "links trained" in (said := (folder / "track.log").read_text()):
            break
    assert "links trained" in said, said
    (name,) = registry.chain_names()
    assert registry.links(name)["lm_step"].tolist() == [0, 2, 4]


def _until(limit_s: float) -> Iterator[None]:
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        yield
        time.sleep(0.5)


def test_a_loop_of_ones_own_saves_wrapped_models_whole(
    lm: GPTNeoXForCausalLM, source: CheckpointSource, tmp_path: Path
) -> None:
    wrapped = torch.nn.DataParallel(torch.compile(lm))  # type: ignore[arg-type]
    path = save_checkpoint(wrapped, source.tokenizer()[0], tmp_path, 7, dtype=torch.bfloat16)
    assert path == tmp_path / "checkpoint-7"
    weights = load_file(path / "model.safetensors")
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.bfloat16"}
    assert all(not name.startswith(("module", "_orig_mod")) for name in weights)
    assert torch.equal(
        weights["gpt_neox.embed_in.weight"], lm.gpt_neox.embed_in.weight.to(torch.bfloat16)
    )
    torch.nn.init.zeros_(lm.gpt_neox.embed_in.weight)
    save_checkpoint(lm, None, tmp_path, 7)
    assert names(tmp_path) == ["checkpoint-7"], "replaced, and nothing beside it"
    assert not load_file(path / "model.safetensors")["gpt_neox.embed_in.weight"].any()


@pytest.mark.parametrize(
    ("changes", "arguments", "line"),
    [
        ({"model": "nano"}, {}, r"model='nano': must be a folder"),
        (
            {"schedule": [{"first": 0, "last": 3, "tokens": 1_024}]},
            {},
            r"lm_steps: must say when to save",
        ),
        ({}, {"start": True}, r"start=True: the track must follow its folder"),
    ],
)
def test_what_cannot_work_is_said_before_the_training_begins(
    tmp_path: Path, changes: dict[str, Any], arguments: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        TrackCallback(load_config(values(tmp_path, **changes)), **arguments)


def test_steps_may_be_given_beside_a_schedule_by_index(tmp_path: Path) -> None:
    schedule = [{"first": 0, "last": 3, "tokens": 1_024}]
    config = load_config(values(tmp_path, schedule=schedule))
    callback = TrackCallback(config, lm_steps=[0, 1, 8])
    assert [lm_step for lm_step in range(10) if callback.wants(lm_step)] == [0, 1, 8]
    by_schedule = TrackCallback(load_config(values(tmp_path)))
    assert [lm_step for lm_step in range(6) if by_schedule.wants(lm_step)] == [0, 2, 4]
