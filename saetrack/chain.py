"""THE chain loop: one SAE per checkpoint, each started from the one before (paper, section 2.3)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import torch

from saetrack.link import LinkStore, run_link
from saetrack.lm.checkpoints import CheckpointSource
from saetrack.plan import Chain, Link
from saetrack.progress import duration

log = logging.getLogger(__name__)

RunLink = Callable[[Chain, Link, CheckpointSource, LinkStore, torch.device], int]


def run_chain(
    chain: Chain,
    source: CheckpointSource,
    store: LinkStore,
    device: torch.device,
    run: RunLink = run_link,
) -> int:
    """Train and register, in order, every link that the store lacks.

    Args:
        chain: what to train.
        source: of its checkpoints.
        store: where its links are kept.
        device: where to train.
        run: does one link; an orchestrator wraps `run_link` in a task of its own.

    Returns:
        How many links were trained.
    """
    registered = store.versions(chain)
    missing = [link for link in chain.links if link.identity not in registered]
    log.info("%s: %d of %d links to train", chain.name, len(missing), len(chain.links))
    began_s = time.monotonic()
    tokens_left = sum(link.tokens for link in missing)
    tokens_done = 0
    for link in missing:
        run(chain, link, source, store, device)
        tokens_done += link.tokens
        tokens_left -= link.tokens
        if tokens_left:
            left_s = (time.monotonic() - began_s) / tokens_done * tokens_left
            log.info(
                "%d of %d links done, about %s left",
                *(link.number + 1, len(chain.links), duration(left_s)),
            )
    return len(missing)
