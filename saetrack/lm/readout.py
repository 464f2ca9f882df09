"""What a direction of the residual stream adds to the logits, through norm and unembedding alone.

The final norm divides by a scale that depends on the whole residual. With the scale held fixed the
rest is linear, and one matrix does all of it: the norm's weight and its subtraction of the mean are
folded into the unembedding (Elhage et al. 2021, the direct path; nostalgebraist 2020, the logit
lens). What attention and MLPs above the hook make of the direction is not in it, nor is a soft cap
of the logits, which changes no order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

# Of the probe that a norm is asked with; its variance dwarfs any epsilon that a norm adds.
PROBE = 1000.0


class NormWeights(NamedTuple):
    """What a LayerNorm or RMSNorm does behind its division: weight * x + bias, each (d_in,)."""

    weight: Float[Tensor, " d_in"]
    bias: Float[Tensor, " d_in"]


@torch.no_grad()
def norm_weights(norm: nn.Module, like: Float[Tensor, " d_in"], *, is_rms: bool) -> NormWeights:
    """Weight and bias of a norm, asked of the norm itself: each architecture stores them its way.

    Args:
        norm: of any class.
        like: of the dtype and on the device that it takes.
        is_rms: whether it leaves the mean in.
    """
    probe = torch.full_like(like, PROBE)
    probe[1::2] = -PROBE
    up, down = (norm(sign * probe[None, None]).float().flatten() for sign in (1, -1))
    unit = _unscaled(probe.float(), is_rms=is_rms)
    unit = unit / unit.square().mean().sqrt()
    return NormWeights((up - down) / 2 / unit, (up + down) / 2)


@torch.no_grad()
def norm_scale(
    weights: NormWeights,
    x: Float[Tensor, "tokens d_in"],
    normed: Float[Tensor, "tokens d_in"],
    *,
    is_rms: bool,
) -> float:
    """The median over tokens of what a norm divides by, its epsilon included.

    Args:
        weights: of the norm.
        x: what went in.
        normed: what came out.
        is_rms: as of `norm_weights`.
    """
    undivided = (_unscaled(x.float(), is_rms=is_rms) * weights.weight).norm(dim=-1)
    divided = (normed.float() - weights.bias).norm(dim=-1)
    return float((undivided / divided.clamp_min(1e-12)).median())


@torch.no_grad()
def folded_unembedding(
    weights: NormWeights,
    scale: float,
    unembedding: Float[Tensor, "vocabulary d_in"],
    *,
    is_rms: bool,
) -> Float[Tensor, "vocabulary d_in"]:
    """The matrix that takes directions to centred logits, whose mean over tokens is 0."""
    folded = unembedding.float() * weights.weight
    if not is_rms:
        folded = folded - folded.mean(dim=1, keepdim=True)
    return (folded - folded.mean(dim=0)) / scale


def _unscaled(x: Tensor, *, is_rms: bool) -> Tensor:
    return x if is_rms else x - x.mean(dim=-1, keepdim=True)
