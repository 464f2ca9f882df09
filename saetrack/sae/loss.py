"""What a link minimises: the terms of the loss (paper, Eq 13 and 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, maximum, ones_like

from saetrack.sae.config import LossConfig

if TYPE_CHECKING:
    from jaxtyping import Float

    from saetrack.sae.model import SAE


class Losses(NamedTuple):
    """The terms of one batch; `loss` is what is minimised, `l1` is unweighted."""

    loss: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    l1: Float[Tensor, ""]


def losses(
    loss_config: LossConfig,
    sae: SAE,
    x: Float[Tensor, "batch d_in"],
    feature_acts: Float[Tensor, "batch d_sae"],
    sae_out: Float[Tensor, "batch d_in"],
) -> Losses:
    """All terms of the loss on one batch."""
    reconstruction = reconstruction_error(loss_config, x, sae_out)
    l1 = sae.ranks.all_reduce((feature_acts @ l1_weights(loss_config, sae)).mean())
    return Losses(reconstruction + loss_config.l1_coefficient * l1, reconstruction, l1)


def l1_weights(loss_config: LossConfig, sae: SAE) -> Float[Tensor, " d_sae"]:
    """Weight of each feature's activations in the penalty (Eq 14): 1, or its decoder row's norm."""
    unit = loss_config.penalty == "unit_decoder"
    weights: Tensor = ones_like(sae.b_enc) if unit else sae.W_dec.norm(dim=1)
    return weights


def reconstruction_error(
    loss_config: LossConfig, x: Float[Tensor, "batch d_in"], sae_out: Float[Tensor, "batch d_in"]
) -> Float[Tensor, ""]:
    """The reconstruction term of the loss."""
    return (
        scale_free_error(x, sae_out)
        if loss_config.reconstruction == "scale_free"
        else mse(x, sae_out)
    )


def mse(x: Float[Tensor, "batch d_in"], sae_out: Float[Tensor, "batch d_in"]) -> Float[Tensor, ""]:
    """Squared error, averaged over tokens and dimensions (Eq 13)."""
    return (sae_out - x).square().mean()


def scale_free_error(
    x: Float[Tensor, "batch d_in"], sae_out: Float[Tensor, "batch d_in"]
) -> Float[Tensor, ""]:
    """Mean over tokens of ||sae_out - x||^2 / (d_in ||x - mean of the batch||), as in the code.

    The denominator is floored at a millionth of its mean: a batch of equal tokens must not divide
    by zero, as the authors' code would.
    """
    norms = (x - x.mean(dim=0)).norm(dim=1)
    floor = (1e-6 * norms.mean()).clamp_min(1e-12)
    return ((sae_out - x).square().mean(dim=1) / maximum(norms, floor)).mean()
