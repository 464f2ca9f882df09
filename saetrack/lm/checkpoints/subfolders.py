"""Which subfolders are checkpoints, and of which training step: by name, or from inside."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from saetrack.utils.errors import UserError

# As training codes name them: the Trainer of transformers, Pythia's revisions, GPT-NeoX, DeepSpeed,
# Megatron, nanoGPT's descendants. Digits may begin with zeros.
STEP_NAME = re.compile(r"(?:checkpoint|ckpt|step|global_step|iter|iteration)[-_]?([0-9]+)")
EPOCH_NAME = re.compile(r"(?:checkpoint[-_])?epoch[-_]?([0-9]+)")
LAST_NAME = re.compile(r"(?:checkpoint[-_])?(?:final|last)")
ACCEPTED_NAMES = (
    "checkpoint-N, stepN, step_N, step-N, global_stepN or iter_N by the training step N; epoch-N; "
    "final or last with a trainer_state.json"
)

# The Trainer of transformers writes it into a checkpoint last of all.
STATE_FILE = "trainer_state.json"

# Whatever has one of these is meant to be a model.
MODEL_FILES = ("config.json", "adapter_config.json", "*.safetensors", "*.bin", "*.pt", "*.pth")


@dataclass(frozen=True)
class Subfolders:
    """What lies in a folder.

    Attributes:
        checkpoints: training step and path of each, by ascending step. A folder that is itself one
            checkpoint is the only one.
        refused: name and reason of what looks like a model and is not taken.
    """

    checkpoints: list[tuple[int, Path]]
    refused: dict[str, str] = field(default_factory=dict)


def subfolders(folder: Path) -> Subfolders:
    """Find the checkpoints of a folder, whole or not.

    Raises:
        UserError: two checkpoints of one step.
        OSError: there is no such folder.
    """
    paths = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    found: dict[int, Path] = {}
    refused: dict[str, str] = {}
    for path in paths:
        if (name := STEP_NAME.fullmatch(path.name)) is not None:
            _take(folder, found, int(name[1]), path)
    _take_epochs(
        folder, [path for path in paths if EPOCH_NAME.fullmatch(path.name)], found, refused
    )
    for path in paths:
        if LAST_NAME.fullmatch(path.name):
            _take_last(path, found, refused)
        elif path not in found.values() and path.name not in refused and _holds_model(path):
            refused[path.name] = "has no training step in its name"
    if not found and (folder / "config.json").exists():
        return Subfolders([(_step_of_alone(folder), folder)], refused)
    return Subfolders(sorted(found.items()), refused)


def _take(folder: Path, found: dict[int, Path], lm_step: int, path: Path) -> None:
    if lm_step in found:
        raise UserError(
            f"model='{folder}': {found[lm_step].name} and {path.name} are of one step; move one "
            "of them away"
        )
    found[lm_step] = path


def _take_epochs(
    folder: Path, paths: list[Path], found: dict[int, Path], refused: dict[str, str]
) -> None:
    """By the training steps inside, if they say so, else by the epochs."""
    steps = {path: _step_inside(path) for path in paths}
    has_steps = bool(found) or any(step is not None for step in steps.values())
    for path, step in steps.items():
        epoch = EPOCH_NAME.fullmatch(path.name)
        assert epoch is not None
        if not has_steps:
            _take(folder, found, int(epoch[1]), path)
        elif step is None:
            refused[path.name] = (
                f"its training step is not known: it has no {STATE_FILE} with a global_step"
            )
        elif step in found:
            refused[path.name] = f"is of the same step as {found[step].name}"
        else:
            found[step] = path


def _take_last(path: Path, found: dict[int, Path], refused: dict[str, str]) -> None:
    step = _step_inside(path)
    if step is None:
        refused[path.name] = (
            f"its training step is not known: it has no {STATE_FILE} with a global_step; rename it "
            "to checkpoint-N, or name it itself as the model"
        )
    elif step in found:  # the Trainer's last checkpoint once more
        refused[path.name] = f"is of the same step as {found[step].name}"
    else:
        found[step] = path


def _step_of_alone(folder: Path) -> int:
    name = STEP_NAME.fullmatch(folder.name)
    return int(name[1]) if name is not None else _step_inside(folder) or 0


def _step_inside(path: Path) -> int | None:
    return trainer_number(path, "global_step")


def trainer_number(checkpoint: Path, name: str) -> int | None:
    """A whole number that the Trainer of transformers wrote beside a checkpoint, if it did."""
    try:
        number = json.loads((checkpoint / STATE_FILE).read_text())[name]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) and number >= 0 else None


def _holds_model(path: Path) -> bool:
    return any(next(path.glob(pattern), None) is not None for pattern in MODEL_FILES)
