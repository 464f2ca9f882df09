"""THE training loop: one link, from its first batch of residuals to its last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from saetrack.sae.revival import revive
from saetrack.sae.step import TrainStep

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from saetrack.sae.objective import Losses


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
class Carry:
    """What passes from one link to the next; all four weights always do.

    Attributes:
        adam: `fresh` moments for every link (the authors' practice), or `carried` ones.
        b_dec: `carried`, or put at the geometric median of the new checkpoint's residuals.
    """

    adam: Literal["fresh", "carried"] = "fresh"
    b_dec: Literal["carried", "median"] = "carried"


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


def train(
    step: TrainStep,
    batches: Iterable[Float[Tensor, "batch d_in"]],
    optimiser: Optimiser,
    revival: Revival,
    after_step: Callable[[int, Losses], None],
) -> set[int]:
    """Train one link on all batches.

    Args:
        step: the SAE with its objective and Adam.
        batches: residuals at one checkpoint; they end when the budget is used up.
        optimiser: learning rate and warm-up.
        revival: what to do about dead features.
        after_step: told the tokens trained on so far and the batch's losses.

    Returns:
        The features that were revived: their index means something new from here on.
    """
    done_tokens = 0
    revived: set[int] = set()
    for done_steps, x in enumerate(batches):
        terms = step(x, optimiser.rate_at(done_steps))
        done_tokens += len(x)
        if revival.policy == "resample" and _window_ends(done_tokens, len(x), revival):
            revived |= revive(step, x, revival.window_tokens)
        after_step(done_tokens, terms)
    return revived


def _window_ends(done_tokens: int, batch_tokens: int, revival: Revival) -> bool:
    before = (done_tokens - batch_tokens) // revival.window_tokens
    return done_tokens // revival.window_tokens > before
