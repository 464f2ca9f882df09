"""Which checkpoints in the hub's cache saetrack fetched itself, and how much disk they may take.

Beside the snapshots of a repository lies one marker for each commit that saetrack ever downloaded.
Its text lists what came; it is empty if that was evicted, or if the commit had been here before.
Markers are never deleted: they are what processes lock, too. The kernel frees locks of the dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import DeleteCacheStrategy

from saetrack.lm.checkpoints import layout
from saetrack.lm.checkpoints.download import TemporaryError
from saetrack.utils.errors import UserError

log = logging.getLogger(__name__)

MARKERS = ".saetrack"
WAIT_S = 600.0  # for other tracks to let go of what they hold
POLL_S = 1.0

Blobs = dict[str, int]  # bytes of each blob, by name


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[bool]:
    """Keep a snapshot from eviction while the block lasts, and count it as used now.

    Yields:
        Whether it is there; False if it was evicted just before. Folders that saetrack did not
        fetch are never evicted, and so are said to be there.
    """
    marker = _marker(folder)
    if not marker.exists():
        yield True
        return
    with marker.open("rb") as file:
        if not _try_lock(file, fcntl.LOCK_SH):
            log.info("%s: another process fetches it; waiting", _name(marker))
            fcntl.flock(file, fcntl.LOCK_SH)
        with contextlib.suppress(OSError):  # another user's cache
            os.utime(marker)
        yield folder.exists()


@contextlib.contextmanager
def alone(folder: Path, label: str) -> Iterator[None]:
    """Be the only process that writes a snapshot, while nobody holds it.

    Raises:
        UserError: the cache cannot be written.
    """
    marker = _marker(folder)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        folder.parent.mkdir(exist_ok=True)
        file = marker.open("ab")
    except OSError as error:
        raise UserError(f"model: {label} cannot be stored: {error}") from None
    with file:
        if not _try_lock(file):
            log.info("%s: another process fetches or reads it; waiting", label)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_room(folder: Path, blobs: Blobs, limit_bytes: int, label: str) -> None:
    """Reserve the disk for a snapshot that is about to be fetched, inside `alone`.

    Evicts snapshots that saetrack fetched and nobody holds, the longest unused first.

    Args:
        folder: of the snapshot.
        blobs: what is to be fetched.
        limit_bytes: what all that saetrack fetched may take, this one included.
        label: of the snapshot, for messages.

    Raises:
        TemporaryError: other tracks hold too much, and did not let go in time.
        UserError: the snapshot alone is larger than the limit.
    """
    needed_bytes = sum(blobs.values())
    setting = f"SAETRACK_FETCHED_BYTES={limit_bytes}"
    if needed_bytes > limit_bytes:
        raise UserError(f"{setting}: {label} alone needs {needed_bytes}")
    marker = _marker(folder)
    cache = marker.parents[2]
    give_up_s = time.monotonic() + WAIT_S
    told = False
    while True:
        with _one_at_a_time(cache):
            taken_bytes = _evict(cache, limit_bytes - needed_bytes, except_for=marker)
            if taken_bytes + needed_bytes <= limit_bytes:
                if not folder.exists() or _blobs(marker):  # else it was here before saetrack was
                    marker.write_text(json.dumps(blobs))
                for path in _leftovers(marker.parents[1], blobs):
                    path.unlink(missing_ok=True)
                return
        held = f"{setting}: {label} needs {needed_bytes}, and running tracks hold {taken_bytes}"
        if time.monotonic() > give_up_s:
            raise TemporaryError(held)
        if not told:
            log.info("%s; waiting", held)
            told = True
        time.sleep(POLL_S)


def _evict(cache: Path, goal_bytes: int, except_for: Path) -> int:
    """Evict until the others take no more than the goal; returns the bytes that they still take."""
    fetched = {
        marker: sum(blobs.values())
        for marker in cache.glob(f"models--*/{MARKERS}/*")
        if marker != except_for and (blobs := _blobs(marker))
    }
    taken_bytes = sum(fetched.values())
    for marker in sorted(fetched, key=lambda marker: marker.stat().st_mtime):
        if taken_bytes <= goal_bytes:
            break
        with marker.open("ab") as file:
            if _try_lock(file) and _delete(marker):
                taken_bytes -= fetched[marker]
    return taken_bytes


def _delete(marker: Path) -> bool:
    """Delete a snapshot, its names, and its blobs that no other snapshot needs.

    Not by scanning the cache for its revisions: the scan leaves out a repository in which a killed
    process left a name without its snapshot, and the last revision would take the folder with it,
    and with that what another process is just downloading there.
    """
    repo = marker.parents[1]
    snapshot = repo / "snapshots" / marker.name
    others = [path for path in snapshot.parent.glob("*") if path != snapshot]
    needed = {blob for other in others for blob in _linked(other)}
    for other in marker.parent.iterdir():
        needed |= _blobs(other).keys() if other != marker else set()
    names = (_blobs(marker).keys() | _linked(snapshot)) - needed
    blobs = {path for name in names if os.path.lexists(path := repo / "blobs" / name)}
    refs = [path for path in (repo / "refs").rglob("*") if path.is_file()]
    DeleteCacheStrategy(
        expected_freed_size=0,
        blobs=frozenset(blobs | set(_leftovers(repo, names))),
        refs=frozenset(path for path in refs if path.read_text().strip() == marker.name),
        repos=frozenset(),
        snapshots=frozenset({snapshot} if snapshot.exists() else ()),
        cache_dir=marker.parents[2],
    ).execute()
    if snapshot.exists():
        return False
    size_gb = sum(_blobs(marker).values()) / 1e9
    log.info("%s: evicted, %.2f GB", _name(marker), size_gb)
    marker.write_bytes(b"")
    return True


def _linked(snapshot: Path) -> set[str]:
    files = snapshot.rglob("*")
    return {blob.name for file in files if (blob := layout.blob_path(file)) is not None}


def _leftovers(repo: Path, blobs: Iterable[str]) -> list[Path]:
    """What killed downloads of these blobs left behind; the hub's client cannot resume them."""
    found = []
    for name in blobs:
        parts = list((repo / "blobs").glob(f"{name}.*.incomplete"))
        lock = repo.parent / ".locks" / repo.name / f"{name}.lock"  # the client's own
        if parts and lock.exists():
            with lock.open("ab") as file:
                parts = parts if _try_lock(file) else []
        found += parts
    return found


def _marker(folder: Path) -> Path:
    return folder.parent.parent / MARKERS / folder.name


def _blobs(marker: Path) -> Blobs:
    """What saetrack fetched of a commit, and has not evicted."""
    try:
        blobs: Blobs = json.loads(marker.read_text())
    except (OSError, ValueError):  # none, empty, or its writer was killed: before any download
        return {}
    return blobs


def _name(marker: Path) -> str:
    repo = marker.parents[1].name.removeprefix("models--").replace("--", "/")
    return f"{repo} at commit {marker.name[:12]}"


def _try_lock(file: BinaryIO, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _one_at_a_time(cache: Path) -> Iterator[None]:
    path = cache / ".locks" / "saetrack.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
