"""What a link minimises: the reconstruction term, and the terms together (paper, Eq 13 and 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, full, maximum

from saetrack.sae.config import SAEConfig

if TYPE_CHECKING:
    from jaxtyping import Float


class Losses(NamedTuple):
    """The terms of one batch; `loss`, their sum, is what is minimised.

    Attributes:
        loss: the sum.
        reconstruction: the error of `sae_out`, of every prefix where there are several.
        sparsity: the weighted penalty, 0 where `k` decides.
        auxiliary: what dead features learn from, weighted.
    """

    loss: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    sparsity: Float[Tensor, ""]
    auxiliary: Float[Tensor, ""]


def losses(
    reconstruction: Float[Tensor, ""], sparsity: Float[Tensor, ""], auxiliary: Float[Tensor, ""]
) -> Losses:
    """The terms with their sum."""
    return Losses(reconstruction + sparsity + auxiliary, reconstruction, sparsity, auxiliary)


def error_weights(sae_config: SAEConfig, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, " batch"]:
    """Weight of each token's squared error, so that their sum is the reconstruction term.

        mse          1 / (batch d_in), Eq 13
        scale_free   1 / (batch d_in ||x - mean of the batch||), as in the authors' code
        normalised   1 / sum over the batch of ||x - mean of the batch||^2, as in Gao et al. 2024

    Norms are floored at a millionth of their mean: a batch of equal tokens must not divide by zero,
    as the authors' code would.
    """
    mean_weight = 1 / x.numel()
    if sae_config.reconstruction == "mse":
        return full((len(x),), mean_weight, dtype=x.dtype, device=x.device)
    norms = (x - x.mean(dim=0)).norm(dim=1)
    if sae_config.reconstruction == "normalised":
        share: Tensor = 1 / norms.square().sum().clamp_min(1e-12)
        return share.expand(len(x))
    floor = (1e-6 * norms.mean()).clamp_min(1e-12)
    weights: Tensor = mean_weight / maximum(norms, floor)
    return weights


def weighted_error(
    weights: Float[Tensor, " batch"], error: Float[Tensor, "batch d_in"]
) -> Float[Tensor, ""]:
    """The reconstruction term of a batch whose error is `sae_out - x`."""
    return (error.square().sum(dim=1) * weights).sum()


def reconstruction_error(
    sae_config: SAEConfig, x: Float[Tensor, "batch d_in"], sae_out: Float[Tensor, "batch d_in"]
) -> Float[Tensor, ""]:
    """The reconstruction term of the loss."""
    return weighted_error(error_weights(sae_config, x), sae_out - x)
