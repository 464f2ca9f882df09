"""The learning rate of an LM's own training, where it is known (paper, theorem 2.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LearningRate:
    """A linear warm-up, then half a cosine down to a share of the peak.

    Attributes:
        peak: the largest.
        warmup_lm_steps: over which it rises.
        total_lm_steps: at which it has come down.
        floor: the learning rate at the end, as a share of the peak.
    """

    peak: float
    warmup_lm_steps: int
    total_lm_steps: int
    floor: float = 0.1

    def at(self, lm_step: int) -> float:
        """The learning rate of the update from `lm_step` to `lm_step + 1`."""
        return self.peak * self._height(lm_step)

    def _height(self, lm_step: int) -> float:
        if lm_step < self.warmup_lm_steps:
            return (lm_step + 1) / self.warmup_lm_steps
        done = (lm_step - self.warmup_lm_steps) / (self.total_lm_steps - self.warmup_lm_steps)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))

    def summed(self, first: int, last: int) -> float:
        """Sum over the updates from `first` to `last`: as far as Adam moves a parameter at most."""
        return math.fsum(self.at(lm_step) for lm_step in range(first, last))
