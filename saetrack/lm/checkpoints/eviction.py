"""How much disk fetched checkpoints may take, and who reads or writes which of them.

Beside each commit's folder that was ever fetched lies `<commit>.lock`. A process that reads the
folder shares the lock, one that writes or removes it has the lock alone; the kernel frees the locks
of the dead. The time of the lock's file is that of the folder's last use. Folders without a lock
were not fetched (embedded LMs, the user's own) and are never evicted.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from saetrack.lm.checkpoints.download import TemporaryError
from saetrack.lm.checkpoints.files import ListedFile
from saetrack.lm.checkpoints.store import draft_of, manifest, write_manifest
from saetrack.utils.errors import UserError

log = logging.getLogger(__name__)

WAIT_S = 600.0  # for other tracks to free what they hold
POLL_S = 1.0


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[bool]:
    """Keep a commit's folder from eviction while the block lasts, and count it as used now.

    Yields:
        Whether it is there; False if it was evicted just before. Folders that saetrack did not
        fetch are never evicted, and so are said to be there.
    """
    path = _lock_path(folder)
    if not path.exists():
        yield True
        return
    with path.open("rb") as lock:
        _wait_for(lock, fcntl.LOCK_SH, f"{folder.name[:12]} is being fetched")
        with contextlib.suppress(OSError):  # another user's cache
            os.utime(path)
        yield folder.exists()


@contextlib.contextmanager
def alone(folder: Path, label: str) -> Iterator[None]:
    """Be the only process that writes a commit's folder, while nobody reads it.

    Raises:
        UserError: the cache cannot be written.
    """
    path = _lock_path(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("ab")
        os.utime(path)
    except OSError as error:
        raise UserError(f"model: {label} cannot be stored: {error}") from None
    with lock:
        _wait_for(lock, fcntl.LOCK_EX, f"{label} is being fetched or read")
        yield


def make_room(folder: Path, files: list[ListedFile], limit_bytes: int, label: str) -> None:
    """Reserve the disk for a commit that is about to be fetched, inside `alone`.

    Evicts commits that saetrack fetched and nobody reads, the longest unused first. The list of
    files in the draft is the reservation: a commit counts in full from now on.

    Args:
        folder: of the commit.
        files: what is to be fetched.
        limit_bytes: what all that saetrack fetched may take, this commit included.
        label: of the commit, for messages.

    Raises:
        TemporaryError: other tracks hold too much, and did not free it in time.
        UserError: the commit alone is larger than the limit.
    """
    needed_bytes = sum(file.size_bytes for file in files)
    setting = f"SAETRACK_FETCHED_BYTES={limit_bytes}"
    if needed_bytes > limit_bytes:
        raise UserError(f"{setting}: {label} alone needs {needed_bytes}")
    root = folder.parents[1]
    give_up_s = time.monotonic() + WAIT_S
    is_logged = False
    while True:
        with _one_at_a_time(root):
            held_bytes = _evict(root, limit_bytes - needed_bytes, except_for=folder)
            if held_bytes + needed_bytes <= limit_bytes:
                write_manifest(draft_of(folder), files)
                return
        problem = f"{setting}: {label} needs {needed_bytes}, and running tracks hold {held_bytes}"
        if time.monotonic() > give_up_s:
            raise TemporaryError(problem)
        if not is_logged:
            log.info("%s; waiting", problem)
            is_logged = True
        time.sleep(POLL_S)


def _evict(root: Path, goal_bytes: int, except_for: Path) -> int:
    """Evict until the others take no more than the goal; returns the bytes that they still take."""
    locks = [lock for lock in root.glob("*/*.lock") if lock != _lock_path(except_for)]
    sizes_bytes = {lock: _size_bytes(lock.with_suffix("")) for lock in locks}
    held_bytes = sum(sizes_bytes.values())
    for path in sorted(locks, key=lambda lock: lock.stat().st_mtime):
        if held_bytes <= goal_bytes:
            break
        with path.open("ab") as lock:
            if sizes_bytes[path] and _try_lock(lock, fcntl.LOCK_EX):
                _delete(path.with_suffix(""))
                held_bytes -= sizes_bytes[path] - _size_bytes(path.with_suffix(""))
    return held_bytes


def _size_bytes(folder: Path) -> int:
    """What a commit and its draft take: what they list, or what is left of one without a list."""
    total = 0
    for path in (folder, draft_of(folder)):
        listed = sum(file.size_bytes for file in manifest(path))
        total += listed or sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return total


def _delete(folder: Path) -> None:
    """Delete a commit; one that a killed process leaves half deleted is a draft."""
    draft = draft_of(folder)
    shutil.rmtree(draft, ignore_errors=True)
    with contextlib.suppress(OSError):  # it is a draft only, or lies in another user's cache
        folder.rename(draft)
    shutil.rmtree(draft, ignore_errors=True)
    if not folder.exists():
        log.info("%s at commit %s: evicted", folder.parent.name.replace("--", "/", 1), folder.name)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _try_lock(file: BinaryIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(file: BinaryIO, kind: int, why: str) -> None:
    if not _try_lock(file, kind):
        log.info("%s by another process; waiting", why)
        fcntl.flock(file, kind)


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    with (root / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
