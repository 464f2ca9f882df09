"""THE chain loop: one SAE per checkpoint, each started from the one before (paper, section 2.3)."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Chain, CheckpointJob, Track
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.checkpoints.folder import is_lost
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.training.chain_page import update_chain_page
from saetrack.training.checkpoint import TrainingContext, train_checkpoint
from saetrack.training.prepare import PreparedTrack, prepare, wait_until_grown
from saetrack.training.state import discard_state
from saetrack.utils.progress import TimeLeft
from saetrack.utils.settings import Settings
from saetrack.utils.timing import percentages, timed

log = logging.getLogger(__name__)


def train_missing(config: TrackConfig, settings: Settings) -> tuple[int, PreparedTrack]:
    """Train every link of a track that the registry lacks, in this process.

    Returns:
        How many links were trained, and the track as it was last prepared.

    Raises:
        UserError: something does not exist, does not suit the LM or cannot be reached.
    """
    n_trained = 0
    with breaking_off() as begun:
        while True:
            prepared = prepare(config, settings)
            begun.append(prepared)
            n_trained += train_track(prepared.track, prepared.source, prepared.context)
            update_chain_pages(prepared, n_trained)
            if not wait_until_grown(prepared):
                return n_trained, prepared


def train_track(track: Track, source: CheckpointSource, context: TrainingContext) -> int:
    """Train every link of a planned track that the store lacks.

    Args:
        track: what to train.
        source: of its checkpoints.
        context: where to train.

    Returns:
        How many links were trained.
    """
    n_trained = 0
    for pending in pending_checkpoints(track, source, context):
        n_trained += pending.train()
    return n_trained


@dataclass(frozen=True)
class PendingCheckpoint:
    """A checkpoint whose links, or some of them, are to be trained.

    Attributes:
        job: the links of all hooks.
        ahead: fetches the checkpoint, and the next one in the background.
        context: where to train.
    """

    job: CheckpointJob
    ahead: Ahead
    context: TrainingContext

    @property
    def label(self) -> str:
        """The checkpoint as a person names it."""
        chain, link = self.job.links[0]
        return f"{chain.config.direction} s{chain.config.seed} · {chain.label(link)}"

    def train(self) -> int:
        """Train and register the missing links, from a saved state if there is one.

        Returns:
            How many were trained here, not by another process meanwhile.
        """
        return train_checkpoint(self.job, self.ahead, self.context)


def pending_checkpoints(
    track: Track, source: CheckpointSource, context: TrainingContext
) -> Iterator[PendingCheckpoint]:
    """The checkpoints that lack links; train each before the next one is asked for.

    They end before one that the LM's training run has deleted meanwhile. While one is trained, the
    next one is fetched. Links that another chain has trained already are adopted, not trained.
    After each checkpoint a log line says how far the track is.

    Args:
        track: what to train.
        source: of its checkpoints.
        context: where to train.

    Yields:
        The checkpoints, in the order of the chains.
    """
    missing = {link for chain in track.chains for link in _missing_identities(chain, context)}
    pending = [job for job in track.jobs if any(link.identity in missing for _, link in job.links)]
    if context.ranks.rank == 0:
        for job in track.jobs:
            if job not in pending:  # a process that was killed after the last registration left it
                discard_state(context.state_path(job))
    tokens_left = sum(job.tokens for job in pending)
    time_left = TimeLeft()
    among = [job.checkpoint for job in track.jobs]
    with (
        Ahead(source, [job.checkpoint for job in pending], among) as ahead,
        timed(context.device) as timing,
    ):
        for number, job in enumerate(pending, start=1):
            if is_lost(source, job.checkpoint):
                return  # the track is prepared again, without it (`wait_until_grown`)
            before_s, began_s = timing.spent_s(), time.monotonic()
            yield PendingCheckpoint(job, ahead, context)
            spent_s = {name: s - before_s.get(name, 0) for name, s in timing.spent_s().items()}
            tokens_left -= job.tokens
            if job.links[0][1].parent_identity is not None:  # links from scratch take far longer
                time_left.add(job.tokens, time.monotonic() - began_s)
            log.info(
                "%d of %d links done, %s; time of this one: %s",
                number,
                len(pending),
                time_left.line(tokens_left),
                percentages(spent_s),
            )


def update_chain_pages(prepared: PreparedTrack, n_trained: int) -> None:
    """Bring the registry's page of every chain of a track up to date.

    Args:
        prepared: the track.
        n_trained: links that were trained; if none was, a finished page stays as it is.
    """
    if prepared.context.ranks.rank > 0:
        return
    for chain in prepared.track.chains:
        if n_trained or not prepared.registry.is_finished(chain):
            update_chain_page(prepared.registry, chain)


@contextlib.contextmanager
def breaking_off() -> Iterator[list[PreparedTrack]]:
    """Let the pages of chains say so if the block ends before they are whole; not after SIGKILL.

    Yields:
        A list, to which the block adds each track that it begins.
    """
    begun: list[PreparedTrack] = []
    try:
        yield begun
    except BaseException:
        for prepared in begun:
            if prepared.context.ranks.rank == 0:
                for chain in prepared.track.chains:
                    with contextlib.suppress(Exception):  # the first error is the one to report
                        prepared.registry.break_off(chain)
        raise


def _missing_identities(chain: Chain, context: TrainingContext) -> list[str]:
    """Of the links to train, once what another chain has trained already is adopted."""
    registered = context.store.versions(chain)
    missing = [link for link in chain.links if link.identity not in registered]
    n_adopted = 0
    while missing and context.store.adopt(chain, missing[0]) is not None:
        del missing[0]
        n_adopted += 1
    note = f", {n_adopted} taken over from other chains" if n_adopted else ""
    log.info("%s: %d of %d links to train%s", chain.name, len(missing), len(chain.links), note)
    return [link.identity for link in missing]
