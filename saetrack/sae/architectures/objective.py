"""What all architectures share in training; each says what of it is different."""

# ruff: noqa: ARG002  (a default needs less than what overrides it)

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from saetrack.sae.config import EncoderPrecision, SAEConfig
from saetrack.sae.dead_features import DeadFeatures, DeadGradient, DeadLoss, dead_gradient
from saetrack.sae.kernels.sparse import ActivePairs, Group
from saetrack.sae.model import SAE, draw_weights

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

Config = TypeVar("Config", bound=SAEConfig)
OfSAE = TypeVar("OfSAE", bound=SAE)


class Objective(Generic[OfSAE, Config]):
    """The loss of an SAE in training, over all activations or over the active pairs.

    Attributes:
        sae: in training.
        config: of its architecture.
        dead_features: where dead features learn from a loss of their own.
    """

    # Whether a new SAE's encoder starts as the transpose of its decoder.
    tied: bool = True
    # Whether what fires on a token depends on no other token of the batch.
    by_token: bool = True

    def __init__(self, sae: OfSAE, config: Config) -> None:
        self.sae = sae
        self.config = config
        self.dead_features: DeadFeatures | None = None

    def draw(self, b_dec: Float[Tensor, " d_in"], seed: int) -> None:
        """Give the SAE the weights from which training starts; it is on the CPU and whole."""
        draw_weights(self.sae, b_dec, seed, tied=self.tied)

    def see_first(
        self, x: Float[Tensor, "tokens d_in"], mean_distance: float, *, is_new: bool
    ) -> None:
        """Take in what depends on the residuals, before the first step.

        Args:
            x: the first residuals that are trained on.
            mean_distance: of the residuals from their mean.
            is_new: whether the weights are drawn, not a parent's.
        """

    @property
    def groups(self) -> list[slice]:
        """Features of this rank, split where another reconstruction begins (matryoshka)."""
        return [slice(0, self.sae.d_sae)]

    def activate(self, hidden_pre: Float[Tensor, "batch d_sae"]) -> Float[Tensor, "batch d_sae"]:
        """Feature activations in training, as autograd follows them."""
        return self.sae.activate(hidden_pre)

    def active_pairs(
        self, x: Float[Tensor, "batch d_in"], precision: EncoderPrecision
    ) -> ActivePairs:
        """The same as pairs."""
        return self.sae.active_pairs(x, precision)

    def sparsity(
        self,
        hidden_pre: Float[Tensor, "batch d_sae"],
        feature_acts: Float[Tensor, "batch d_sae"],
    ) -> Float[Tensor, ""]:
        """The weighted penalty of a batch, this rank's part, as autograd follows it."""
        return feature_acts.new_zeros(())

    def sparse_sparsity(
        self, pairs: ActivePairs, of_acts: Float[Tensor, " pairs"], groups: list[Group]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " d_sae"] | None]:
        """The same from the active pairs.

        Args:
            pairs: what was active.
            of_acts: gradient by their activations; the penalty's is added.
            groups: with the gradient by `sae_out`.

        Returns:
            The weighted penalty, this rank's part; its gradient by each decoder row's norm, if it
            depends on them.
        """
        return of_acts.new_zeros(()), None

    def threshold_gradient(self) -> Float[Tensor, " d_sae"] | None:
        """Of the last sparse forward pass, where thresholds are learnt."""
        return None

    def held_out_sparsity(self, l1: float, l0: float) -> float:
        """The weighted penalty from a token's mean summed activations and active features."""
        return 0.0

    def of_dead(
        self,
        x: Float[Tensor, "batch d_in"],
        error: Float[Tensor, "batch d_in"],
        weights: Float[Tensor, " batch"],
    ) -> DeadGradient | None:
        """What dead features learn from, None where no rank has any.

        Args:
            x: residuals.
            error: sae_out - x.
            weights: of each token's squared error.
        """
        if self.dead_features is None:
            return None
        features = self.dead_features.indices()
        n_dead = len(features)
        if self.sae.ranks.count > 1:  # a rank without any takes part in the others' sums
            n_dead = int(summed(self.sae, torch.tensor(n_dead, device=x.device)))
        if n_dead == 0:
            return None
        loss_of = self.dead_loss(error, weights, n_dead)
        return dead_gradient(self.sae, x, features, n_dead, loss_of)

    def dead_loss(
        self,
        error: Float[Tensor, "batch d_in"],
        weights: Float[Tensor, " batch"],
        n_dead: int,
    ) -> DeadLoss:
        """The weighted loss of dead features, where the architecture counts them.

        Args:
            error: sae_out - x.
            weights: of each token's squared error.
            n_dead: dead features of all ranks.
        """
        raise NotImplementedError

    def after_step(
        self, fired: Bool[Tensor, " d_sae"], smallest: Float[Tensor, ""], batch_tokens: int
    ) -> None:
        """Take note of a batch that was trained on.

        Args:
            fired: features that were active in it.
            smallest: its smallest activation; infinite if nothing was active.
            batch_tokens: of the batch.
        """
        if self.dead_features is not None:
            self.dead_features.saw(fired, batch_tokens)

    def state(self) -> dict[str, Tensor]:
        """What `load` goes on from, beside weights and moments."""
        if self.dead_features is None:
            return {}
        return {"since_fired_tokens": self.dead_features.since_fired_tokens}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a `state`."""
        if self.dead_features is not None:
            self.dead_features.since_fired_tokens.copy_(tensors["since_fired_tokens"])


def split_at(ends: tuple[int, ...], sae: SAE) -> list[slice]:
    """This rank's features in groups that end where a prefix of the whole dictionary does."""
    first = sae.ranks.rank * sae.d_sae
    inner = [min(max(end - first, 0), sae.d_sae) for end in ends]
    bounds = [0, *inner, sae.d_sae]
    groups = [slice(a, b) for a, b in pairwise(bounds)]
    return groups if ends and ends[-1] < sae.d_sae * sae.ranks.count else groups[: len(ends) or 1]


def summed(sae: SAE, value: Tensor) -> Tensor:
    """Over the ranks."""
    total: Tensor = sae.ranks.all_reduce(value)
    return total
