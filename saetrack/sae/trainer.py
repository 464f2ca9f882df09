"""THE training loop: the links of one checkpoint, from the first batch of residuals to the last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saetrack.sae.step import TrainStep

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Adam's schedule: linear warm-up over the first steps, then constant."""

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


class Training:
    """One SAE in training: its step, its schedule, and how far it has come.

    Attributes:
        step: the SAE with its loss and Adam.
        optimiser: learning rate and warm-up.
        done_steps: steps taken.
        done_tokens: residuals trained on.
        first_loss: of the first batch, before anything was learnt from it.
    """

    def __init__(self, step: TrainStep, optimiser: Optimiser) -> None:
        self.step = step
        self.optimiser = optimiser
        self.done_steps = 0
        self.done_tokens = 0
        self.first_loss: float | None = None

    def advance(self, x: Float[Tensor, "batch d_in"]) -> None:
        """Train on one batch of residuals."""
        terms = self.step(x, self.optimiser.rate_at(self.done_steps))
        if self.first_loss is None:
            self.first_loss = float(terms.loss)
        self.done_steps += 1
        self.done_tokens += len(x)


def train(
    trainings: Sequence[Training],
    batches: Iterable[Float[Tensor, "layers batch d_in"]],
) -> Iterator[None]:
    """Train the links of one checkpoint, one per layer, on the same tokens.

    Yields each time that every layer has learnt from a batch.

    Args:
        trainings: one per layer, in the order of the batches' layers.
        batches: residuals at one checkpoint; they end when the budget is used up.
    """
    for residuals in batches:
        for training, x in zip(trainings, residuals, strict=True):
            training.advance(x)
        yield
