"""How a link starts: from scratch, or from its parent's weights (paper, section 2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from saetrack.sae.architectures import empty_sae, objective_of
from saetrack.sae.config import EncoderPrecision, SAEConfig, WarmStart
from saetrack.sae.model import SAE, geometric_median
from saetrack.sae.step import TrainStep
from saetrack.sae.tensor_parallel import ALONE, Ranks

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Parent:
    """What a link takes from the registered link before it.

    Attributes:
        sae: its weights.
        residual_mean_distance: of the residuals that it was trained on (see `mean_distance`); 0
            where it is not known.
        feature_density: share of its held-out tokens on which each feature fires, (d_sae,); None
            where it is not known.
    """

    sae: SAE
    residual_mean_distance: float
    feature_density: Float[Tensor, " d_sae"] | None = None


@dataclass(frozen=True)
class Start:
    """A link before its first step.

    Attributes:
        step: ready to train.
        residual_mean_distance: of the residuals at this checkpoint (see `mean_distance`).
    """

    step: TrainStep
    residual_mean_distance: float


def mean_distance(x: Float[Tensor, "tokens d_in"]) -> float:
    """Mean distance of residuals from their mean."""
    return float((x - x.mean(dim=0)).norm(dim=1).mean())


def cold_start(
    x: Float[Tensor, "tokens d_in"],
    d_sae: int,
    sae_config: SAEConfig,
    seed: int,
    precision: EncoderPrecision = "float32",
    ranks: Ranks = ALONE,
) -> Start:
    """A random SAE around the geometric median of the checkpoint's first residuals."""
    whole = empty_sae(sae_config, x.shape[1], d_sae)
    objective_of(whole, sae_config).draw(geometric_median(x), seed)
    step = TrainStep(whole.shard(ranks).to(x.device), sae_config, precision)
    distance = mean_distance(x)
    step.objective.see_first(x, distance, is_new=True)
    return Start(step, distance)


@torch.no_grad()
def warm_start(
    parent: Parent,
    warm_start_config: WarmStart,
    x: Float[Tensor, "tokens d_in"],
    sae_config: SAEConfig,
    precision: EncoderPrecision = "float32",
    ranks: Ranks = ALONE,
) -> Start:
    """The parent's SAE, made ready for the residuals of another checkpoint.

    Args:
        parent: on the CPU.
        warm_start_config: what to make of its weights.
        x: the first residuals of this checkpoint; decides the device.
        sae_config: of the new link.
        precision: of the encoder's product in its training.
        ranks: that train the new link; each gets its share of the parent.
    """
    sae = parent.sae.shard(ranks).to(x.device)
    distance = mean_distance(x)
    if warm_start_config.scale == "matched" and parent.residual_mean_distance > 0:
        sae.scale_biases(distance / parent.residual_mean_distance)
    step = TrainStep(sae, sae_config, precision)
    step.objective.see_first(x, distance, is_new=False)
    if step.objective.dead_features is not None and parent.feature_density is not None:
        fired_not = ranks.shard({"b_enc": parent.feature_density == 0})["b_enc"]
        step.objective.dead_features.start(fired_not.to(x.device))
    return Start(step, distance)
