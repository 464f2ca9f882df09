"""A checkpoint that must not be trained on: nothing is registered, and a rerun goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from saetrack.chain.config import load_config
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.training.link import LinkTraining
from saetrack.training.loop import train_missing
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.tiny_lm import save_again

pytestmark = pytest.mark.usefixtures("impatient")

SCHEDULE = [{"first": 0, "last": None, "tokens": 1_024}]
EMBEDDING = "gpt_neox.embed_in.weight"


def arrive(live: Path, source: CheckpointSource, *indices: int) -> None:
    for checkpoint in source.resolve(list(indices)):
        folder = live / f"checkpoint-{checkpoint.lm_step}"
        shutil.copytree(source.fetch(checkpoint), folder, dirs_exist_ok=True)
        source.tokenizer()[0].save_pretrained(folder)


def spoil(checkpoint: Path, name: str, value: float) -> None:
    """Save a checkpoint again with one value in all of a weight."""
    save_again(checkpoint, lambda saved: saved | {name: torch.full_like(saved[name], value)})


def status_of_chain(settings: Settings) -> str:
    """What MLflow shows of the run of the only chain there is."""
    (run,) = Registry(settings)._runs._all()
    return str(run.info.status)


def test_a_weight_that_is_not_finite_is_refused_and_a_rerun_goes_on(
    live: Path, settings: Settings, source: CheckpointSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, name = 1, "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    config = load_config({**NANO_TRACK, "model": str(live), "schedule": SCHEDULE})
    arrive(live, source, 0, 1, 2)
    lm_step = source.spec.lm_steps[number]
    spoil(live / f"checkpoint-{lm_step}", name, float("nan"))
    for _ in range(2):  # a rerun is refused for the same reason
        with pytest.raises(UserError, match="not finite") as caught:
            train_missing(config, settings)
        line = str(caught.value)
        assert "\n" not in line
        assert f"checkpoint-{lm_step} (LM step {lm_step})" in line
        assert f"values of {name} " in line
        registry = Registry(settings)
        assert [len(registry.links(chain)) for chain in registry.chain_names()] == [number]
        assert status_of_chain(settings) == "FAILED"
    arrive(live, source, number)
    seen, begin = [], LinkTraining.begin

    def begin_and_look(link: LinkTraining) -> None:
        seen.append(status_of_chain(settings))
        begin(link)

    monkeypatch.setattr(LinkTraining, "begin", begin_and_look)
    n_trained, prepared = train_missing(config, settings)
    assert n_trained == 3 - number
    assert len(prepared.registry.versions(prepared.track.chains[0])) == 3
    assert (set(seen), status_of_chain(settings)) == ({"RUNNING"}, "FINISHED")


def test_an_embedding_of_zeros_is_refused_in_one_line(
    live: Path, settings: Settings, source: CheckpointSource
) -> None:
    config = load_config({**NANO_TRACK, "model": str(live), "schedule": SCHEDULE, "layers": [0]})
    arrive(live, source, 1)
    spoil(live / f"checkpoint-{source.spec.lm_steps[1]}", EMBEDDING, 0)
    with pytest.raises(UserError, match="zero") as caught:
        train_missing(config, settings)
    assert "\n" not in str(caught.value)
