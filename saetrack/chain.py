"""THE chain loop: one SAE per checkpoint, each started from the one before (paper, section 2.3)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from saetrack.lm.ahead import Ahead
from saetrack.lm.checkpoints import CheckpointSource
from saetrack.plan import Chain, Stage, Track
from saetrack.progress import duration
from saetrack.sae.timing import shares, timed
from saetrack.stage import Workshop, run_stage

log = logging.getLogger(__name__)

RunStage = Callable[[Stage, Ahead, Workshop], None]


def run_track(
    track: Track, source: CheckpointSource, workshop: Workshop, run: RunStage = run_stage
) -> int:
    """Train and register, checkpoint by checkpoint, every link that the store lacks.

    Args:
        track: what to train.
        source: of its checkpoints; the next one is fetched while one trains.
        workshop: the store, the device, the place for states.
        run: does one stage; an orchestrator wraps `run_stage` in a task of its own.

    Returns:
        How many links were to be trained.
    """
    missing = {identity for chain in track.chains for identity in _missing(chain, workshop)}
    stages = [s for s in track.stages if any(link.identity in missing for _, link in s.links)]
    began_s = time.monotonic()
    tokens_left = sum(stage.links[0][1].tokens for stage in stages)
    tokens_done = 0
    with (
        Ahead(source, [stage.checkpoint for stage in stages]) as ahead,
        timed(workshop.device) as timing,
    ):
        for number, stage in enumerate(stages, start=1):
            spent_s = timing.spent_s()
            run(stage, ahead, workshop)
            tokens_done += stage.links[0][1].tokens
            tokens_left -= stage.links[0][1].tokens
            left_s = (time.monotonic() - began_s) / tokens_done * tokens_left
            log.info(
                "%d of %d links done, %s left; this one: %s",
                number,
                len(stages),
                duration(left_s),
                shares({name: s - spent_s.get(name, 0) for name, s in timing.spent_s().items()}),
            )
    return len(missing)


def _missing(chain: Chain, workshop: Workshop) -> list[str]:
    """Identities of the links to train; what another chain has trained already is adopted."""
    registered = workshop.store.versions(chain)
    missing = [link for link in chain.links if link.identity not in registered]
    adopted = 0
    while missing and workshop.store.adopt(chain, missing[0]) is not None:
        del missing[0]
        adopted += 1
    note = f", {adopted} taken over from other chains" if adopted else ""
    log.info("%s: %d of %d links to train%s", chain.name, len(missing), len(chain.links), note)
    return [link.identity for link in missing]
