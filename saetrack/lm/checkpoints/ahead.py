"""The next checkpoint is fetched while this one trains."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from saetrack.lm.catalog.models import Checkpoint
from saetrack.lm.checkpoints.download import TemporaryError
from saetrack.lm.checkpoints.eviction import hold
from saetrack.lm.checkpoints.source import CheckpointSource

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Held:
    """A checkpoint's folder, safe from eviction until it is released."""

    folder: Path
    lock: ExitStack


class Ahead:
    """Fetches the next checkpoint while this one trains."""

    def __init__(
        self,
        source: CheckpointSource,
        checkpoints: Sequence[Checkpoint],
        among: Sequence[Checkpoint] = (),
    ) -> None:
        """Fetches nothing yet.

        Args:
            source: of the checkpoints.
            checkpoints: in the order in which they will be asked for; some may be left out.
            among: all of the chain's, for `noted`.
        """
        self._among = among
        self._digests: dict[Checkpoint, Mapping[str, str]] = {}
        self._source = source
        self._next = dict(pairwise(checkpoints))
        self._coming: tuple[Checkpoint, Future[_Held]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._forget()

    @contextmanager
    def checkpoint(self, checkpoint: Checkpoint) -> Iterator[Path]:
        """The verified folder of `checkpoint`, kept on disk while the block lasts.

        When the block ends well, the next one of the list begins to be fetched in the background.

        Raises:
            UserError: it is not available. An error of the background is raised here; one that may
                pass (`TemporaryError`), only after another try.
        """
        held = self._take(checkpoint)
        with held.lock:
            yield held.folder
        following = self._next.get(checkpoint)
        if following is not None:
            self._begin(following)

    def noted(self, checkpoint: Checkpoint) -> Checkpoint:
        """A fetched checkpoint, with a note if one before it in the chain has weights of it.

        Published training runs have such checkpoints: whole ones under another step, and some with
        a shard of another step. Those that are neither on this machine nor were fetched by this
        object are not known.
        """
        mine = self._digests_of(checkpoint)
        most, twin = 0, checkpoint
        for other in self._among:
            if other == checkpoint or not mine:
                break
            theirs = self._digests_of(other)
            n_shared = sum(digest in theirs.values() for digest in mine.values())
            if n_shared > most:
                most, twin = n_shared, other
        if not most:
            return checkpoint
        of = f"{twin.revision} (LM step {twin.lm_step})"
        if most == len(mine) == len(self._digests_of(twin)):
            return checkpoint.noted(f"{checkpoint.label} holds the same weights as {of}")
        return checkpoint.noted(
            f"{checkpoint.label} and {of} have {most} of {len(mine)} files of weights in common: "
            "they may be of another step"
        )

    def _digests_of(self, checkpoint: Checkpoint) -> Mapping[str, str]:
        """As the source knows them now, or knew them once: a checkpoint may have left the disk."""
        if known := self._source.weight_digests(checkpoint):
            self._digests[checkpoint] = known
        return self._digests.get(checkpoint, {})

    def _begin(self, checkpoint: Checkpoint) -> None:
        future: Future[_Held] = Future()
        # A daemon, where an executor's thread would keep a broken-off process alive to the end of
        # its download; in this thread's context, so that its log lines go where this thread's go.
        run = contextvars.copy_context().run
        work = (_fulfil, future, self._source, checkpoint)
        Thread(target=run, args=work, name="fetch-ahead", daemon=True).start()
        self._coming = checkpoint, future

    def _take(self, checkpoint: Checkpoint) -> _Held:
        if self._coming is not None and self._coming[0] == checkpoint:
            _, future = self._coming
            self._coming = None
            if not future.done():
                log.info("%s at %s: still on its way", checkpoint.repo, checkpoint.revision)
            try:
                return future.result()
            except TemporaryError as error:
                log.info("%s; asking once more", error)
        self._forget()  # a checkpoint that is left out need not stay, and its room may be needed
        return _fetch_and_hold(self._source, checkpoint)

    def _forget(self) -> None:
        if self._coming is not None:
            _, future = self._coming
            self._coming = None
            future.add_done_callback(_release)  # at once, or when the download ends


def _fulfil(future: Future[_Held], source: CheckpointSource, checkpoint: Checkpoint) -> None:
    try:
        future.set_result(_fetch_and_hold(source, checkpoint))
    except BaseException as error:
        future.set_exception(error)


def _release(future: Future[_Held]) -> None:
    if future.exception() is None:
        future.result().lock.close()


def _fetch_and_hold(source: CheckpointSource, checkpoint: Checkpoint) -> _Held:
    while True:
        folder = source.fetch(checkpoint)
        lock = ExitStack()
        if lock.enter_context(hold(folder)):
            return _Held(folder, lock)
        lock.close()  # evicted by another track between the two
