"""A corpus in the making: one process writes it, and after a kill another goes on with it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from saetrack.data.splits import SPLITS, Split
from saetrack.utils.files import try_lock, write_atomically

log = logging.getLogger(__name__)

SAVE_EVERY_S = 20.0
# Drafts of other texts that nobody has gone on with for so long are deleted.
ABANDONED_AFTER_S = 24 * 3600.0
LOCK_FILE, PROGRESS_FILE = "lock", "progress.json"


@dataclass
class Written:
    """How far a corpus has come.

    Attributes:
        documents: read of the dataset.
        taken: documents of each split that were tokenised.
        rows: written of each split.
        rest: tokens of each split that do not fill a row yet.
    """

    documents: int = 0
    taken: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    rows: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    rest: dict[Split, list[int]] = field(default_factory=lambda: {split: [] for split in SPLITS})


class Draft:
    """The files of rows of a corpus that is not whole yet."""

    def __init__(self, folder: Path, context_size: int) -> None:
        """Go on where the last process was, if its files hold what it noted.

        Args:
            folder: which this process alone writes to, by `open_draft`.
            context_size: tokens of a row.
        """
        self.folder = folder
        self._row_bytes = context_size * np.dtype(np.uint32).itemsize
        self.progress = self._noted()
        self._files: dict[Split, BinaryIO] = {}
        self._saved_s = time.monotonic()

    def __enter__(self) -> Self:
        for split in SPLITS:
            file = rows_file(self.folder, split).open("ab")
            self._files[split] = file
            file.truncate(self.progress.rows[split] * self._row_bytes)
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, split: Split, rows: list[list[int]]) -> None:
        """Write full rows."""
        self._files[split].write(np.asarray(rows, dtype=np.uint32).tobytes())
        self.progress.rows[split] += len(rows)

    def save_now_and_then(self) -> None:
        """Note how far it has come, if the last note is old."""
        if time.monotonic() - self._saved_s < SAVE_EVERY_S:
            return
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        write_atomically(self.folder / PROGRESS_FILE, json.dumps(asdict(self.progress)).encode())
        self._saved_s = time.monotonic()

    def _noted(self) -> Written:
        try:
            noted = Written(**json.loads((self.folder / PROGRESS_FILE).read_text()))
            for split in SPLITS:
                if (
                    rows_file(self.folder, split).stat().st_size
                    < noted.rows[split] * self._row_bytes
                ):
                    return Written()
        except (OSError, ValueError, TypeError, KeyError):
            return Written()
        return noted


def rows_file(folder: Path, split: Split) -> Path:
    """Where the rows of a split lie."""
    return folder / f"{split}.u32"


@contextlib.contextmanager
def open_draft(folder: Path, *, keep: bool) -> Iterator[Path | None]:
    """Yield the folder that becomes `folder` if the block ends well; None if it is whole by now.

    Another process that writes the same one is waited for. After an interruption the draft stays,
    for the next process to go on with.

    Args:
        folder: what is made.
        keep: whether the draft stays after an error too.
    """
    draft = folder.with_name(f".partial-{folder.name}")
    with _locked(draft):
        if folder.exists():
            shutil.rmtree(draft, ignore_errors=True)
            yield None
            return
        _delete_abandoned(draft)
        try:
            yield draft
        except BaseException as error:
            goes_on = keep or not isinstance(error, Exception)  # such as Ctrl-C
            if not goes_on or not (draft / PROGRESS_FILE).exists():
                shutil.rmtree(draft, ignore_errors=True)
            raise
        (draft / PROGRESS_FILE).unlink(missing_ok=True)
        (draft / LOCK_FILE).unlink()
        draft.replace(folder)


def _locked(draft: Path) -> BinaryIO:
    """The open lock of a draft, for this process alone until it is closed."""
    while True:
        draft.mkdir(parents=True, exist_ok=True)
        lock = draft / LOCK_FILE
        try:
            file = lock.open("ab")
        except FileNotFoundError:
            continue
        if not try_lock(file):
            log.info("another process tokenises the same text; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        # The other one may have finished, and moved or deleted the folder.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        file.close()


def _delete_abandoned(ours: Path) -> None:
    for draft in ours.parent.glob(".partial-*"):
        with contextlib.suppress(OSError):
            last_s = max(path.stat().st_mtime for path in [draft, *draft.iterdir()])
            if draft == ours or time.time() - last_s < ABANDONED_AFTER_S:
                continue
            with (draft / LOCK_FILE).open("ab") as file:
                if try_lock(file):
                    shutil.rmtree(draft, ignore_errors=True)
