"""LMs of a few weights as files, to be published on a hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load
from transformers import PreTrainedModel


def saved_files(model: PreTrainedModel, weights: str) -> dict[str, bytes]:
    """A checkpoint's files by name, its weights as safetensors or as torch wrote them."""
    with tempfile.TemporaryDirectory() as name:
        model.save_pretrained(name)
        files = {path.name: path.read_bytes() for path in Path(name).iterdir()}
        if weights == "pytorch_model.bin":  # Stanford's revisions hold no safetensors
            torch.save(load(files.pop("model.safetensors")), Path(name) / weights)
            files[weights] = (Path(name) / weights).read_bytes()
    return files
