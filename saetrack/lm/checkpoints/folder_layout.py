"""A folder of Hugging Face checkpoints, which a training run may still be writing."""

from __future__ import annotations

import itertools
import json
import os
import re
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saetrack.lm.catalog.architectures import Norm, has_resid_mid, norm_of
from saetrack.lm.catalog.models import ModelSpec, find_model
from saetrack.utils.errors import UserError

# As the Trainer of `transformers` names them, or as Pythia's revisions are named.
CHECKPOINT_NAME = re.compile(r"(?:checkpoint-|step)([0-9]+)")

# In the order in which `transformers` looks for them.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

# What the architectures call these numbers in config.json.
CONFIG_KEYS = {
    "n_layers": ("num_hidden_layers", "n_layer"),
    "d_model": ("hidden_size", "n_embd", "d_model"),
    "max_context": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
}


class NotWholeError(Exception):
    """A checkpoint is not complete, or not yet; the text goes on from the checkpoint's name."""


@dataclass(frozen=True)
class Shape:
    """The sizes of an LM; `max_context` in tokens, 0 if its config names none."""

    n_layers: int
    d_model: int
    max_context: int
    norm: Norm = "layer"
    has_resid_mid: bool = True


UNKNOWN_SHAPE = Shape(0, 0, 0)


def is_folder(model: str) -> bool:
    """Whether a `model` means a folder rather than a name of the catalogue; reads nothing."""
    return os.sep in model or model.startswith((".", "~"))


def find_lm(model: str) -> ModelSpec:
    """The LM that a `model` means: the LM in that folder, or the one of that name in the catalogue.

    Raises:
        UserError: there is no such folder or name, or it cannot be used.
    """
    return folder_spec(model) if is_folder(model) else find_model(model)


def folder_spec(model: str) -> ModelSpec:
    """The LM in a folder, with the checkpoints that are whole by now.

    While there is none, nothing is known of the LM: no `lm_steps`, and zeros for its shape.

    Raises:
        UserError: no such folder, a name that cannot name an experiment, or an unknown config.
    """
    folder = Path(os.path.expanduser(model))  # noqa: PTH111  (pathlib's fails for an unknown ~user)
    whole = dict(_whole_checkpoints(folder))
    resolved = folder.resolve()
    if not re.fullmatch(r"[A-Za-z0-9._-]+", resolved.name):
        raise UserError(
            f"model={model!r}: the folder's name must be made of letters, digits, '.', '_' and "
            "'-', since it names the experiment"
        )
    shape = shape_of(whole[max(whole)]) if whole else UNKNOWN_SHAPE
    return ModelSpec(resolved.name, None, "", tuple(whole), **asdict(shape), folder=resolved)


def checkpoint_folders(folder: Path) -> list[tuple[int, Path]]:
    """Training step and subfolder of every checkpoint, whole or not, by ascending step.

    Raises:
        UserError: no such folder, or two checkpoints of one step.
    """
    found: dict[int, Path] = {}
    try:
        for path in sorted(folder.iterdir()):
            name = CHECKPOINT_NAME.fullmatch(path.name)
            if name is None or not path.is_dir():
                continue
            lm_step = int(name[1])
            if lm_step in found:
                raise UserError(
                    f"model='{folder}': {found[lm_step].name} and {path.name} are of one step"
                )
            found[lm_step] = path
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"model='{folder}': no such folder (names of the catalogue hold no '{os.sep}')"
        ) from None
    except OSError as error:
        raise UserError(f"model='{folder}': cannot be read ({error.strerror})") from None
    return sorted(found.items())


def present_files(checkpoint: Path) -> list[str]:
    """Names of a checkpoint's config and weight files, once all of them are there.

    Raises:
        NotWholeError: one is missing.
        UserError: an index names a file of another folder.
    """
    _read_json(checkpoint / "config.json")
    names = _weight_files(checkpoint)
    for name in names:
        if not (checkpoint / name).is_file():
            raise NotWholeError(f"lacks {name}")
    return ["config.json", *names]


def whole_files(checkpoint: Path) -> list[str]:
    """Names of a checkpoint's config and weight files, once all of them are fully written.

    Raises:
        NotWholeError: one is missing or half-written.
        UserError: an index names a file of another folder.
    """
    names = present_files(checkpoint)
    for name in names:
        if not _is_whole_file(checkpoint / name):
            raise NotWholeError(f"has only a part of {name}")
    return names


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint's config and weights are all there."""
    try:
        whole_files(checkpoint)
    except (NotWholeError, OSError):
        return False
    return True


def shape_of(checkpoint: Path) -> Shape:
    """The LM's shape, from a checkpoint's config.json.

    Raises:
        UserError: the config does not say it.
        NotWholeError: the config is missing or half-written.
    """
    config = _read_json(checkpoint / "config.json")
    numbers = {}
    for field, keys in CONFIG_KEYS.items():
        values = [value for key in keys if isinstance(value := config.get(key), int)]
        if not values and field != "max_context":  # BLOOM's has none: its attention has no limit
            raise UserError(
                f"model='{checkpoint.parent}': {checkpoint.name}/config.json has none of "
                f"{', '.join(keys)}"
            )
        numbers[field] = values[0] if values else 0
    return Shape(**numbers, norm=norm_of(config), has_resid_mid=has_resid_mid(config))


def _whole_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints before the first incomplete one: a chain must not skip a checkpoint."""
    return list(itertools.takewhile(lambda found: is_whole(found[1]), checkpoint_folders(folder)))


def _weight_files(checkpoint: Path) -> list[str]:
    for name in WEIGHT_FILES:
        if (checkpoint / name).exists():
            return [name]
        # Written last, after the shards that it names.
        index = checkpoint / f"{name}.index.json"
        if index.exists():
            shards = sorted(set(_read_json(index).get("weight_map", {}).values()))
            if outside := [shard for shard in shards if Path(shard).name != shard]:
                raise UserError(
                    f"model='{checkpoint.parent}': {checkpoint.name}/{index.name} names "
                    f"{outside[0]!r}, which is no file of its folder"
                )
            return [index.name, *shards]
    raise NotWholeError(f"has no {' or '.join(WEIGHT_FILES)}")


def _is_whole_file(path: Path) -> bool:
    if path.suffix == ".safetensors":
        return path.stat().st_size == _declared_bytes(path)
    # A zip's directory is at its end; an index was read whole already.
    return path.suffix != ".bin" or zipfile.is_zipfile(path)


def _declared_bytes(path: Path) -> int | None:
    """The size of a safetensors file by its own header; None while there is no whole header."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(header_bytes, size_bytes)))
            header.pop("__metadata__", None)
            ends = [tensor["data_offsets"][1] for tensor in header.values()]
        except (ValueError, LookupError, TypeError, AttributeError):
            return None
    return 8 + header_bytes + max(ends, default=0)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise NotWholeError(f"lacks {path.name}, or has only a part of it")
    return content
