"""What is remembered of a folder's checkpoints: each that was ever seen whole, by content."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from saetrack.lm.checkpoints.shape import Shape

Stats = dict[str, tuple[int, int]]  # size in bytes and mtime in ns of each file


class Seen(BaseModel):
    """A checkpoint as it was when its content was hashed."""

    model_config = ConfigDict(frozen=True)

    lm_step: int
    name: str
    commit: str
    shape: Shape
    files: Stats
    weights: dict[str, str] = {}  # hashes of its weights' files; ledgers of 0.1 lack them
    save_steps: int = 0  # how often the Trainer saves, if it wrote this


class Ledger(BaseModel):
    """Every checkpoint that a folder ever held whole, by ascending step.

    It keeps what the training run has deleted since, so that indices and links stay what they are.
    """

    model_config = ConfigDict(frozen=True)

    checkpoints: tuple[Seen, ...] = ()


def stats_of(folder: Path, names: Iterable[str]) -> Stats:
    """What a change of content would not leave alone.

    Raises:
        FileNotFoundError: one of the files is gone.
    """
    stats = {name: (folder / name).stat() for name in names}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}
