"""What is broken neither enters training nor leaves it; what is odd is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from saetrack.chain.config import load_config
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.sae.config import ReLUConfig
from saetrack.sae.metrics import evaluate
from saetrack.sae.model import new_sae
from saetrack.sae.step import TrainStep
from saetrack.training.chain_page import update_chain_page
from saetrack.training.prepare import prepare
from saetrack.training.soundness import warnings_of
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.memory_store import MemoryStore
from tests.support.nano import NANO_TRACK
from tests.support.running import plan, run

ONE = {"schedule": [{"first": 0, "last": 0, "tokens": 1_024}]}


def test_a_link_that_is_not_finite_is_not_registered(
    source: CheckpointSource, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TrainStep.__call__

    def spoilt(self: TrainStep, x: torch.Tensor, rate: float) -> object:
        found = step(self, x, rate)
        with torch.no_grad():
            self.sae.W_dec[3, 1] = torch.nan
        return found

    store, track = MemoryStore(), plan(source, corpus, **ONE)
    with monkeypatch.context() as broken:
        broken.setattr(TrainStep, "__call__", spoilt)
        with pytest.raises(UserError) as caught:
            run(track, source, store, tmp_path)
    line = str(caught.value)
    assert line.startswith(
        f"{track.chains[0].name}, link 00 · step 0: W_enc, b_enc, W_dec, b_dec and "
    )
    assert "more: not finite after training; not registered" in line
    assert "\n" not in line
    assert not store.links
    assert run(track, source, store, tmp_path) == 1


def told(held_out: torch.Tensor, b_enc: float = 0.0) -> tuple[str, ...]:
    sae = new_sae(held_out.shape[1], 64, held_out.mean(dim=0), seed=0)
    with torch.no_grad():
        sae.b_enc.fill_(b_enc)
    return warnings_of(evaluate(sae, held_out, ReLUConfig(), matched_l0=4), held_out)


def test_what_looks_wrong_is_told() -> None:
    x = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    assert [line.split(":")[0] for line in told(x)] == ["explained variance is -0.92"]
    assert told(x, b_enc=-100) == ("100% of the features are dead",)
    massive = x.clone()
    massive[::33] *= 2_000
    assert told(massive, b_enc=-1e6)[0].startswith("5% of the held-out tokens hold 100% of the")
    equal = torch.ones(400, 16)
    assert told(equal)[0] == "all held-out residuals are equal"
    zero = torch.zeros(9, 16)
    found = evaluate(new_sae(16, 64, torch.zeros(16), 0), zero, ReLUConfig(), matched_l0=4)
    assert (found.explained_variance, found.explained_variance_at_l0, found.mse) == (0, 0, 0)


def test_massive_activations_and_left_out_positions_are_on_the_page(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saetrack.training.massive.TIMES_THE_MEDIAN", 0)
    corpus = {**NANO_TRACK["corpus"], "exclude_first_positions": 1}
    ready = prepare(load_config({**NANO_TRACK, **ONE, "corpus": corpus}), settings)
    run(ready.track, ready.source, ready.registry)
    (chain,) = ready.track.chains
    update_chain_page(ready.registry, chain)
    left_out, *warned = ready.registry.notes(chain.name)
    assert left_out.startswith("of the text: 512 of 16,384 training positions (3.1 %) are left out")
    assert any(line.startswith("step 0: massive activations: 100.0 % of the") for line in warned)
    assert ready.registry.chains()["warnings"].tolist() == [1]
    runs = ready.registry._client.search_runs(
        [ready.registry._runs.experiment("nano")], "tags.kind = 'chain'"
    )
    assert f"- {left_out}\n- {warned[0]}" in runs[0].data.tags["mlflow.note.content"]


def test_warnings_stand_in_the_registry(settings: Settings) -> None:
    strong = {"l1_coefficient": 10.0}
    ready = prepare(load_config({**NANO_TRACK, **ONE, "sae": strong}), settings)
    assert run(ready.track, ready.source, ready.registry) == 1
    (chain,) = ready.track.chains
    update_chain_page(ready.registry, chain)
    registry = Registry(settings)
    (row,) = registry.chains().to_dict("records")
    assert row["warnings"] == 1
    (version,) = registry._client.search_model_versions(f"name = '{chain.name}'")
    assert "explained variance is -0." in version.tags["warnings"]
    runs = registry._client.search_runs([registry._runs.experiment("nano")], "tags.kind = 'chain'")
    assert f"- step 0: {version.tags['warnings']}" in runs[0].data.tags["mlflow.note.content"]
