"""An SAE on disk: safetensors and JSON, nothing that runs code when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from saetrack.sae.model import SAE

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILE = "sae_weights.safetensors"
CONFIG_FILE = "cfg.json"
DENSITY_FILE = "feature_density.safetensors"
ADAM_FILE = "adam.safetensors"


def save_sae(folder: Path, sae: SAE, cfg: dict[str, Any]) -> None:
    """Write the four weights in float32, and what is known about them."""
    save_tensors(folder / WEIGHTS_FILE, dict(sae.state_dict()))
    (folder / CONFIG_FILE).write_text(json.dumps(cfg, indent=1))


def load_sae(folder: Path) -> tuple[SAE, dict[str, Any]]:
    """Read an SAE and its `cfg.json`.

    Raises:
        ValueError: tensors are missing, of another shape than `cfg.json` says, or not finite.
    """
    cfg = json.loads((folder / CONFIG_FILE).read_text())
    tensors = load_file(folder / WEIGHTS_FILE)
    sae = SAE(cfg["d_in"], cfg["d_sae"])
    for name, expected in sae.state_dict().items():
        found = tensors.get(name)
        if found is None or found.shape != expected.shape:
            shape = None if found is None else tuple(found.shape)
            raise ValueError(f"{name} has shape {shape}, must be {tuple(expected.shape)}")
        if not torch.isfinite(found).all():
            raise ValueError(f"{name} holds values that are not finite")
    sae.load_state_dict(tensors)
    return sae, cfg


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors as safetensors."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors."""
    return load_file(path)
