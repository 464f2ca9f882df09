"""An SAE on disk: safetensors and JSON, formats that run no code when they are read.

Files may come from anyone. Names, shapes and types in a file's header are checked before its
tensors are read, so that a wrong number in a file cannot make this process allocate memory.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from saetrack.sae.architectures import sae_of_settings
from saetrack.sae.model import SAE

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILE = "sae_weights.safetensors"
CONFIG_FILE = "cfg.json"
DENSITY_FILE = "feature_density.safetensors"

# Every file that a link may have.
FILES = frozenset({WEIGHTS_FILE, CONFIG_FILE, DENSITY_FILE})

CONFIG_BYTES = 2**26

Shapes = dict[str, tuple[int, ...]]


def save_sae(folder: Path, sae: SAE, cfg: dict[str, Any]) -> None:
    """Write an SAE's tensors in float32, what kind of SAE it is, and what is known about it."""
    save_tensors(folder / WEIGHTS_FILE, dict(sae.state_dict()))
    (folder / CONFIG_FILE).write_text(json.dumps({**sae.settings(), **cfg}, indent=1))


def load_sae(folder: Path) -> tuple[SAE, dict[str, Any]]:
    """Read an SAE and its `cfg.json`.

    Raises:
        ValueError: in one line that begins with a file's name: it is not JSON or safetensors, a
            tensor is missing, unknown or not finite, or its shape is not that of `cfg.json`.
    """
    cfg = load_cfg(folder / CONFIG_FILE)
    sae = _empty_sae(cfg)
    tensors = load_tensors(folder / WEIGHTS_FILE, weight_shapes(sae))
    sae.to_empty(device="cpu").load_state_dict(tensors)
    return sae, cfg


def load_decoder(folder: Path) -> Tensor:
    """Read the decoder rows of an SAE, (d_sae, d_in), and nothing else of its weights.

    Raises:
        ValueError: as `load_sae`; values of other weights are not looked at.
    """
    sae = _empty_sae(load_cfg(folder / CONFIG_FILE))
    return load_tensors(folder / WEIGHTS_FILE, weight_shapes(sae), ["W_dec"])["W_dec"]


def _empty_sae(cfg: dict[str, Any]) -> SAE:
    """Without memory for its weights."""
    try:
        with torch.device("meta"):
            return sae_of_settings(cfg)
    except (ValueError, RuntimeError, OverflowError) as error:  # of torch: no such size
        raise ValueError(f"{CONFIG_FILE}: {str(error).splitlines()[0]}") from None


def load_cfg(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: it is not a JSON object, or larger than any that is written here.
    """
    if path.stat().st_size > CONFIG_BYTES:
        raise ValueError(f"{path.name}: larger than {CONFIG_BYTES:,} bytes")
    try:
        cfg = json.loads(path.read_text())
    except (ValueError, RecursionError):
        cfg = None
    if not isinstance(cfg, dict):
        raise ValueError(f"{path.name}: not a JSON object")  # noqa: TRY004  (bad content)
    return cfg


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors as safetensors."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def load_tensors(
    path: Path, shapes: Shapes, wanted: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Read named float32 tensors.

    Args:
        path: of a safetensors file.
        shapes: of all tensors that the file must hold.
        wanted: those that are read; None for all.

    Raises:
        ValueError: it is not a safetensors file, holds tensors of other names or shapes, or values
            that are not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            _require_shapes(file, shapes)
            tensors = {name: file.get_tensor(name) for name in wanted or shapes}
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path.name}: {str(error).splitlines()[0]}") from None
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path.name}: {name} holds values that are not finite")
    return tensors


def _require_shapes(file: Any, shapes: Shapes) -> None:
    """Check a file's header; reads no tensor."""
    if differing := set(file.keys()) ^ shapes.keys():
        raise ValueError(
            f"must hold {', '.join(sorted(shapes))}; differs in {min(differing)[:80]!r}"
        )
    for name, expected in shapes.items():
        found = file.get_slice(name)
        shape, dtype = tuple(found.get_shape()), found.get_dtype()
        if shape != expected or dtype != "F32":
            raise ValueError(f"{name} is {dtype} of shape {shape}, must be F32 of {expected}")


def weight_shapes(sae: SAE) -> Shapes:
    """Of the weights file."""
    return {name: tuple(tensor.shape) for name, tensor in sae.state_dict().items()}
