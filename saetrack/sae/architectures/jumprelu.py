"""JumpReLU: features fire above learnt thresholds (Rajamanoharan et al. 2024, arXiv:2407.14435)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from saetrack.sae.architectures.objective import Objective, summed
from saetrack.sae.config import EncoderPrecision, JumpReLUConfig
from saetrack.sae.dead_features import DeadFeatures, DeadLoss
from saetrack.sae.kernels.sparse import (
    ActivePairs,
    Group,
    acts_gradient,
    pairs_above,
    select,
    sums_by_feature,
)
from saetrack.sae.model import SAE
from saetrack.sae.tensor_parallel import ALONE, Ranks

if TYPE_CHECKING:
    from jaxtyping import Float


class JumpReLUSAE(SAE):
    """feature_acts = hidden_pre where it exceeds the feature's threshold, else 0.

    Attributes:
        threshold: of each feature, 0 or more, (d_sae,).
    """

    architecture: ClassVar[str] = "jumprelu"
    threshold: Float[Tensor, " d_sae"]

    def __init__(self, d_in: int, d_sae: int, ranks: Ranks = ALONE) -> None:
        super().__init__(d_in, d_sae, ranks)
        self.threshold = nn.Parameter(torch.zeros(d_sae))

    def activate(self, hidden_pre: Float[Tensor, "batch d_sae"]) -> Float[Tensor, "batch d_sae"]:
        """As `SAE` has it."""
        return hidden_pre * (hidden_pre > self.threshold)

    def active_pairs(
        self, x: Float[Tensor, "batch d_in"], precision: EncoderPrecision = "float32"
    ) -> ActivePairs:
        """As `SAE` has it."""
        return pairs_above(self, x, self.threshold.detach(), precision)

    def empty(self, d_sae: int, ranks: Ranks = ALONE) -> SAE:
        """As `SAE` has it."""
        return JumpReLUSAE(self.d_in, d_sae, ranks)

    @torch.no_grad()
    def scale_biases(self, growth: float) -> None:
        """As `SAE` has it."""
        super().scale_biases(growth)
        self.threshold.mul_(growth)


class JumpReLU(Objective[JumpReLUSAE, JumpReLUConfig]):
    """Squared error and number of active features; thresholds by their pseudo-derivative.

    Thresholds are learnt directly and kept at 0 or more: Adam would hardly move their logarithm
    within a link. From link to link all weights pass, thresholds scaled as biases are; features
    that fired on none of the parent's held-out tokens count as dead from the first batch on.

    Attributes:
        scale: the residuals' mean distance from their mean at the link's start, the unit of the
            bandwidth.
    """

    def __init__(self, sae: JumpReLUSAE, config: JumpReLUConfig) -> None:
        super().__init__(sae, config)
        self.scale = 1.0
        self._threshold_gradient: Tensor | None = None
        self._near: ActivePairs | None = None
        if config.pre_act_coefficient > 0:
            self.dead_features = DeadFeatures(sae, config.dead_after_tokens)

    @property
    def bandwidth(self) -> float:
        """Of the pseudo-derivative, in units of activations."""
        return self.config.bandwidth * self.scale

    def see_first(
        self,
        x: Float[Tensor, "tokens d_in"],  # noqa: ARG002
        mean_distance: float,
        *,
        is_new: bool,
    ) -> None:
        """As `Objective` has it."""
        self.scale = mean_distance
        if is_new:
            with torch.no_grad():
                self.sae.threshold.fill_(self.config.initial_threshold * mean_distance)

    def activate(self, hidden_pre: Float[Tensor, "batch d_sae"]) -> Float[Tensor, "batch d_sae"]:
        """As `Objective` has it."""
        acts: Tensor = _Jump.apply(hidden_pre, self.sae.threshold, self.bandwidth)  # type: ignore[no-untyped-call]
        return acts

    def sparsity(
        self,
        hidden_pre: Float[Tensor, "batch d_sae"],
        feature_acts: Float[Tensor, "batch d_sae"],  # noqa: ARG002
    ) -> Float[Tensor, ""]:
        """As `Objective` has it; the thresholds alone learn from it."""
        fires: Tensor = _Step.apply(hidden_pre.detach(), self.sae.threshold, self.bandwidth)  # type: ignore[no-untyped-call]
        return self.config.l0_coefficient * fires.sum(dim=1).mean()

    def active_pairs(
        self, x: Float[Tensor, "batch d_in"], precision: EncoderPrecision
    ) -> ActivePairs:
        """As `Objective` has it; keeps the pairs near their thresholds too."""
        threshold = self.sae.threshold.detach()
        found = pairs_above(self.sae, x, threshold - self.bandwidth / 2, precision)
        beyond = found.feature_acts - threshold[found.features]
        self._near = select(self.sae, found, beyond.abs() < self.bandwidth / 2)
        return select(self.sae, found, beyond > 0)

    def sparse_sparsity(
        self,
        pairs: ActivePairs,
        of_acts: Float[Tensor, " pairs"],
        groups: list[Group],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " d_sae"] | None]:
        """As `Objective` has it."""
        assert self._near is not None
        near, self._near = self._near, None
        of_l0 = self.config.l0_coefficient / pairs.batch_tokens
        threshold = self.sae.threshold.detach()
        of_near = acts_gradient(self.sae, near, groups) * threshold[near.features] + of_l0
        self._threshold_gradient = sums_by_feature(near, of_near / -self.bandwidth)
        return of_acts.new_tensor(of_l0 * len(pairs.tokens)), None

    def threshold_gradient(self) -> Float[Tensor, " d_sae"] | None:
        """As `Objective` has it."""
        return self._threshold_gradient

    def held_out_sparsity(self, l1: float, l0: float) -> float:  # noqa: ARG002
        """As `Objective` has it, by the mean number of active features."""
        return self.config.l0_coefficient * l0

    def dead_loss(
        self,
        error: Float[Tensor, "batch d_in"],
        weights: Float[Tensor, " batch"],  # noqa: ARG002
        n_dead: int,  # noqa: ARG002
    ) -> DeadLoss:
        """As `Objective` has it: what the dead features lack to their thresholds."""
        scale = self.config.pre_act_coefficient / (len(error) * self.scale)

        def loss_of(
            _tokens: Tensor, hidden_pre: Tensor, _rows: Tensor, threshold: Tensor | None
        ) -> Tensor:
            assert threshold is not None
            return scale * summed(self.sae, torch.relu(threshold - hidden_pre).sum())

        return loss_of

    def state(self) -> dict[str, Tensor]:
        """As `Objective` has it."""
        return {**super().state(), "scale": torch.tensor(self.scale, dtype=torch.float64)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """As `Objective` has it."""
        super().load(tensors)
        self.scale = float(tensors["scale"])


class _Jump(torch.autograd.Function):
    """The activation, with the paper's pseudo-derivative by the threshold (Eq 11 there)."""

    @staticmethod
    def forward(ctx: Any, hidden_pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(hidden_pre, threshold)
        ctx.bandwidth = bandwidth
        return hidden_pre * (hidden_pre > threshold)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_pre, threshold = ctx.saved_tensors
        near = (hidden_pre - threshold).abs() < ctx.bandwidth / 2
        of_threshold = -(threshold / ctx.bandwidth) * (near * gradients[0]).sum(dim=0)
        return gradients[0] * (hidden_pre > threshold), of_threshold, None


class _Step(torch.autograd.Function):
    """Whether a feature fires, with the pseudo-derivative by its threshold (Eq 12 there)."""

    @staticmethod
    def forward(ctx: Any, hidden_pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(hidden_pre, threshold)
        ctx.bandwidth = bandwidth
        return (hidden_pre > threshold).to(hidden_pre.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        hidden_pre, threshold = ctx.saved_tensors
        near = (hidden_pre - threshold).abs() < ctx.bandwidth / 2
        return None, -(near * gradients[0]).sum(dim=0) / ctx.bandwidth, None
