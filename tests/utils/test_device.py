"""The device that settings name, or that is found."""

from __future__ import annotations

import pytest
import torch

from saetrack.utils.device import choose_device
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings


@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_each_process_has_a_gpu_of_its_own(
    asked: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    settings = settings.model_copy(update={"device": asked})
    assert choose_device(settings) == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device(settings) == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="LOCAL_RANK=2: torch sees 2 GPUs here"):
        choose_device(settings)
    assert choose_device(settings.model_copy(update={"device": "cpu"})) == torch.device("cpu")
