"""Life stores that are open: each chain's is checked once, and again when it is analysed anew."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from saetrack.analysis.life_store.layout import MANIFEST_FILE, VOCABULARY_FILE
from saetrack.analysis.life_store.reader import LifeStore
from saetrack.explorer.search import TextIndex

if TYPE_CHECKING:
    from saetrack.explorer.chains import Chains

KEPT = 8  # open at a time; each has a few megabytes of its own, and the operating system's cache


@dataclass(frozen=True)
class OpenStore:
    """A life store that was checked.

    Attributes:
        lives: reads it.
        stamp: another one for each analysis: a browser keeps what has the same.
    """

    lives: LifeStore
    stamp: str

    @cached_property
    def index(self) -> TextIndex:
        """Of its text, made when it is searched first."""
        return TextIndex(self.lives)

    def manifest_bytes(self) -> bytes:
        """`chain.json`."""
        return (self.lives.folder / MANIFEST_FILE).read_bytes()

    def vocabulary_bytes(self) -> bytes:
        """`vocabulary.json`, checked."""
        _ = self.lives.vocabulary
        return (self.lives.folder / VOCABULARY_FILE).read_bytes()


class OpenStores:
    """The stores that were asked for last."""

    def __init__(self, chains: Chains) -> None:
        """Opens nothing yet."""
        self._chains = chains
        self._lock = threading.Lock()
        self._open: OrderedDict[str, OpenStore] = OrderedDict()

    def get(self, name: str) -> OpenStore | None:
        """A chain's store; None if it was not analysed.

        Raises:
            UserError: its files are not what a store is.
        """
        with self._lock:
            folder = self._chains.lives(name)
            if folder is None:
                return None
            stamp = _stamp(folder)
            found = self._open.get(name)
            if found is None or found.stamp != stamp:
                found = OpenStore(LifeStore(folder), stamp)
                self._open[name] = found
            self._open.move_to_end(name)
            while len(self._open) > KEPT:
                self._open.popitem(last=False)
            return found


def _stamp(folder: Path) -> str:
    path = folder / MANIFEST_FILE
    try:
        found = path.stat()
    except OSError:
        return ""  # LifeStore says what is wrong
    facts = f"{path} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
    return hashlib.sha256(facts.encode()).hexdigest()[:16]
