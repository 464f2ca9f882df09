"""Residual-like data from a planted sparse dictionary, and an SAE that nearly knows it.

A benchmark of trained SAEs needs sparsity that stays. Real residuals would need an LM per shape;
these vectors have what counts for speed: tens of active features of thousands, few of them often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import embedding_bag

from saetrack.sae.config import ReLUConfig
from saetrack.sae.model import SAE
from saetrack.sae.step import TrainStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float
    from torch import Tensor

ACTIVE = 24  # planted features of a token
NOISE = 0.15  # norm of a token's noise, where a planted coefficient is about 1
PERTURBATION = 0.4  # norm of what is added to each direction
# Times d_in this is the weight of the summed activations against the squared error summed over
# d_in: it shrinks each activation by half of it.
L1_TIMES_D_IN = 0.65


def sae_config(d_in: int) -> ReLUConfig:
    """The terms all contestants minimise, in this project's weighting: mean over `d_in`."""
    return ReLUConfig(
        l1_coefficient=L1_TIMES_D_IN / d_in, reconstruction="mse", penalty="unit_decoder"
    )


@dataclass(frozen=True)
class Planted:
    """A dictionary from which vectors are mixed.

    Attributes:
        directions: of norm 1, (d_sae, d_in).
        mean: is added to every vector.
        up_to: share of draws that fall on this feature or an earlier one, (d_sae,).
    """

    directions: Float[Tensor, "d_sae d_in"]
    mean: Float[Tensor, " d_in"]
    up_to: Float[Tensor, " d_sae"]

    def draw(self, tokens: int, seed: int) -> Float[Tensor, "tokens d_in"]:
        """Vectors: `ACTIVE` directions each with positive coefficients, noise, and the mean."""
        chance = torch.Generator().manual_seed(seed)
        d_sae, d_in = self.directions.shape
        drawn = torch.rand(tokens, ACTIVE, generator=chance, dtype=self.up_to.dtype)
        features = torch.searchsorted(self.up_to, drawn).clamp_max(d_sae - 1)
        coefficients = 0.5 + torch.rand(tokens, ACTIVE, generator=chance)
        x = embedding_bag(features, self.directions, per_sample_weights=coefficients, mode="sum")
        noise = torch.randn(tokens, d_in, generator=chance)
        return x.add_(noise, alpha=NOISE / d_in**0.5).add_(self.mean)


def plant(d_in: int, d_sae: int, seed: int = 0) -> Planted:
    """A random dictionary whose features are drawn by a power law of their rank."""
    chance = torch.Generator().manual_seed(seed)
    directions = torch.randn(d_sae, d_in, generator=chance)
    mean = torch.randn(d_in, generator=chance) * (3 / d_in**0.5)
    frequencies = 1 / (torch.arange(d_sae, dtype=torch.float64) + 20)
    up_to = (frequencies / frequencies.sum()).cumsum(0)
    return Planted(directions / directions.norm(dim=1, keepdim=True), mean, up_to)


@torch.no_grad()
def perturbed_sae(planted: Planted, x: Float[Tensor, "tokens d_in"], l0: float, seed: int) -> SAE:
    """An SAE with the planted directions, all a little off, and a bias that makes `l0` active.

    Args:
        planted: what it nearly knows.
        x: vectors by which the bias is set.
        l0: features per token that are to be active on them.
        seed: of the perturbation.
    """
    chance = torch.Generator().manual_seed(seed)
    d_sae, d_in = planted.directions.shape
    sae = SAE(d_in, d_sae)
    off = torch.randn(d_sae, d_in, generator=chance) * (PERTURBATION / d_in**0.5)
    sae.W_dec.copy_(planted.directions + off)
    sae.normalise_decoder()
    sae.W_enc.copy_(sae.W_dec.T)
    sae.b_dec.copy_(planted.mean)
    products = (x - sae.b_dec) @ sae.W_enc
    kept = round(l0 * len(x))
    threshold = products.flatten().kthvalue(products.numel() - kept).values
    sae.b_enc.fill_(-threshold)
    return sae


def settle(
    sae: SAE, batches: Iterator[Float[Tensor, "batch d_in"]], rates: list[float]
) -> TrainStep:
    """Train until the sparsity stays what it is: one step for each learning rate."""
    step = TrainStep(sae, sae_config(sae.d_in))
    for rate, x in zip(rates, batches, strict=False):
        step(x, rate)
    return step
