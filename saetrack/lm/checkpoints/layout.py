"""The hub's cache on disk: where a revision's files lie, and whether they are what they should be.

A snapshot holds links to blobs; a blob is named by its hash: SHA-256 of large files, git's SHA-1 of
small ones. So a file can be checked at any time, with no hub and no record of earlier checks.
"""

from __future__ import annotations

import hashlib
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

from saetrack.utils.files import file_sha256

# The first pattern of each list is the kind of file without which the rest is of no use.
SAFETENSORS_FILES = ["model*.safetensors", "model.safetensors.index.json", "config.json"]
BIN_FILES = ["pytorch_model*.bin", "pytorch_model.bin.index.json", "config.json"]


def repo_folder(cache: Path, repo: str) -> Path:
    """Where the cache keeps a repository."""
    return cache / f"models--{repo.replace('/', '--')}"


def snapshot_folder(cache: Path, repo: str, commit: str) -> Path:
    """Where the cache keeps one commit of a repository."""
    return repo_folder(cache, repo) / "snapshots" / commit


def matches(name: str, patterns: list[str]) -> bool:
    """Whether a file at the top of a repository is of one of the kinds."""
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in patterns)


def missing_files(folder: Path, patterns: list[str]) -> set[str]:
    """What a snapshot lacks of the leading kind of file, its config, and every shard it names."""
    present = {path.name for path in folder.glob(patterns[0]) if path.exists()}
    if not present:
        return {patterns[0]}
    needed = {"config.json"} & set(patterns)
    indices = set(folder.glob("*.index.json"))
    needed |= {name for name in patterns if name.endswith(".index.json") and _sharded(present)}
    for index in indices:
        try:
            shards = set(json.loads(index.read_text())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {index.name}
        # One that would leave the folder is never there.
        needed |= {name for name in shards if "/" in name or matches(name, patterns[:1])}
    return {name for name in needed if "/" in name or not (folder / name).exists()}


def damaged_files(folder: Path) -> list[str]:
    """Weights and configs of a snapshot whose content is not what their blobs' names say."""
    return [
        path.name
        for path in sorted(folder.iterdir())
        if matches(path.name, [*SAFETENSORS_FILES, *BIN_FILES])
        and (blob := blob_path(path)) is not None
        and not has_hash(path, blob.name)
    ]


def has_weights(folder: Path) -> bool:
    """Whether a snapshot has its config and all of its weights; their content is not looked at."""
    return any(not missing_files(folder, kind) for kind in (SAFETENSORS_FILES, BIN_FILES))


def is_whole(folder: Path) -> bool:
    """Whether a snapshot has its config and all of its weights, undamaged; reads all of them."""
    return has_weights(folder) and not damaged_files(folder)


def blob_path(file: Path) -> Path | None:
    """The blob that a snapshot's file is a link to; None for a plain file.

    Only the first link is followed: a blob may be a link itself, into the store of blobs that
    repositories share, where names are hashes of another kind.
    """
    return file.parent / file.readlink() if file.is_symlink() else None


def has_hash(path: Path, expected: str) -> bool:
    """Whether a file's content has the hash that names its blob; names of other kinds say nothing.

    Args:
        path: the file.
        expected: 64 hex digits are a SHA-256, 40 the SHA-1 that git gives a file.
    """
    if re.fullmatch("[0-9a-f]{64}", expected):
        return file_sha256(path) == expected
    if re.fullmatch("[0-9a-f]{40}", expected):
        content = path.read_bytes()
        header = f"blob {len(content)}\0".encode()
        return hashlib.sha1(header + content, usedforsecurity=False).hexdigest() == expected
    return True


def is_hash(name: str) -> bool:
    """Whether a name is one that commits and blobs have: a SHA-1 or SHA-256 in hex digits."""
    return re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", name) is not None


def _sharded(names: set[str]) -> bool:
    return any(re.search(r"-\d+-of-\d+\.", name) for name in names)
