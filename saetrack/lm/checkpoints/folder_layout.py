"""A folder of Hugging Face checkpoints, which a training run may still be writing."""

from __future__ import annotations

import os
import re
import time
from dataclasses import asdict
from pathlib import Path

from saetrack.lm.catalog.models import ModelSpec, UnknownModelError, find_model
from saetrack.lm.checkpoints.checkpoint_files import (
    NotWholeError,
    UnusableError,
    cannot_be_read,
    whole_files,
)
from saetrack.lm.checkpoints.shape import UNKNOWN_SHAPE, shape_of
from saetrack.lm.checkpoints.subfolders import ACCEPTED_NAMES, STEP_NAME, Subfolders, subfolders
from saetrack.utils.errors import UserError
from saetrack.utils.files import counted_from, user_path

# A checkpoint that lacks something is waited for, and so are those behind it, since it may be in
# the midst of being written. When nothing in it has changed for so long, it is left out.
BROKEN_AFTER_S = 600.0


def is_folder(model: str) -> bool:
    """Whether a `model` means a folder rather than a name of the catalogue; reads nothing."""
    return os.sep in model or model.startswith((".", "~"))


def find_lm(model: str) -> ModelSpec:
    """The LM that a `model` means: the LM in that folder, or the one of that name in the catalogue.

    Raises:
        UserError: there is no such folder or name, or it cannot be used.
    """
    if is_folder(model):
        return folder_spec(model)
    try:
        return find_model(model)
    except UnknownModelError:
        folder = as_folder(model)
        if folder == model:
            raise
        raise UnknownModelError(
            f"model={model!r}: not in the catalogue; for the folder of that name write {folder}"
        ) from None


def as_folder(model: str) -> str:
    """A `model` that is a name of no LM, as the folder of that name if there is one."""
    return f".{os.sep}{model}" if user_path(model).is_dir() else model


def folder_spec(model: str) -> ModelSpec:
    """The LM in a folder, with the checkpoints that are whole by now.

    While there is none, nothing is known of the LM: no `lm_steps`, and zeros for its shape.

    Raises:
        UserError: no such folder, or an unknown config.
    """
    folder = user_path(model)
    whole, _ = whole_checkpoints(folder, model)
    resolved = folder.resolve()
    shape = shape_of(whole[max(whole)]) if whole else UNKNOWN_SHAPE
    return ModelSpec(_name_of(resolved), None, "", tuple(whole), **asdict(shape), folder=resolved)


def _name_of(folder: Path) -> str:
    """The LM's name, which names an experiment too: the folder's, but for odd characters."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-")
    if STEP_NAME.fullmatch(name):  # a checkpoint that is named itself as the model
        name = f"{_name_of(folder.parent)}-{name}"
    return name or "lm"


def found_in(folder: Path, model: str = "") -> Subfolders:
    """The checkpoints of a folder, whole or not, and what else looks like a model.

    Args:
        folder: to look into.
        model: the same as the user wrote it, for messages.

    Raises:
        UserError: no such folder, or two checkpoints of one step.
    """
    try:
        return subfolders(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"model={model or str(folder)!r}: no such folder{counted_from(model)} (names of the "
            f"catalogue hold no '{os.sep}')"
        ) from None
    except OSError as error:
        raise UserError(
            f"model={model or str(folder)!r}: cannot be read ({error.strerror})"
        ) from None


def checkpoint_folders(folder: Path) -> list[tuple[int, Path]]:
    """Training step and subfolder of every checkpoint, whole or not, by ascending step.

    Raises:
        UserError: no such folder, or two checkpoints of one step.
    """
    return found_in(folder).checkpoints


def whole_checkpoints(folder: Path, model: str = "") -> tuple[dict[int, Path], dict[str, str]]:
    """The checkpoints before the first that may still be in the midst of being written.

    Args:
        folder: to look into.
        model: the same as the user wrote it, for messages.

    Returns:
        The folders by training step, ascending; and of each other one that looks like a model the
        name and the reason why it is not among them.

    Raises:
        UserError: no such folder, or two checkpoints of one step.
    """
    found = found_in(folder, model)
    whole, left_out = {}, dict(found.refused)
    for lm_step, path in found.checkpoints:
        try:
            whole_files(path)
        except (NotWholeError, OSError) as error:
            left_out[path.name] = (
                cannot_be_read(error) if isinstance(error, OSError) else str(error)
            )
            if may_become_whole(path, error):
                break
        else:
            whole[lm_step] = path
    return whole, left_out


def may_become_whole(checkpoint: Path, error: Exception) -> bool:
    """Whether a checkpoint with something missing may still be in the midst of being written."""
    if isinstance(error, UnusableError):
        return False
    try:
        touched_s = max(path.stat().st_mtime for path in _with_files(checkpoint))
    except OSError:  # it is being deleted, or written
        return True
    return time.time() - touched_s < BROKEN_AFTER_S


def _with_files(checkpoint: Path) -> list[Path]:
    """A checkpoint's folder and what is in it, if that may be read."""
    try:
        return [checkpoint, *checkpoint.iterdir()]
    except PermissionError:
        return [checkpoint]


def no_checkpoint(model: str) -> UserError:
    """What to say of a folder without a whole checkpoint: what is there, and what would be taken.

    Raises:
        UserError: no such folder.
    """
    _, left_out = whole_checkpoints(user_path(model), model)
    reasons = [f"{name} {reason}" for name, reason in left_out.items()]
    if len(reasons) > MAX_REASONS:
        reasons = [*reasons[:MAX_REASONS], f"and {len(reasons) - MAX_REASONS} more"]
    return UserError(
        f"model={model!r}: holds no whole checkpoint yet"
        f" ({'; '.join(reasons) or 'nothing in it looks like a model'}). Taken are subfolders with "
        f"config.json and model.safetensors or pytorch_model.bin, named {ACCEPTED_NAMES}; or a "
        "folder that is itself one checkpoint"
    )


# In the line of `no_checkpoint`.
MAX_REASONS = 4
