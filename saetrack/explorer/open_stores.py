"""Life stores that are open: each chain's is checked once, and again when it is analysed anew."""

from __future__ import annotations

import hashlib
import mmap
import threading
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from saetrack.analysis.life_store.layout import MANIFEST_FILE, VOCABULARY_FILE
from saetrack.analysis.life_store.reader import LifeStore
from saetrack.explorer.search_index import SearchIndex

if TYPE_CHECKING:
    from saetrack.explorer.chains import Chains

# Raise when answers change: browsers keep what has the same stamp.
ANSWERS_VERSION = 2
KEPT = 8  # open at a time
PREPARED_AFTER_S = 10.0
# Pages of files that are mapped count as this process' memory until they are let go; they stay in
# the operating system's cache, from which they come back in microseconds.
MAPPED_BYTES = 300 * 10**6


class OpenStore:
    """A life store that was checked.

    Attributes:
        lives: reads it.
        stamp: another one for each analysis: a browser keeps what has the same.
    """

    def __init__(self, lives: LifeStore, stamp: str) -> None:
        """Of a store; makes no index yet."""
        self.lives = lives
        self.stamp = stamp
        self._lock = threading.Lock()
        self._index: SearchIndex | None = None
        self._timer: threading.Timer | None = None

    def index(self) -> SearchIndex:
        """For searches: made once, which takes seconds for the largest chains."""
        with self._lock:
            if self._index is None:
                self._index = SearchIndex(self.lives)
            return self._index

    def prepare(self) -> None:
        """Make the index soon, in a thread: who opens a chain may search it.

        Not at once: whoever opens a chain moves the slider first, and would wait for it.
        """
        if self._index is None and self._timer is None:
            self._timer = threading.Timer(PREPARED_AFTER_S, self.index)
            self._timer.daemon = True
            self._timer.start()

    def vocabulary_bytes(self) -> bytes:
        """`vocabulary.json`, checked."""
        _ = self.lives.vocabulary
        return (self.lives.folder / VOCABULARY_FILE).read_bytes()

    def let_go(self) -> None:
        """Give back the pages of files that were read; reading goes on as before."""
        for one in self._maps:
            one.madvise(mmap.MADV_DONTNEED)
        if self._index is not None:
            self._index.contexts.mapped.madvise(mmap.MADV_DONTNEED)

    @cached_property
    def _maps(self) -> list[mmap.mmap]:
        facts, lives = self.lives.manifest.arrays, self.lives
        arrays = [lives.tokens, *(lives.of_chain(name) for name in facts.of_chain)]
        for link in range(len(lives.manifest.links)):
            arrays += [lives.column(link, name) for name in facts.links]
        return [found for array in arrays if (found := _map_of(array)) is not None]


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
            if _mapped_bytes() > MAPPED_BYTES:
                for one in self._open.values():
                    one.let_go()
            return found


def _mapped_bytes() -> int:
    """Pages of files in this process' memory; 0 where the system does not say."""
    return int(getattr(psutil.Process().memory_info(), "shared", 0))


def _map_of(array: Any) -> mmap.mmap | None:
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    return array


def _stamp(folder: Path) -> str:
    path = folder / MANIFEST_FILE
    try:
        found = path.stat()
    except OSError:
        return ""  # LifeStore says what is wrong
    facts = f"{ANSWERS_VERSION} {path} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
    return hashlib.sha256(facts.encode()).hexdigest()[:16]
