"""Files of a repository: which of them are fetched, and whether their content is right."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from saetrack.utils.files import file_sha256


@dataclass(frozen=True)
class Part:
    """What is fetched of a commit: the files of the first kind that the hub has.

    Attributes:
        name: of the cache's folder for it.
        kinds: patterns of names. The first pattern of a kind is that of the files without which
            its other files are useless.
    """

    name: str
    kinds: tuple[tuple[str, ...], ...]

    def has(self, name: str) -> bool:
        """Whether a file of a repository belongs to it, of whichever kind."""
        return any(matches(name, kind) for kind in self.kinds)


SAFETENSORS_FILES = ("model*.safetensors", "model.safetensors.index.json", "config.json")
BIN_FILES = ("pytorch_model*.bin", "pytorch_model.bin.index.json", "config.json")
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)

CHECKPOINT = Part("checkpoints", (SAFETENSORS_FILES, BIN_FILES))
TOKENIZER = Part("tokenizers", (TOKENIZER_FILES,))
CONFIG = Part("configs", (("config.json",),))


@dataclass(frozen=True)
class ListedFile:
    """What a file must be.

    Attributes:
        name: in its folder.
        size_bytes: its size.
        digest: SHA-256 (64 hex digits), or the SHA-1 that git gives a file (40).
    """

    name: str
    size_bytes: int
    digest: str

    def problem(self, folder: Path) -> str | None:
        """What is wrong with the file in a folder; reads all of it."""
        path = folder / self.name
        size_bytes = path.stat().st_size if path.is_file() else 0
        if size_bytes != self.size_bytes:
            return f"{size_bytes:,} of {self.size_bytes:,} bytes"
        if not has_digest(path, self.digest):
            return "SHA-256 differs" if len(self.digest) == 64 else "git's hash differs"
        return None


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a file at the top of a repository is of a kind."""
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in patterns)


def is_digest(name: str) -> bool:
    """Whether a name is one that commits and blobs have: a SHA-1 or SHA-256 in hex digits."""
    return re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", name) is not None


def weight_digests(digests: Mapping[str, str]) -> dict[str, str]:
    """Those of a checkpoint's files that hold weights, by name."""
    return {name: digest for name, digest in digests.items() if is_weights(name)}


def is_weights(name: str) -> bool:
    """Whether a checkpoint's file holds weights."""
    return name.endswith((".safetensors", ".bin"))


def has_digest(path: Path, digest: str) -> bool:
    """Whether a file's content has a SHA-256 (64 hex digits) or git's SHA-1 (40)."""
    if len(digest) == 64:
        return file_sha256(path) == digest
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest() == digest
