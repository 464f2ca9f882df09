"""THE training loop: the links of one checkpoint, from the first batch of residuals to the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from saetrack.sae.revival import revive
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


@dataclass(frozen=True, kw_only=True)
class Revival:
    """What is done about dead features.

    Attributes:
        policy: `none`, or `resample`: a dead feature starts anew at a badly reconstructed token.
        window_tokens: a feature that fires on none of so many training tokens is dead.
    """

    policy: Literal["none", "resample"] = "none"
    window_tokens: int = 1_000_000

    def __post_init__(self) -> None:
        if self.window_tokens <= 0:
            raise ValueError(f"window_tokens={self.window_tokens} must be more than 0")


class Training:
    """One SAE in training: its step, its schedule, and how far it has come.

    Attributes:
        step: the SAE with its objective and Adam.
        optimiser: learning rate and warm-up.
        revival: what to do about dead features.
        done_steps: steps taken.
        done_tokens: residuals trained on.
        revived: features that were started anew: their index means something new from then on.
        first_loss: of the first batch, before anything was learnt from it.
    """

    def __init__(self, step: TrainStep, optimiser: Optimiser, revival: Revival) -> None:
        self.step = step
        self.optimiser = optimiser
        self.revival = revival
        self.done_steps = 0
        self.done_tokens = 0
        self.revived: set[int] = set()
        self.first_loss: float | None = None

    def advance(self, x: Float[Tensor, "batch d_in"]) -> None:
        """Train on one batch of residuals."""
        terms = self.step(x, self.optimiser.rate_at(self.done_steps))
        if self.first_loss is None:
            self.first_loss = float(terms.loss)
        self.done_steps += 1
        self.done_tokens += len(x)
        if self.revival.policy == "resample" and self._window_ends(len(x)):
            dead = self.step.tokens_since_fired >= self.revival.window_tokens
            self.revived |= revive(self.step, x, dead)

    def _window_ends(self, batch_tokens: int) -> bool:
        window = self.revival.window_tokens
        return self.done_tokens // window > (self.done_tokens - batch_tokens) // window


def train(
    trainings: Sequence[Training],
    batches: Iterable[Float[Tensor, "layers batch d_in"]],
    after_batch: Callable[[], None],
) -> None:
    """Train the links of one checkpoint, one per layer, on the same tokens.

    Args:
        trainings: one per layer, in the order of the batches' layers.
        batches: residuals at one checkpoint; they end when the budget is used up.
        after_batch: called when every layer has learnt from a batch.
    """
    for residuals in batches:
        for training, x in zip(trainings, residuals, strict=True):
            training.advance(x)
        after_batch()
