"""Which numbers determine an SAE's weights: plain data, read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EncoderPrecision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Which loss terms are used, and how they are weighted (paper, Eq 13 and 14).

    Attributes:
        l1_coefficient: weight of the sparsity penalty.
        reconstruction: `scale_free` is the authors' code (squared error over the norm of the
            centred input: both terms then scale with the residual, whose norm grows in training);
            `mse` is the paper's Eq 13.
        penalty: `unit_decoder` is the first form of Eq 14 (decoder rows kept at norm 1),
            `decoder_norm` the second (free rows, each activation weighted by its row's norm).
    """

    l1_coefficient: float = 8e-5
    reconstruction: Literal["scale_free", "mse"] = "scale_free"
    penalty: Literal["unit_decoder", "decoder_norm"] = "unit_decoder"

    def __post_init__(self) -> None:
        if not 0 <= self.l1_coefficient < float("inf"):
            raise ValueError(f"l1_coefficient={self.l1_coefficient} must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Adam's learning rate: a linear warm-up over the first steps, then constant.

    Attributes:
        learning_rate: of Adam, after its warm-up.
        warmup_steps: over which the learning rate grows from 0.
    """

    learning_rate: float
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate={self.learning_rate} must be more than 0")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps={self.warmup_steps} must be 0 or more")

    def rate_at(self, done_steps: int) -> float:
        """Learning rate of the step that follows `done_steps` finished ones."""
        return self.learning_rate * min(1.0, (done_steps + 1) / max(self.warmup_steps, 1))


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """What a link changes in its parent's weights before it trains; W_enc and W_dec never change.

    Attributes:
        scale: `matched` multiplies both biases by the growth of the residuals' mean distance from
            their mean, from the parent's checkpoint to this one. If the residuals only grow or
            shrink, that is where the optimum of the scale-free loss moves. `kept` is the authors'
            practice.
    """

    scale: Literal["matched", "kept"] = "matched"
