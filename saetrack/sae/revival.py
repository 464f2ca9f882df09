"""A remedy for dead features that works in chains: start them anew where the SAE fails.

The authors' ghost gradients wait for 10^11 steps and so never act in a chain. Resampling (Bricken
et al. 2023, "neuron resampling") is explicit instead: it says which features it replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from saetrack.sae.step import TrainStep

# New encoder columns are weak against living ones, so that they disturb little at first.
ENCODER_SHARE = 0.2


@torch.no_grad()
def revive(
    step: TrainStep, x: Float[Tensor, "batch d_in"], is_dead: Bool[Tensor, " d_sae"]
) -> set[int]:
    """Point each dead feature at one of the worst-reconstructed tokens of the batch.

    The decoder row becomes the token's normalised residual error, the encoder column a small
    multiple of it, `b_enc` zero, Adam's moments zero. At most one feature per token is revived; the
    rest wait for the next window.

    Returns:
        The indices of the revived features.
    """
    sae = step.sae
    is_dead = sae.ranks.all_gather(is_dead)
    dead = is_dead.nonzero().flatten()[: len(x)]
    if not len(dead):
        return set()
    errors = x - sae.decode(sae.encode(x))
    worst = errors.norm(dim=1).argsort(descending=True)
    directions = errors[worst[: len(dead)]]
    directions = directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-12)

    alive = ~is_dead
    norms = sae.ranks.all_gather(sae.W_enc.norm(dim=0))
    scale = ENCODER_SHARE * norms[alive].mean() if alive.any() else ENCODER_SHARE
    ours = dead // sae.d_sae == sae.ranks.rank
    own, directions = dead[ours] % sae.d_sae, directions[ours]
    sae.W_dec[own] = directions
    sae.W_enc[:, own] = scale * directions.T
    sae.b_enc[own] = 0
    step.adam.forget(own)
    step.tokens_since_fired[own] = 0
    return set(dead.tolist())
