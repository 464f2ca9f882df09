"""The effect of every feature on the loss, from one gradient.

To take a feature out of a token is to subtract its activation times its decoder row from what the
LM has at the hook; what the SAE does not reconstruct stays, so that the LM with all features in
place is the LM. To first order the loss then changes by

    effect = - activation x (decoder row . gradient of the summed loss by the activations)

which is positive where the feature helps. The gradient holds what the activation does to the
losses of all later tokens of the row. How near this comes to true ablation is measured
(`saetrack.analysis.effects.ablation`). Where it is poor, the feature takes away much of what the LM
has at a token, and the gradient changes on the way. So of each token the strongest feature's effect
is integrated on the way to the LM without it (Sundararajan et al. 2017), at `POINTS` points, with
the strongest features of all tokens on their way together.

The control are random directions with a feature's firing and norm: the same activations at the same
tokens times a random unit vector. The same directions serve all features and all links. Their
effects are those of the gradient alone, and so are the sizes that are held against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from saetrack.analysis.contexts.datapoints import random_directions
from saetrack.sae.kernels.sparse import ActivePairs, dot_products, sums_by_feature, weighted_sums

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy import ndarray
    from torch import Tensor

    from saetrack.sae.model import SAE

# Random directions beside each feature.
DIRECTIONS = 64
CONTROL_QUANTILE = 0.95
# On the way to the LM without a token's strongest feature; 0 leaves its effect to the gradient.
POINTS = 2


@dataclass(frozen=True)
class FeatureEffects:
    """The effects of one checkpoint's features on the held-out rows that were read.

    Effects are in nats per token on which the feature fires; NaN where it fires on none. As a
    feature of its own, each also has one of the random directions, with its bound by the others.

    Attributes:
        fires: tokens on which each feature fires, (d_sae,).
        tokens: that were read.
        effect: mean over these tokens, signed, (d_sae,).
        abs_effect: mean size, by the gradient alone, (d_sae,).
        control: mean over random directions of their mean size, (d_sae,).
        control_q95: its 95 % quantile over random directions, (d_sae,).
        random_effect: signed, of one random direction, (d_sae,).
        random_abs_effect: mean size of the same, (d_sae,).
        random_q95: 95 % quantile over the other random directions, (d_sae,).
    """

    fires: Int[ndarray, " d_sae"]
    tokens: int
    effect: Float[ndarray, " d_sae"]
    abs_effect: Float[ndarray, " d_sae"]
    control: Float[ndarray, " d_sae"]
    control_q95: Float[ndarray, " d_sae"]
    random_effect: Float[ndarray, " d_sae"]
    random_abs_effect: Float[ndarray, " d_sae"]
    random_q95: Float[ndarray, " d_sae"]

    @property
    def per_token(self) -> Float[ndarray, " d_sae"]:
        """Signed effect per token that was read, nats; 0 for what never fires."""
        shares = self.fires / max(self.tokens, 1)
        effects: Float[ndarray, " d_sae"] = shares * np.where(self.fires == 0, 0, self.effect)
        return effects


class Attribution:
    """Sums effects of a stream of batches; memory is 129 numbers a feature."""

    def __init__(self, sae: SAE, seed: int) -> None:
        """Nothing is summed yet.

        Args:
            sae: of the checkpoint.
            seed: of the random directions.
        """
        self._decoder = sae.W_dec.detach()
        d_sae, d_in = self._decoder.shape
        self._directions = random_directions(DIRECTIONS, d_in, seed).to(self._decoder)
        self._tokens = 0
        self._fires, self._effect, self._size = self._decoder.new_zeros(
            (3, d_sae), dtype=torch.float64
        )
        self._random, self._random_size = self._decoder.new_zeros((2, d_sae, DIRECTIONS))

    def add(
        self,
        pairs: ActivePairs,
        gradient: Float[Tensor, "tokens d_in"],
        of_strongest: Float[Tensor, "tokens d_in"] | None = None,
    ) -> Float[Tensor, " pairs"]:
        """Take in what is active in a batch.

        Args:
            pairs: that take part.
            gradient: of the summed loss at each token.
            of_strongest: mean gradient on the way to the LM without each token's strongest pair.

        Returns:
            The effect of each pair.
        """
        effects = by_gradient = self._effects(pairs, gradient)
        if of_strongest is not None:
            integrated = self._effects(pairs, of_strongest)
            effects = torch.where(strongest(pairs, self._decoder), integrated, by_gradient)
        self._tokens += pairs.batch_tokens
        self._fires += pairs.offsets.diff()
        self._effect += sums_by_feature(pairs, effects.double())
        self._size += sums_by_feature(pairs, by_gradient.abs().double())
        along = -gradient @ self._directions.T
        given = pairs.tokens, pairs.feature_acts, pairs.offsets[:-1]
        self._random += weighted_sums(along, *given)
        self._random_size += weighted_sums(along.abs(), *given)
        return effects

    def _effects(
        self, pairs: ActivePairs, gradient: Float[Tensor, "tokens d_in"]
    ) -> Float[Tensor, " pairs"]:
        return -pairs.feature_acts * dot_products(pairs, self._decoder, gradient.contiguous())

    def result(self) -> FeatureEffects:
        """The effects so far."""
        fires = self._fires.masked_fill(self._fires == 0, torch.nan)
        scale = (self._decoder.norm(dim=1).double() / fires)[:, None]
        sizes, signed = self._random_size * scale, self._random * scale
        features = torch.arange(len(fires), device=fires.device)
        drawn = features % DIRECTIONS
        others = sizes.clone()
        others[features, drawn] = torch.nan
        arrays = {
            "effect": self._effect / fires,
            "abs_effect": self._size / fires,
            "control": sizes.mean(dim=1),
            "control_q95": sizes.quantile(CONTROL_QUANTILE, dim=1),
            "random_effect": signed[features, drawn],
            "random_abs_effect": sizes[features, drawn],
            "random_q95": others.nanquantile(CONTROL_QUANTILE, dim=1),
        }
        return FeatureEffects(
            fires=self._fires.long().cpu().numpy(),
            tokens=self._tokens,
            **{name: values.float().cpu().numpy() for name, values in arrays.items()},
        )


def strongest(pairs: ActivePairs, decoder: Float[Tensor, "d_sae d_in"]) -> Bool[Tensor, " pairs"]:
    """Whether a pair is the one of its token that adds most: activation times the row's norm."""
    sizes = pairs.feature_acts * decoder.detach().norm(dim=1)[pairs.features]
    largest = sizes.new_zeros(pairs.batch_tokens).scatter_reduce_(0, pairs.tokens, sizes, "amax")
    found: Tensor = sizes == largest[pairs.tokens]
    return found


def way_points() -> list[float]:
    """Which shares of a strongest feature are gone at the points: the middles of equal parts."""
    return [(point + 0.5) / POINTS for point in range(POINTS)]
