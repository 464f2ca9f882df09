"""What a track would take, before it does it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saetrack.chain.config import load_config
from saetrack.chain.presets import load_preset
from saetrack.cli.plan import _costs
from saetrack.lm.checkpoints.files import CONFIG
from saetrack.lm.checkpoints.store import commit_folder
from saetrack.training import forecast as forecast_module
from saetrack.training.forecast import forecast
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK


@pytest.fixture(autouse=True)
def _known_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_module, "_product_rate", lambda *_: 1e11)


# By the formula, which `docs/performance.md` holds against links of the real size.
@pytest.mark.parametrize(("preset", "expected_gb"), [("pythia-410m", 11.0), ("pythia-1.4b", 22.4)])
def test_the_memory_of_the_papers_chains(
    settings: Settings, preset: str, expected_gb: float
) -> None:
    found = forecast(load_config(load_preset("track", preset)), settings)
    assert found.memory_bytes is not None
    assert found.memory_bytes / 1e9 == pytest.approx(expected_gb, rel=0.15)


def test_the_largest_of_the_papers_chains_fits_24_gb(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(load_preset("track", "pythia-1.4b"))
    in_blocks = forecast(config, settings).memory_bytes
    monkeypatch.setattr(forecast_module, "WHOLE_NUMBERS", 2**40)
    whole = forecast(config, settings).memory_bytes
    assert in_blocks is not None
    assert whole is not None
    assert in_blocks < 23e9, "some is left for what the formula does not know"
    assert whole > in_blocks + 2e9


def test_a_small_tracks_memory_is_that_of_its_process(settings: Settings) -> None:
    found = forecast(load_config(NANO_TRACK), settings)
    assert found.memory_bytes == pytest.approx(0.795e9, rel=0.15)


def test_an_lm_without_a_shape_in_the_catalogue_has_that_of_its_config(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "models.yaml"
    own.write_text("models: [{name: own-lm, repo: some/own-lm, revision: 'step{lm_step}'}]")
    monkeypatch.setenv("SAETRACK_MODELS_FILE", str(own))
    config = load_config({**NANO_TRACK, "model": "own-lm"})
    here = settings.model_copy(update={"cache_dir": tmp_path})
    unknown = forecast(config, here)
    assert (unknown.links, unknown.memory_bytes, unknown.hours) == (4, None, None)
    assert "not known before a config.json" in _costs(unknown)["cost"]

    commit = "a" * 40
    folder = commit_folder(tmp_path, CONFIG, "some/own-lm", commit)
    folder.mkdir(parents=True)
    shape = {"num_hidden_layers": 4, "hidden_size": 512}
    (folder / "config.json").write_text(json.dumps(shape))
    ref = tmp_path / "refs" / "some--own-lm" / "step0"
    ref.parent.mkdir(parents=True)
    ref.write_text(commit)
    known = forecast(config, here)
    assert known.registry_bytes == 4 * 4 * (64 * (2 * 512 + 1) + 512 + 64)
