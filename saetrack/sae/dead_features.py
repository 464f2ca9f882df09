"""Features that have not fired for long, and what they learn from instead of the reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from saetrack.sae.model import SAE

# Activations of dead features that exist at a time, 64 MB.
DENSE_NUMBERS = 2**24


class DeadFeatures:
    """For how many training tokens each feature has not fired.

    Attributes:
        since_fired_tokens: of each feature, (d_sae,).
    """

    def __init__(self, sae: SAE, dead_after_tokens: int) -> None:
        self.since_fired_tokens = torch.zeros(sae.d_sae, dtype=torch.int64, device=sae.b_enc.device)
        self._dead_after_tokens = dead_after_tokens

    def indices(self) -> Int[Tensor, " dead"]:
        """The dead features, ascending."""
        return (self.since_fired_tokens >= self._dead_after_tokens).nonzero().view(-1)

    def start(self, is_dead: Bool[Tensor, " d_sae"]) -> None:
        """Begin with features that are known to be dead."""
        self.since_fired_tokens.copy_(is_dead.to(torch.int64) * self._dead_after_tokens)

    def saw(self, fired: Bool[Tensor, " d_sae"], batch_tokens: int) -> None:
        """Count a batch, on which some features fired."""
        self.since_fired_tokens += batch_tokens
        self.since_fired_tokens[fired] = 0


class DeadGradient(NamedTuple):
    """A loss that only dead features have, and its gradient.

    Attributes:
        loss: weighted.
        features: dead ones, ascending.
        W_enc: gradient of their encoder rows.
        b_enc: gradient of their biases.
        W_dec: gradient of their decoder rows.
        b_dec: gradient of `b_dec`; this rank's part if there are several.
        threshold: gradient of their thresholds, where they have any.
    """

    loss: Float[Tensor, ""]
    features: Int[Tensor, " dead"]
    W_enc: Float[Tensor, "dead d_in"]
    b_enc: Float[Tensor, " dead"]
    W_dec: Float[Tensor, "dead d_in"]
    b_dec: Float[Tensor, " d_in"]
    threshold: Float[Tensor, " dead"] | None = None


# From tokens' indices, the dead features' `hidden_pre` on them, decoder rows and thresholds.
DeadLoss = Callable[["Tensor", "Tensor", "Tensor", "Tensor | None"], "Tensor"]


def dead_gradient(
    sae: SAE,
    x: Float[Tensor, "batch d_in"],
    features: Int[Tensor, " dead"],
    n_dead: int,
    loss_of: DeadLoss,
) -> DeadGradient:
    """The gradient of a loss of the dead features, some tokens at a time.

    Args:
        sae: the weights.
        x: residuals.
        features: the dead ones, of this rank.
        n_dead: how many all ranks have; it decides how many tokens are taken at a time, on all.
        loss_of: the share that some tokens have in the loss, as a function that autograd follows.
    """
    parts = [sae.W_enc.T[features], sae.b_enc[features], sae.W_dec[features], sae.b_dec]
    if "threshold" in dict(sae.named_parameters()):
        parts.append(sae.get_parameter("threshold")[features])
    leaves = [part.detach().clone().requires_grad_() for part in parts]
    W_enc, b_enc, W_dec, b_dec, *thresholds = leaves
    total = x.new_zeros(())
    sums = [torch.zeros_like(leaf) for leaf in leaves]
    rows = max(1, DENSE_NUMBERS // n_dead)
    with torch.enable_grad():
        for tokens in torch.arange(len(x), device=x.device).split(rows):
            hidden_pre = torch.addmm(b_enc, x[tokens] - b_dec, W_enc.T)
            loss = loss_of(tokens, hidden_pre, W_dec, thresholds[0] if thresholds else None)
            total += loss.detach()
            found = torch.autograd.grad(loss, leaves, allow_unused=True)
            for so_far, gradient in zip(sums, found, strict=True):
                if gradient is not None:
                    so_far.add_(gradient)
    return DeadGradient(total, features, *sums)
