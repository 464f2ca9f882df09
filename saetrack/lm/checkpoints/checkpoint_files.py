"""The files of one checkpoint: which there must be, and whether each is fully written."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path
from typing import Any

from saetrack.utils.errors import UserError

# In the order in which `transformers` looks for them.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

# A file in a form whose end cannot be seen is taken to be whole when it was left alone for so long.
SETTLED_S = 60.0

# torch's format before version 1.6 begins with this number, pickled.
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


# What git leaves in the place of a large file if it was cloned without LFS.
LFS_POINTER = b"version https://git-lfs"


class NotWholeError(Exception):
    """A checkpoint is not complete, or not yet; the text goes on from the checkpoint's name."""


class UnusableError(NotWholeError):
    """It never will be."""


def cannot_be_read(error: OSError) -> str:
    """What to say of a checkpoint whose files cannot be opened; goes on from its name."""
    return f"cannot be read ({error.strerror})"


def present_files(checkpoint: Path) -> list[str]:
    """Names of a checkpoint's config and weight files, once all of them are there.

    Raises:
        NotWholeError: one is missing.
        UserError: an index names a file of another folder.
    """
    _require_model(checkpoint)
    read_json(checkpoint / "config.json")
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
    _require_one_set(checkpoint, names)
    for name in names:
        if not _is_whole_file(checkpoint / name):
            raise NotWholeError(f"has only a part of {name}")
    return names


def _require_one_set(checkpoint: Path, names: list[str]) -> None:
    """Refuse a whole file beside whole shards: one of the two is of another training step.

    So it is where a run saves into a folder again, in shards of another size. `transformers` reads
    the whole file, which may be the old one.

    Raises:
        UnusableError: there are both.
    """
    whole = next((name for name in names if name in WEIGHT_FILES), None)
    if whole is None or not _index_of(checkpoint, whole):
        return
    index = f"{whole}.index.json"
    try:
        shards = _shards(checkpoint, index)
    except NotWholeError:
        return
    if shards != [whole] and all(
        (checkpoint / name).is_file() and _is_whole_file(checkpoint / name) for name in shards
    ):
        raise UnusableError(
            f"holds weights twice, in {whole} and in the shards of {index}, and one of them may "
            "be older: remove the one that is not meant"
        )


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint's config and weights are all there."""
    try:
        whole_files(checkpoint)
    except (NotWholeError, OSError):
        return False
    return True


def _require_model(checkpoint: Path) -> None:
    """Say what a folder holds instead of an LM's weights, if it is known by its files.

    Raises:
        UnusableError: it is.
    """
    if any((checkpoint / name).exists() or _index_of(checkpoint, name) for name in WEIGHT_FILES):
        return
    for pattern, problem in OTHER_FORMS.items():
        if next(checkpoint.glob(pattern), None) is not None:
            raise UnusableError(problem)


def _index_of(checkpoint: Path, name: str) -> bool:
    return (checkpoint / f"{name}.index.json").exists()


# What else training codes write, and how it becomes a checkpoint.
OTHER_FORMS = {
    "adapter_*": "holds an adapter only (PEFT): merge it into its LM and save that "
    "(merge_and_unload, then save_pretrained)",
    "*zero_pp_rank_*": "holds the shards of DeepSpeed only: convert them (zero_to_fp32.py)",
    "global_step*/*zero_pp_rank_*": "holds the shards of DeepSpeed only: convert them "
    "(zero_to_fp32.py)",
    "pytorch_model_fsdp*": "holds the shards of FSDP only: merge them (accelerate merge-weights)",
    "*.gguf": "holds GGUF weights only: save the LM with save_pretrained",
}


def _weight_files(checkpoint: Path) -> list[str]:
    for name in WEIGHT_FILES:
        if (checkpoint / name).exists():
            return [name]
        # Written last, after the shards that it names.
        index = f"{name}.index.json"
        if (checkpoint / index).exists():
            return [index, *_shards(checkpoint, index)]
    raise NotWholeError(f"has no {' or '.join(WEIGHT_FILES)}")


def _shards(checkpoint: Path, index: str) -> list[str]:
    """Names of the files that an index names.

    Raises:
        NotWholeError: it names none.
        UserError: it names a file of another folder.
    """
    weight_map = read_json(checkpoint / index).get("weight_map")
    named = weight_map.values() if isinstance(weight_map, dict) else ()
    shards = sorted({str(name) for name in named})
    if not shards:
        raise NotWholeError(f"has a {index} that names no file (weight_map)")
    if outside := [shard for shard in shards if Path(shard).name != shard]:
        raise UserError(
            f"model='{checkpoint.parent}': {checkpoint.name}/{index} names {outside[0]!r}, which "
            "is no file of its folder"
        )
    return shards


def _is_whole_file(path: Path) -> bool:
    """Whether a file is fully written.

    Raises:
        UnusableError: it never will hold weights.
    """
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise UnusableError(
                f"has a Git LFS pointer where {path.name} should be: fetch the file (git lfs pull)"
            )
    if path.suffix == ".safetensors":
        return path.stat().st_size == _declared_bytes(path)
    # A zip's directory is at its end; an index was read whole already.
    return path.suffix != ".bin" or zipfile.is_zipfile(path) or _is_old_torch(path)


def _is_old_torch(path: Path) -> bool:
    """Whether a file is in torch's format before version 1.6, by its first bytes.

    Only a look at all of it would show whether it is whole: it counts once it is left alone.

    Raises:
        UnusableError: it is a pickle of another kind, which is never read.
    """
    with path.open("rb") as file:
        start = file.read(len(OLD_TORCH))
    if start == OLD_TORCH:
        return time.time() - path.stat().st_mtime >= SETTLED_S
    if start[:1] == b"\x80":
        raise UnusableError(
            f"has a {path.name} that torch.save did not write: a pickle of another kind is never "
            "read; save the LM with save_pretrained"
        )
    return False


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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        NotWholeError: there is none, or only a part of it.
    """
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise NotWholeError(f"lacks {path.name}, or has only a part of it")
    return content
