"""Files that are either whole or absent, and their hashes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

DRAFT_PREFIX = ".partial-saetrack-"  # in a folder that may be the user's: none else's name


def user_path(text: str | Path) -> Path:
    """A path as a user writes it: `~` is the home; an unknown `~user` is a name like any other."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  (pathlib's fails for an unknown ~user)


LONGEST_PATH_TOLD = 100


def counted_from(text: str) -> str:
    """Where a relative path counts from, as a message about it goes on; empty for others."""
    if not 0 < len(text) <= LONGEST_PATH_TOLD or user_path(text).is_absolute():
        return ""
    return f" (a path counts from the folder of the command, {Path.cwd()}, not from the config's)"


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
    with _own_draft(path, _new_file) as (draft, handle):
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` only if the block ends well.

    If another process finished the same folder meanwhile, its copy is kept and ours deleted:
    callers name folders by content, so both are the same.
    """
    with _own_draft(path, _new_folder) as (draft, _):
        yield draft
        with contextlib.suppress(OSError):
            draft.replace(path)


@contextlib.contextmanager
def _own_draft(path: Path, make: Callable[[Path], Path]) -> Iterator[tuple[Path, int]]:
    """Yield a draft beside `path` and its descriptor; what was not moved by then is deleted.

    The draft is locked for as long as the process lives. Whoever comes next deletes what was
    left by a process that was killed: a draft that nobody holds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{DRAFT_PREFIX}*"):
        _delete_if_left(left)
    while (held := _held(draft := make(path.parent))) is None:
        pass
    try:
        yield draft, held
    finally:
        _delete(draft)
        os.close(held)


def _new_file(folder: Path) -> Path:
    handle, name = tempfile.mkstemp(dir=folder, prefix=DRAFT_PREFIX)
    os.close(handle)
    return Path(name)


def _new_folder(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder, prefix=DRAFT_PREFIX))


def _held(draft: Path) -> int | None:
    """The descriptor that keeps a draft for this process; None if another took it for a left one.

    Where the file system knows no locks, nobody can take it, and it is held without one.
    """
    try:
        handle = _opened(draft)
    except FileNotFoundError:
        return None
    try:
        if try_lock(handle) and os.path.samestat(os.fstat(handle), draft.stat()):
            return handle
    except FileNotFoundError:
        pass  # deleted before it was locked
    except OSError:
        return handle
    os.close(handle)
    return None


def _delete_if_left(draft: Path) -> None:
    with contextlib.suppress(OSError):  # others may delete or move it
        handle = _opened(draft)
        try:
            if try_lock(handle):
                _delete(draft)
        finally:
            os.close(handle)


def _opened(draft: Path) -> int:
    return os.open(draft, os.O_RDONLY if draft.is_dir() else os.O_RDWR)


def _delete(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        draft.unlink(missing_ok=True)


def try_lock(file: BinaryIO | int, kind: int = fcntl.LOCK_EX) -> bool:
    """Take the lock of an open file, unless another process holds one that excludes it.

    Args:
        file: or its descriptor, which keeps the lock until it is closed.
        kind: `fcntl.LOCK_EX`, or `fcntl.LOCK_SH`.

    Returns:
        Whether it was free.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
