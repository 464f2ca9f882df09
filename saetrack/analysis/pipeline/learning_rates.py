"""How much of its own learning rate an LM spent between the checkpoints of a chain."""

from __future__ import annotations

from itertools import pairwise

from saetrack.analysis.pipeline.registered_chain import RegisteredChain
from saetrack.lm.open import learning_rate


def learning_rate_sums(registered: RegisteredChain) -> dict[int, float]:
    """Summed from the link before, by LM step; empty where it is not known or the LM stands."""
    rate = learning_rate(registered.ready.source.spec)
    if rate is None or registered.standing is not None:
        return {}
    steps = [link.checkpoint.lm_step for link in registered.links]
    return {after: rate.summed(before, after) for before, after in pairwise(steps)}
