"""In which types a checkpoint's files hold its weights: quantised ones are no weights as they are.

`transformers` reads them by the quantisation that config.json names. Where it names none, it takes
the whole numbers for the weights themselves, without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open

from saetrack.lm.checkpoints.checkpoint_files import present_files
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


def require_unquantised(model: PreTrainedModel, folder: Path, label: str) -> None:
    """Refuse weights that the files hold as whole numbers or in 8 bits.

    Args:
        model: as loaded from the folder.
        folder: of the checkpoint.
        label: of the checkpoint.

    Raises:
        UserError: names the first such tensor.
    """
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    base = f"{model.base_model_prefix}."
    names |= {name.removeprefix(base) for name in names}
    for name, kind in _types(folder):
        # Buffers, such as the mask that older releases saved, are whole numbers by right.
        if kind not in TYPES and _ends_of(name) & names:
            raise UserError(
                f"model: {label}: {name} is held as {kind}, so it is quantised, and config.json "
                "names no quantisation; save the LM in float32, float16 or bfloat16"
            )


def _ends_of(name: str) -> set[str]:
    """A name without the prefixes that wrappers of a model may have put before it."""
    parts = name.split(".")
    return {".".join(parts[start:]) for start in range(len(parts))}


def _types(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and type of each tensor, as safetensors names types; reads no weight."""
    for path in (folder / name for name in present_files(folder)):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (it is no dict)
                    yield name, file.get_slice(name).get_dtype()
        elif path.suffix == ".bin":
            of_torch = {dtype: name for name, dtype in TYPES.items()}
            for name, weight in torch.load(path, map_location="meta", weights_only=True).items():
                if isinstance(weight, torch.Tensor):
                    yield name, of_torch.get(weight.dtype, str(weight.dtype))
