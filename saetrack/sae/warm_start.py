"""What passes from one link to the next (paper, section 2.3), and how well it fits there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from saetrack.sae.model import SAE, geometric_median, new_sae
from saetrack.sae.revival import revive
from saetrack.sae.step import TrainStep
from saetrack.sae.tensor_parallel import ALONE, Ranks

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from saetrack.sae.kernels.sparse import EncoderPrecision
    from saetrack.sae.loss import LossConfig


# Residuals among which a restarted feature looks for a badly reconstructed one: a few batches, not
# the half buffer, whose feature activations would take tens of GB at 65k features.
RESTART_TOKENS = 8192


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """What a link makes of its parent's state; W_enc and W_dec always pass as they are.

    Attributes:
        scale: `matched` multiplies both biases by the growth of the residuals' spread from the
            parent's checkpoint to this one, which is where the scale-free objective's optimum moves
            if the residuals only grow or shrink; `kept` is the authors' practice.
        b_dec: `carried`, or put at the geometric `median` of the new checkpoint's residuals.
        dead: features that fired on no held-out token of the parent's are `kept`, or `restarted`
            at badly reconstructed tokens before the first step.
        adam: `fresh` moments for every link (the authors' practice), or `carried` ones.
    """

    scale: Literal["matched", "kept"] = "matched"
    b_dec: Literal["carried", "median"] = "carried"
    dead: Literal["kept", "restarted"] = "kept"
    adam: Literal["fresh", "carried"] = "fresh"


@dataclass(frozen=True)
class Parent:
    """A registered link, as far as the next one starts from it.

    Attributes:
        sae: its weights.
        residual_mean_distance: of the residuals that it was trained on (see `spread`).
        feature_density: share of held-out tokens on which each feature fires, (d_sae,).
        adam: its moments, if they were kept; used only where they are carried.
    """

    sae: SAE
    residual_mean_distance: float
    feature_density: Float[Tensor, " d_sae"]
    adam: dict[str, Tensor] | None


@dataclass(frozen=True)
class Start:
    """A link before its first step.

    Attributes:
        step: ready to train.
        residual_mean_distance: of the residuals at this checkpoint (see `spread`).
        b_dec_lag: distance of the parent's `b_dec` from the geometric median of these residuals,
            in units of their spread; 0 for a link without a parent.
        restarted: features that were started anew.
    """

    step: TrainStep
    residual_mean_distance: float
    b_dec_lag: float
    restarted: set[int]


def spread(x: Float[Tensor, "tokens d_in"]) -> float:
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
    return Start(TrainStep(sae, loss_config, precision), spread(x), 0.0, set())


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
        warm_start_config: what to make of its state.
        x: the first residuals of this checkpoint; decides the device.
        loss_config: of the new link.
        precision: of the encoder's product in its training.
        ranks: that train the new link; each gets its share of the parent.
    """
    sae = parent.sae.shard(ranks).to(x.device)
    now = spread(x)
    median = geometric_median(x)
    lag = float((sae.b_dec - median).norm()) / max(now, 1e-12)
    if warm_start_config.scale == "matched" and parent.residual_mean_distance > 0:
        growth = now / parent.residual_mean_distance
        sae.b_enc.mul_(growth)
        sae.b_dec.mul_(growth)
    if warm_start_config.b_dec == "median":
        sae.b_dec.copy_(median)
    step = TrainStep(sae, loss_config, precision)
    if warm_start_config.adam == "carried" and parent.adam is not None:  # an imported SAE has none
        step.adam.load(ranks.shard(parent.adam))
    restarted = set()
    if warm_start_config.dead == "restarted":
        density = ranks.shard({"feature_density": parent.feature_density})["feature_density"]
        restarted = revive(step, x[:RESTART_TOKENS], (density == 0).to(x.device))
    return Start(step, now, lag, restarted)
