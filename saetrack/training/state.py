"""The state of unfinished training on disk: one safetensors file with its counts as JSON inside."""

from __future__ import annotations

import json
import logging
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

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
    draft = _empty_draft(path)
    draft.mkdir(parents=True)
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, draft / path.name, metadata={FACTS: json.dumps(facts)})
    with (draft / path.name).open("rb") as file:
        os.fsync(file.fileno())
    (draft / path.name).replace(path)
    draft.rmdir()


class StateWriter:
    """Saves states beside the training, one after another."""

    def __init__(self, path: Path) -> None:
        """Nothing is written yet.

        Args:
            path: of the file.
        """
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._thread.shutdown()

    def save(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Begin to write a state, once the one before is written.

        Args:
            tensors: must not change until `wait` has returned; `snapshot` makes copies.
            facts: what else is needed to go on; JSON-able.
        """
        self.wait()
        self._writing = self._thread.submit(save_state, self._path, tensors, facts)

    def wait(self) -> None:
        """Return once nothing is being written. A disk that is full costs the state alone."""
        if self._writing is not None:
            try:
                self._writing.result()
            except (OSError, SafetensorError) as error:
                log.warning("the training state %s cannot be written: %s", self._path, error)
            self._writing = None


def snapshot(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, which stay as they are while training goes on."""
    return {name: _copied(tensor.detach()) for name, tensor in tensors.items()}


def _copied(tensor: Tensor) -> Tensor:
    copy = torch.empty(tensor.shape, dtype=tensor.dtype)
    return copy.copy_(tensor)


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
    path.unlink(missing_ok=True)
    _empty_draft(path)


def _empty_draft(path: Path) -> Path:
    """Where a state is written before it is whole; nothing is there.

    It is a folder, since the library that writes has a temporary file of its own beside the file
    that it is asked for. Its name is always the same: many killed processes leave one at most.
    """
    draft = path.with_suffix(".partial")
    if draft.is_dir():
        shutil.rmtree(draft)
    else:
        draft.unlink(missing_ok=True)  # release 0.1 wrote a file of this name
    return draft
