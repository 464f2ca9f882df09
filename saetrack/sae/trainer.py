"""THE training loop: the links of one checkpoint, from the first batch of residuals to the last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from saetrack.sae.config import Optimiser
from saetrack.sae.step import TrainStep

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Training:
    """One SAE in training: its step, its learning rate, and how far it has come.

    Attributes:
        step: the SAE with its loss and Adam.
        optimiser: learning rate and warm-up.
        done_steps: steps taken.
        done_tokens: residuals trained on.
        first_loss: of the first batch, before anything was learnt from it.
        has_ended: whether it is not trained any more.
    """

    def __init__(self, step: TrainStep, optimiser: Optimiser) -> None:
        self.step = step
        self.optimiser = optimiser
        self.done_steps = 0
        self.done_tokens = 0
        self.first_loss: float | None = None
        self.has_ended = False

    def advance(self, x: Float[Tensor, "batch d_in"]) -> None:
        """Train on one batch of residuals."""
        terms = self.step(x, self.optimiser.rate_at(self.done_steps))
        if self.first_loss is None:
            self.first_loss = float(terms.loss)
        self.done_steps += 1
        self.done_tokens += len(x)


def train(
    trainings: Sequence[Training], batches: Iterable[Float[Tensor, "layers batch d_in"]]
) -> Iterator[int]:
    """Train the links of one checkpoint, one per layer, on the same tokens.

    Args:
        trainings: one per layer, in the order of the batches' layers.
        batches: residuals of one checkpoint; they end when the budget is used up. No more are asked
            for once every link has ended.

    Yields:
        After each batch, how many tokens the links have been trained on so far, except for those
        that have ended.
    """
    if all(training.has_ended for training in trainings):
        return
    for residuals in batches:
        for training, x in zip(trainings, residuals, strict=True):
            if not training.has_ended:
                training.advance(x)
        yield max(training.done_tokens for training in trainings)
        if all(training.has_ended for training in trainings):
            return
