"""ReLU with an L1 penalty: the paper's SAE (appendix B; Eq 11 to 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saetrack.sae.architectures.objective import Objective
from saetrack.sae.config import ReLUConfig
from saetrack.sae.kernels.sparse import ActivePairs, Group, sums_by_feature
from saetrack.sae.model import SAE

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class ReLU(Objective[SAE, ReLUConfig]):
    """Squared error and summed activations.

    From link to link pass all weights; both biases may be scaled.
    """

    tied = False

    def sparsity(
        self,
        hidden_pre: Float[Tensor, "batch d_sae"],  # noqa: ARG002
        feature_acts: Float[Tensor, "batch d_sae"],
    ) -> Float[Tensor, ""]:
        """l1_coefficient times the mean over tokens of Eq 14's penalty."""
        return self.config.l1_coefficient * (feature_acts @ self._weights()).mean()

    def sparse_sparsity(
        self,
        pairs: ActivePairs,
        of_acts: Float[Tensor, " pairs"],
        groups: list[Group],  # noqa: ARG002
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " d_sae"] | None]:
        """As `Objective` has it."""
        weights = self._weights()
        scale = self.config.l1_coefficient / pairs.batch_tokens
        of_acts += (scale * weights)[pairs.features]
        summed_acts = sums_by_feature(pairs, pairs.feature_acts)
        of_norms = None if self.config.unit_rows else scale * summed_acts
        return scale * (summed_acts @ weights), of_norms

    def held_out_sparsity(self, l1: float, l0: float) -> float:  # noqa: ARG002
        """As `Objective` has it."""
        return self.config.l1_coefficient * l1

    def _weights(self) -> Float[Tensor, " d_sae"]:
        return l1_weights(self.config, self.sae)


def l1_weights(config: object, sae: SAE) -> Float[Tensor, " d_sae"]:
    """Weight of each feature's activations in the penalty (Eq 14): 1, or its decoder row's norm."""
    free = isinstance(config, ReLUConfig) and not config.unit_rows
    weights: Tensor = sae.W_dec.norm(dim=1) if free else sae.b_enc.new_ones(sae.d_sae)
    return weights
