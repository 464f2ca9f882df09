"""Trained on a pretended GPU, registered, exported, imported, and started from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from saetrack.chain.config import TrackConfig, load_config
from saetrack.lm import loading
from saetrack.registry import Registry
from saetrack.registry.formats.export import export_chain
from saetrack.registry.formats.saelens import read_saelens
from saetrack.sae.kernels import sparse
from saetrack.training.loop import train_missing
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.pretended_device import OnGpu, pretended_gpu

FIRST: dict[str, Any] = {
    **NANO_TRACK,
    "schedule": [{"first": 5, "last": 5, "tokens": 1_024}],
    "evaluation": {"matched_l0": 8, "ce_tokens": 0, "eval_at_fractions": []},
}
SECOND = {**FIRST, "start": "theirs"}


@pytest.fixture(autouse=True)
def _plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's plain operations on the CPU too: compiled kernels and fused attention round
    otherwise.
    """
    monkeypatch.setattr(sparse, "_compiled", lambda: None)
    monkeypatch.setattr(loading, "_has_own_scale", lambda _: True)


@pytest.fixture(autouse=True)
def _without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saetrack.sae.step.find_spec", lambda _: None)


def there_and_back(settings: Settings, to: Path) -> dict[str, Tensor]:
    """The weights of a chain and of one that started from its export."""
    registry = Registry(settings)
    found: dict[str, Tensor] = {}
    for number, values in enumerate((FIRST, SECOND)):
        config: TrackConfig = load_config(values)
        n_links, prepared = train_missing(config, settings)
        assert n_links == 1
        (chain,) = prepared.track.chains
        if number == 0:
            (folder,) = export_chain(registry, chain.name, to)["folder"]
            assert registry.imported.add("theirs", read_saelens(to / folder))
        pulled = registry.pull(chain.name, version=1)
        found |= {f"{number} {name}": weight for name, weight in pulled.sae.state_dict().items()}
    return found


@pytest.mark.usefixtures("source", "corpus")
def test_there_and_back(tmp_path: Path, settings: Settings) -> None:
    def on(device: str) -> Settings:
        (tmp_path / device).mkdir()
        return settings.model_copy(
            update={
                "device": device,
                "tracking_uri": f"sqlite:///{tmp_path}/{device}/mlflow.db",
                "artifact_dir": tmp_path / device / "artifacts",
            }
        )

    expected = there_and_back(on("cpu"), tmp_path / "from_cpu")
    with pretended_gpu():
        found = there_and_back(on("cuda"), tmp_path / "from_gpu")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert not isinstance(found[name], OnGpu), "what is pulled is on the CPU"
        assert torch.equal(found[name], weight), name
