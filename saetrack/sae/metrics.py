"""How good an SAE is, on tokens that no link trains on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from saetrack.sae.objective import Objective, losses

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from saetrack.sae.model import SAE


@dataclass(frozen=True)
class Evaluation:
    """Held-out metrics of one SAE.

    Attributes:
        loss: the training objective.
        mse: squared error, averaged over tokens and dimensions (Eq 13).
        l1: summed activations per token.
        explained_variance: 1 - summed squared error / summed squared distance from the mean.
        explained_variance_per_token: the mean over tokens of 1 - that ratio, the authors' form; a
            few tokens near the mean dominate it.
        explained_variance_at_l0: the same as the first when of each batch only the largest
            activations are kept, `matched_l0` per token on average: comparable between SAEs of
            different sparsity.
        l0: active features per token.
        dead: share of features that fire on none of the held-out tokens.
        feature_density: share of held-out tokens on which each feature fires, (d_sae,).
    """

    loss: float
    mse: float
    l1: float
    explained_variance: float
    explained_variance_per_token: float
    explained_variance_at_l0: float
    l0: float
    dead: float
    feature_density: Float[Tensor, " d_sae"]

    def scalars(self) -> dict[str, float]:
        """Every number by its name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, float)}


@torch.no_grad()
def evaluate(
    sae: SAE,
    held_out: Float[Tensor, "tokens d_in"],
    objective: Objective,
    batch_tokens: int,
    matched_l0: int,
) -> Evaluation:
    """Measure an SAE on held-out residuals.

    Args:
        sae: what to measure.
        held_out: residuals that no link trains on.
        objective: its `loss`, where scale-free, centres on each batch's mean: give training's size.
        batch_tokens: residuals at a time; sums across batches are kept in float64.
        matched_l0: active features per token for `explained_variance_at_l0`.
    """
    x_mean = held_out.mean(dim=0)
    sums = dict.fromkeys(("loss", "l1", "error", "error_at_l0", "spread", "per_token"), 0.0)
    fired = torch.zeros(sae.d_sae, dtype=torch.int64, device=held_out.device)
    for x in held_out.split(batch_tokens):
        feature_acts = sae.encode(x)
        sae_out = sae.decode(feature_acts)
        terms = losses(objective, sae, x, feature_acts, sae_out)
        error = (sae_out - x).square().sum(dim=1).double()
        spread = (x - x_mean).square().sum(dim=1).double()
        sums["loss"] += float(terms.loss) * len(x)
        sums["l1"] += float(terms.l1) * len(x)
        sums["error"] += float(error.sum())
        sparser_out = sae.decode(keep_largest(feature_acts, matched_l0 * len(x)))
        sums["error_at_l0"] += float((sparser_out - x).square().sum(dim=1).double().sum())
        sums["spread"] += float(spread.sum())
        sums["per_token"] += float((1 - error / spread.clamp_min(1e-12)).sum())
        fired += (feature_acts > 0).sum(dim=0)
    tokens = len(held_out)
    return Evaluation(
        loss=sums["loss"] / tokens,
        mse=sums["error"] / held_out.numel(),
        l1=sums["l1"] / tokens,
        explained_variance=1 - sums["error"] / sums["spread"],
        explained_variance_per_token=sums["per_token"] / tokens,
        explained_variance_at_l0=1 - sums["error_at_l0"] / sums["spread"],
        l0=float(fired.sum()) / tokens,
        dead=float((fired == 0).double().mean()),
        feature_density=(fired.double() / tokens).float().cpu(),
    )


def keep_largest(
    feature_acts: Float[Tensor, "batch d_sae"], count: int
) -> Float[Tensor, "batch d_sae"]:
    """The `count` largest activations of a batch in their places, all others zero."""
    active = feature_acts[feature_acts > 0]
    if len(active) <= count:
        return feature_acts
    smallest_kept = active.topk(count, sorted=False).values.min()
    return feature_acts.where(feature_acts >= smallest_kept, 0.0)
