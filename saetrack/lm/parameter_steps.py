"""Steps of an LM's parameters, and what they do to its activations (paper, theorem 2.1).

The theorem needs two numbers of a checkpoint: the norm G of the loss' gradient, and a constant K
with which activations are Lipschitz in the parameters. Near a checkpoint K is the largest singular
value of the Jacobian of a token's activations by the parameters, found here by power iteration:
backward passes give the Jacobian's transpose, and two passes forward, a little way along a
direction and against it, give the Jacobian itself. What comes out is reached by a direction that
there is, so it is a lower estimate, which grows with each iteration until it stands.

In memory beside the LM: the gradient by all parameters, and of those below the hook a copy and a
direction. Everything is computed in the LM's own precision, which must be float32 or better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.lm.hooked import HookedLM

# Rows whose graph is in memory at a time.
GRADIENT_BATCH_ROWS = 4
# Power iteration ends when an estimate grows by less than this share, or after so many rounds.
SETTLED, MAX_ROUNDS = 0.005, 30
# Length of the two steps, of parameters, between which a derivative is taken.
PROBE_LENGTH = 1e-3


class ParameterSteps:
    """The parameters of an LM, to be moved along directions and put back.

    A direction is a list of tensors, one for each parameter below the LM's first hook: others do
    not change the activations there.
    """

    def __init__(self, lm: HookedLM) -> None:
        """Take an LM that is loaded whole, in float32, and `computes_with_parameters`."""
        self._lm = lm
        self._below = lm.parameters_below()
        self._kept = [weight.detach().clone() for weight in self._below]

    def loss_gradient(self, rows: Int[Tensor, "rows context"]) -> tuple[list[Tensor], float]:
        """Gradient of the mean next-token loss (nats) over some rows, and its norm.

        The direction has the parameters below the hook alone; the norm is that over all parameters.
        """
        weights = self._lm.parameters()
        with _learnt(weights):
            for batch in rows.split(GRADIENT_BATCH_ROWS):
                (self._lm.graph_of_loss(batch) * (len(batch) / len(rows))).backward()
            norm = length([weight.grad for weight in weights if weight.grad is not None])
            below = [_or_zeros(weight.grad, weight) for weight in self._below]
            for weight in weights:
                weight.grad = None
        return below, norm

    def random_direction(self, seed: int) -> list[Tensor]:
        """Equally likely in every direction, of length 1."""
        generator = torch.Generator().manual_seed(seed)
        drawn = [
            torch.randn(weight.shape, generator=generator).to(weight.device)
            for weight in self._below
        ]
        whole = length(drawn)
        return [part.div_(whole) for part in drawn]

    @contextmanager
    def moved(self, direction: Sequence[Tensor], by: float) -> Iterator[None]:
        """While the block lasts, the parameters are so far along a direction."""
        with torch.no_grad():
            for weight, part in zip(self._below, direction, strict=True):
                weight.add_(part, alpha=by)
            try:
                yield
            finally:
                for weight, kept in zip(self._below, self._kept, strict=True):
                    weight.copy_(kept)

    def lipschitz(self, prefix: Int[Tensor, " context"], seed: int) -> float:
        """Largest singular value of the Jacobian of the activations at the last token of a text.

        Args:
            prefix: the token and those before it; later ones have no part in its activations.
            seed: of the first direction.

        Returns:
            Units of activation per unit of length of the parameters below the hook; a lower
            estimate.
        """
        generator = torch.Generator().manual_seed(seed)
        v = torch.randn(self._lm.d_in, generator=generator).to(self._lm.device)
        best = 0.0
        for _ in range(MAX_ROUNDS):
            direction = self._transposed(prefix, v / v.norm())
            reached = length(direction)
            if reached <= best * (1 + SETTLED):
                return max(best, reached)
            best = reached
            v = self._along([part.div_(reached) for part in direction], prefix)
        return best

    def _transposed(
        self, prefix: Int[Tensor, " context"], v: Float[Tensor, " d_in"]
    ) -> list[Tensor]:
        """The Jacobian's transpose times a vector."""
        with _learnt(self._below):
            (self._lm.graph_of_activations(prefix[None])[0, -1] @ v).backward()
            found = [_or_zeros(weight.grad, weight) for weight in self._below]
            for weight in self._below:
                weight.grad = None
        return found

    def _along(
        self, direction: Sequence[Tensor], prefix: Int[Tensor, " context"]
    ) -> Float[Tensor, " d_in"]:
        """The Jacobian times a direction, up to a factor."""
        with self.moved(direction, PROBE_LENGTH):
            ahead = self._lm.activations(prefix[None])[0, 0, -1]
        with self.moved(direction, -PROBE_LENGTH):
            return ahead - self._lm.activations(prefix[None])[0, 0, -1]


def length(direction: Sequence[Tensor]) -> float:
    """The Euclidean norm over all tensors."""
    return float(torch.stack([part.square().sum() for part in direction]).sum().sqrt())


@contextmanager
def _learnt(weights: Sequence[Tensor]) -> Iterator[None]:
    """While the block lasts, these have gradients."""
    for weight in weights:
        weight.requires_grad_()
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad = False


def _or_zeros(gradient: Tensor | None, weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if gradient is None else gradient
