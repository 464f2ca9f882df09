"""What cannot be reached is answered in one line, and before any work starts."""

from __future__ import annotations

import pytest
import torch

from saetrack.chain.config import load_config
from saetrack.registry import opened_track
from saetrack.training.prepare import prepare
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tracking_uri": "http://127.0.0.1:9"}, "no MLflow server answers there"),
        ({"tracking_uri": "sqlite:////dev/null"}, "cannot be used"),
        ({"device": "cuda"}, "torch sees no GPU here"),
    ],
)
def test_what_is_out_of_reach_is_one_line(
    settings: Settings, changes: dict[str, str], line: str
) -> None:
    if "device" in changes and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match=line) as caught:
        prepare(load_config(NANO_TRACK), settings.model_copy(update=changes))
    assert "\n" not in str(caught.value)


def test_a_model_that_neither_cache_nor_hub_has_fails_before_any_work(settings: Settings) -> None:
    config = load_config({**NANO_TRACK, "model": "pythia-410m-deduped"})
    with pytest.raises(UserError, match=r"EleutherAI/pythia-410m-deduped at step0 and 4 more"):
        prepare(config, settings)


def test_a_mistake_in_the_config_is_found_before_the_registry_is_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(_: Settings) -> None:
        raise AssertionError("the registry was asked")

    monkeypatch.setattr(opened_track, "Registry", connect)
    with pytest.raises(UserError, match=r"layers=\[7\]: nano has layers 0 to 1"):
        prepare(load_config({**NANO_TRACK, "layers": [7]}), settings)
