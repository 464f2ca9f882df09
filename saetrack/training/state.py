"""The state of unfinished training on disk: one safetensors file with its counts as JSON inside."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

log = logging.getLogger(__name__)

FACTS = "facts"

# Named tensors, and what else is needed to go on, JSON-able.
State = tuple[dict[str, Tensor], dict[str, Any]]


def save_state(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Put a state at `path`; a crash at any moment leaves the old one or the new one.

    Args:
        path: of the file.
        tensors: of any device.
        facts: what else is needed to go on; JSON-able.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path)
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, draft, metadata={FACTS: json.dumps(facts)})
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def load_state(path: Path) -> State | None:
    """The state at `path`; None where there is none, or none that can be read."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()[FACTS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if broken := [name for name, of in tensors.items() if not torch.isfinite(of).all()]:
            raise ValueError(f"{broken[0]} holds values that are not finite")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        log.warning("the training state %s cannot be used, starting over: %s", path.name, error)
        return None
    return tensors, facts


def discard_state(path: Path) -> None:
    """Remove a state, and what a process that was killed while writing one has left."""
    for file in (path, _draft(path)):
        file.unlink(missing_ok=True)


def _draft(path: Path) -> Path:
    # Always the same name: many killed processes leave one draft at most, which is overwritten.
    return path.with_suffix(".partial")
