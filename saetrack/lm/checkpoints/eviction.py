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

from saetrack.lm.checkpoints.download import TemporaryError
from saetrack.lm.checkpoints.files import ListedFile
from saetrack.lm.checkpoints.store import draft_of, manifest, write_manifest
from saetrack.utils.errors import UserError
from saetrack.utils.files import try_lock

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
    lock = _lock_of(folder)
    if not lock.exists():
        yield True
        return
    with _locked(lock, fcntl.LOCK_SH, f"{folder.name[:12]} is being fetched"):
        yield folder.exists()


def alone(folder: Path, label: str) -> contextlib.AbstractContextManager[None]:
    """Be the only process that writes a commit's folder, while nobody reads it.

    Raises:
        UserError: the cache cannot be written.
    """
    lock = _lock_of(folder)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise UserError(f"model: {label} cannot be stored: {error}") from None
    return _locked(lock, fcntl.LOCK_EX, f"{label} is being fetched or read")


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
        with _locked(root / ".lock", fcntl.LOCK_EX, "room is being made"):
            held_bytes = _evict(root, limit_bytes - needed_bytes, except_for=folder)
            if held_bytes + needed_bytes <= limit_bytes:
                draft_of(folder).mkdir(exist_ok=True)
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
    locks = [lock for lock in root.glob("*/*.lock") if lock != _lock_of(except_for)]
    sizes_bytes = {lock: _size_bytes(lock.with_suffix("")) for lock in locks}
    for lock in sorted(locks, key=lambda lock: lock.stat().st_mtime):
        if sum(sizes_bytes.values()) <= goal_bytes:
            break
        with lock.open("ab") as file:
            if sizes_bytes[lock] and try_lock(file, fcntl.LOCK_EX):
                _delete(lock.with_suffix(""))
                sizes_bytes[lock] = _size_bytes(lock.with_suffix(""))
    return sum(sizes_bytes.values())


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


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


@contextlib.contextmanager
def _locked(lock: Path, kind: int, why: str) -> Iterator[None]:
    with lock.open("ab") as file:
        if not try_lock(file, kind):
            log.info("%s by another process; waiting", why)
            fcntl.flock(file, kind)
        os.utime(lock)
        yield
