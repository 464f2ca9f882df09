"""The ledger of a folder: every checkpoint that was ever seen whole in it, by content."""

from __future__ import annotations

import contextlib
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

from saetrack.lm.checkpoints.files import weights_id
from saetrack.lm.checkpoints.folder_layout import (
    NotWholeError,
    checkpoint_folders,
    shape_of,
    whole_files,
)
from saetrack.lm.checkpoints.moved import inherited
from saetrack.lm.checkpoints.seen import Ledger, Seen, stats_of
from saetrack.utils.files import content_hash, file_sha256, write_atomically

log = logging.getLogger(__name__)


def look(folder: Path, ledger_path: Path) -> tuple[tuple[Seen, ...], str | None]:
    """Bring a folder's ledger up to date; hashes what is new or was touched, and nothing else.

    Returns:
        All checkpoints up to now, and what is wrong with the next one if it is there in part.

    Raises:
        UserError: the folder is gone.
    """
    with _locked(ledger_path.with_suffix(".lock")):
        is_new = not ledger_path.exists()
        before = Ledger() if is_new else Ledger.model_validate_json(ledger_path.read_bytes())
        after, obstacle = _updated(before, folder)
        if is_new:
            after = inherited(after, ledger_path)
        if after != before:
            write_atomically(ledger_path, after.model_dump_json(indent=1).encode())
    return after.checkpoints, obstacle


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: several tracks may follow one folder, and hashing takes long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _updated(ledger: Ledger, folder: Path) -> tuple[Ledger, str | None]:
    before = {seen.lm_step: seen for seen in ledger.checkpoints}
    now = dict(before)
    on_disk = dict(checkpoint_folders(folder))
    obstacle = None
    for lm_step, path in on_disk.items():
        if lm_step in before and _is_untouched(before[lm_step], path):
            continue
        try:
            now[lm_step] = _examine(lm_step, path)
        except NotWholeError as error:
            # One that was whole before is being deleted or overwritten: it stays listed.
            if lm_step not in before:
                obstacle = f"{path.name} {error}"
                break
    changed = [step for step, seen in before.items() if now[step].commit != seen.commit]
    if changed:
        # Later ones that are gone were the former training run's.
        now = {step: seen for step, seen in now.items() if step <= changed[0] or step in on_disk}
    _log_changes(f"folder/{folder.name}", before, now, changed)
    return Ledger(checkpoints=tuple(now[step] for step in sorted(now))), obstacle


def _log_changes(
    repo: str, before: dict[int, Seen], now: dict[int, Seen], changed: list[int]
) -> None:
    new = sorted(now.keys() - before.keys())
    if changed:
        log.warning(
            "%s: another training run has overwritten %s; its links are trained anew",
            *(repo, now[changed[0]].name + (" and later ones" if len(changed) > 1 else "")),
        )
    elif new and before and new[0] < max(before):
        log.warning(
            "%s: %s came after later ones, whose links are trained anew", repo, now[new[0]].name
        )
    if new:
        log.info(
            "%s: %d new checkpoints, %d in all, up to step %d", repo, len(new), len(now), max(now)
        )


def _examine(lm_step: int, path: Path) -> Seen:
    """Hash a checkpoint.

    Raises:
        NotWholeError: it is not all there, or was written to meanwhile.
    """
    try:
        names = whole_files(path)
        stats = stats_of(path, names)
        digests = {name: file_sha256(path / name) for name in names}
        shape = shape_of(path)
        is_steady = stats_of(path, names) == stats
    except OSError as error:
        raise NotWholeError(f"cannot be read ({error.strerror})") from None
    if not is_steady:
        raise NotWholeError("is being written")
    return Seen(
        lm_step=lm_step,
        name=path.name,
        commit=content_hash(digests)[:40],
        shape=shape,
        files=stats,
        weights_id=weights_id(digests),
    )


def _is_untouched(seen: Seen, path: Path) -> bool:
    try:
        return seen.name == path.name and stats_of(path, seen.files) == seen.files
    except OSError:
        return False
