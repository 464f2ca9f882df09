"""The ledger of a folder: every checkpoint that was ever seen whole in it, by content."""

from __future__ import annotations

import contextlib
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from saetrack.lm.checkpoints.checkpoint_files import NotWholeError, whole_files
from saetrack.lm.checkpoints.files import weight_digests
from saetrack.lm.checkpoints.folder_layout import found_in, may_become_whole
from saetrack.lm.checkpoints.moved import inherited
from saetrack.lm.checkpoints.seen import Ledger, Seen, stats_of
from saetrack.lm.checkpoints.shape import shape_of
from saetrack.lm.checkpoints.subfolders import trainer_number
from saetrack.utils.files import content_hash, file_sha256, write_atomically

log = logging.getLogger(__name__)


class Look(NamedTuple):
    """What a look into a folder has shown.

    Attributes:
        checkpoints: all that were ever seen whole, by ascending step.
        left_out: name and reason of what looks like a model and is not among them.
        is_waiting: whether the last one left out may still be in the midst of being written.
    """

    checkpoints: tuple[Seen, ...]
    left_out: dict[str, str]
    is_waiting: bool


def look(folder: Path, ledger_path: Path) -> Look:
    """Bring a folder's ledger up to date; hashes what is new or was touched, and nothing else.

    Raises:
        UserError: the folder is gone.
    """
    with _locked(ledger_path.with_suffix(".lock")):
        is_new = not ledger_path.exists()
        before = Ledger() if is_new else Ledger.model_validate_json(ledger_path.read_bytes())
        found = _updated(before, folder)
        after = Ledger(checkpoints=found.checkpoints)
        if is_new:
            after = inherited(after, ledger_path)
        if after != before:
            write_atomically(ledger_path, after.model_dump_json(indent=1).encode())
    return found._replace(checkpoints=after.checkpoints)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: several tracks may follow one folder, and hashing takes long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _updated(ledger: Ledger, folder: Path) -> Look:
    before = {seen.lm_step: seen for seen in ledger.checkpoints}
    now = dict(before)
    found = found_in(folder)
    on_disk = dict(found.checkpoints)
    left_out = dict(found.refused)
    is_waiting = False
    for lm_step, path in on_disk.items():
        name = "." if path == folder else path.name  # a folder that is itself one checkpoint
        if lm_step in before and _is_untouched(before[lm_step], name, path):
            continue
        try:
            now[lm_step] = _examine(lm_step, name, path)
        except NotWholeError as error:
            # One that was whole before is being deleted or overwritten: it stays listed.
            if lm_step not in before:
                left_out[path.name] = str(error)
                if is_waiting := may_become_whole(path, error):
                    break
    changed = [step for step, seen in before.items() if now[step].commit != seen.commit]
    if changed:
        # Later ones that are gone were the former training run's.
        now = {step: seen for step, seen in now.items() if step <= changed[0] or step in on_disk}
    _log_changes(f"folder/{folder.name}", before, now, changed)
    return Look(tuple(now[step] for step in sorted(now)), left_out, is_waiting)


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


def _examine(lm_step: int, name: str, path: Path) -> Seen:
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
        name=name,
        commit=content_hash(digests)[:40],
        shape=shape,
        files=stats,
        weights=weight_digests(digests),
        save_steps=trainer_number(path, "save_steps") or 0,
    )


def _is_untouched(seen: Seen, name: str, path: Path) -> bool:
    try:
        return seen.name == name and stats_of(path, seen.files) == seen.files
    except OSError:
        return False
