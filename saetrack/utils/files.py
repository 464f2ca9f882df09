"""Files that are either whole or absent, and their hashes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


def user_path(text: str | Path) -> Path:
    """A path as a user writes it: `~` is the home; an unknown `~user` is a name like any other."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  (pathlib's fails for an unknown ~user)


def content_hash(content: Any) -> str:
    """SHA-256 (hex) of JSON-able content in canonical form; equal content, equal digest."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path`; a reader, or a crash at any moment, sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` only if the block ends well.

    If another process finished the same folder meanwhile, its copy is kept and ours deleted:
    callers name folders by content, so both are the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=".partial-"))
    try:
        yield draft
        with contextlib.suppress(OSError):
            draft.replace(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def try_lock(file: BinaryIO, kind: int = fcntl.LOCK_EX) -> bool:
    """Take the lock of an open file, unless another process holds one that excludes it.

    Args:
        file: which keeps the lock until it is closed.
        kind: `fcntl.LOCK_EX`, or `fcntl.LOCK_SH`.

    Returns:
        Whether it was free.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
