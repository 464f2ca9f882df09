"""The ledger of a folder: every checkpoint that was ever seen whole in it, by content."""

from __future__ import annotations

import contextlib
import fcntl
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from saetrack.lm.catalog.models import UNKNOWN
from saetrack.lm.checkpoints.checkpoint_files import NotWholeError, cannot_be_read, whole_files
from saetrack.lm.checkpoints.files import weight_digests
from saetrack.lm.checkpoints.folder_layout import BROKEN_AFTER_S, found_in, may_become_whole
from saetrack.lm.checkpoints.moved import inherited
from saetrack.lm.checkpoints.seen import Ledger, Seen, Stats, stats_of
from saetrack.lm.checkpoints.shape import shape_of
from saetrack.lm.checkpoints.subfolders import trainer_number
from saetrack.utils.files import content_hash, file_sha256, write_atomically
from saetrack.utils.progress import duration

log = logging.getLogger(__name__)

Examine = Callable[[int, str, Path], Seen]
# Names in a line.
SHOWN = 6


class Look(NamedTuple):
    """What a look into a folder has shown.

    Attributes:
        checkpoints: all that were ever seen whole, by ascending step.
        left_out: name and reason of what looks like a model and is not among them.
        is_waiting: whether the last one left out may still be in the midst of being written.
        behind: names of those that are there behind such a one, and wait for it.
    """

    checkpoints: tuple[Seen, ...]
    left_out: dict[str, str]
    is_waiting: bool
    behind: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Each checkpoint that is left out or waited for, and why."""
        found = [f"{name} {reason}" for name, reason in self.left_out.items()]
        lines = [f"{line}, and is left out" for line in found]
        if self.is_waiting:
            waits = ""
            if self.behind:
                names = ", ".join(self.behind[:SHOWN])
                more = f" and {len(self.behind) - SHOWN} more" if len(self.behind) > SHOWN else ""
                waits = f", and so are those behind it ({names}{more})"
            lines[-1] = (
                f"{found[-1]}: it may be in the midst of being written, and is waited for{waits}, "
                f"until nothing in it has changed for {duration(BROKEN_AFTER_S)}"
            )
        return lines


def look(folder: Path, ledger_path: Path) -> Look:
    """Bring a folder's ledger up to date; hashes what is new or was touched, and nothing else.

    Raises:
        UserError: the folder is gone.
    """
    with _locked(ledger_path.with_suffix(".lock")):
        before, found = _look(folder, ledger_path, _examine)
        after = Ledger(checkpoints=found.checkpoints)
        if after != before:
            write_atomically(ledger_path, after.model_dump_json(indent=1).encode())
    _log_changes(f"folder/{folder.name}", before, after)
    return found


def peek(folder: Path, ledger_path: Path, most_bytes: float) -> Look:
    """What `look` would show, without a trace of it; a commit is UNKNOWN where it would hash more.

    Args:
        folder: of the checkpoints.
        ledger_path: of the folder.
        most_bytes: of files that are hashed.

    Raises:
        UserError: the folder is gone.
    """
    left_bytes = most_bytes

    def examine(lm_step: int, name: str, path: Path) -> Seen:
        nonlocal left_bytes
        left_bytes -= sum(size for size, _ in _stats_of_whole(path).values())
        return _examine(lm_step, name, path, hashes=left_bytes >= 0)

    return _look(folder, ledger_path, examine)[1]


def _look(folder: Path, ledger_path: Path, examine: Examine) -> tuple[Ledger, Look]:
    """The ledger as it was, and what there is now."""
    is_new = not ledger_path.exists()
    before = Ledger() if is_new else Ledger.model_validate_json(ledger_path.read_bytes())
    found = _updated(before, folder, examine)
    if not is_new:
        return before, found
    after = inherited(Ledger(checkpoints=found.checkpoints), ledger_path).checkpoints
    known = {seen.name for seen in after}  # what its links need may be registered already
    left_out = {name: reason for name, reason in found.left_out.items() if name not in known}
    return before, found._replace(checkpoints=after, left_out=left_out)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: several tracks may follow one folder, and hashing takes long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _updated(ledger: Ledger, folder: Path, examine: Examine) -> Look:
    before = {seen.lm_step: seen for seen in ledger.checkpoints}
    now = dict(before)
    found = found_in(folder)
    on_disk = dict(found.checkpoints)
    left_out = dict(found.refused)
    is_waiting = False
    behind: tuple[str, ...] = ()
    for lm_step, path in on_disk.items():
        name = "." if path == folder else path.name  # a folder that is itself one checkpoint
        if lm_step in before and _is_untouched(before[lm_step], name, path):
            continue
        try:
            now[lm_step] = examine(lm_step, name, path)
        except NotWholeError as error:
            # One that was whole before is being deleted or overwritten: it stays listed.
            if lm_step not in before:
                left_out[path.name] = str(error)
                if is_waiting := may_become_whole(path, error):
                    later = (step for step in on_disk if step > lm_step and step not in before)
                    behind = tuple(on_disk[step].name for step in later)
                    break
    if changed := _changed(before, now):
        # Later ones that are gone were the former training run's.
        now = {step: seen for step, seen in now.items() if step <= changed[0] or step in on_disk}
    return Look(tuple(now[step] for step in sorted(now)), left_out, is_waiting, behind)


def _changed(before: dict[int, Seen], now: dict[int, Seen]) -> list[int]:
    """Steps of checkpoints that have other content than they had."""
    return [step for step, seen in before.items() if now[step].commit != seen.commit]


def _log_changes(repo: str, ledger: Ledger, grown: Ledger) -> None:
    before = {seen.lm_step: seen for seen in ledger.checkpoints}
    now = {seen.lm_step: seen for seen in grown.checkpoints}
    changed = _changed(before, {**before, **now})
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


def _stats_of_whole(path: Path) -> Stats:
    """Of the files of a whole checkpoint.

    Raises:
        NotWholeError: it is not all there.
    """
    try:
        return stats_of(path, whole_files(path))
    except OSError as error:
        raise NotWholeError(cannot_be_read(error)) from None


def _examine(lm_step: int, name: str, path: Path, *, hashes: bool = True) -> Seen:
    """Hash a checkpoint, or say that its content is UNKNOWN.

    Raises:
        NotWholeError: it is not all there, or was written to meanwhile.
    """
    stats = _stats_of_whole(path)
    try:
        digests = {name: file_sha256(path / name) for name in stats if hashes}
        shape = shape_of(path)
        is_steady = stats_of(path, stats) == stats
    except OSError as error:
        raise NotWholeError(cannot_be_read(error)) from None
    if not is_steady:
        raise NotWholeError("is being written")
    return Seen(
        lm_step=lm_step,
        name=name,
        commit=content_hash(digests)[:40] if hashes else UNKNOWN,
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
