"""How a link starts: from scratch, or from its parent's weights (paper, section 2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from saetrack.sae.config import EncoderPrecision, LossConfig, WarmStart
from saetrack.sae.model import SAE, geometric_median, new_sae
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
    """

    sae: SAE
    residual_mean_distance: float


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
    loss_config: LossConfig,
    seed: int,
    precision: EncoderPrecision = "float32",
    ranks: Ranks = ALONE,
) -> Start:
    """A random SAE around the geometric median of the checkpoint's first residuals."""
    sae = new_sae(x.shape[1], d_sae, geometric_median(x), seed).shard(ranks).to(x.device)
    return Start(TrainStep(sae, loss_config, precision), mean_distance(x))


@torch.no_grad()
def warm_start(
    parent: Parent,
    warm_start_config: WarmStart,
    x: Float[Tensor, "tokens d_in"],
    loss_config: LossConfig,
    precision: EncoderPrecision = "float32",
    ranks: Ranks = ALONE,
) -> Start:
    """The parent's SAE, made ready for the residuals of another checkpoint.

    Args:
        parent: on the CPU.
        warm_start_config: what to make of its weights.
        x: the first residuals of this checkpoint; decides the device.
        loss_config: of the new link.
        precision: of the encoder's product in its training.
        ranks: that train the new link; each gets its share of the parent.
    """
    sae = parent.sae.shard(ranks).to(x.device)
    distance = mean_distance(x)
    if warm_start_config.scale == "matched" and parent.residual_mean_distance > 0:
        growth = distance / parent.residual_mean_distance
        sae.b_enc.mul_(growth)
        sae.b_dec.mul_(growth)
    return Start(TrainStep(sae, loss_config, precision), distance)
