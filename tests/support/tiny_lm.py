"""An LM of a test, as the files of a repository."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load
from transformers import PreTrainedModel


def saved_files(model: PreTrainedModel, weights: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        model.save_pretrained(name)
        files = {path.name: path.read_bytes() for path in Path(name).iterdir()}
        if weights == "pytorch_model.bin":  # Stanford's revisions hold no safetensors
            torch.save(load(files.pop("model.safetensors")), Path(name) / weights)
            files[weights] = (Path(name) / weights).read_bytes()
    return files
