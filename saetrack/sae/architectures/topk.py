"""TopK: the k largest features of each token fire (Gao et al. 2024, arXiv:2406.04093)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from saetrack.sae.architectures.objective import Objective, OfSAE, split_at, summed
from saetrack.sae.config import EncoderPrecision, TopKConfig
from saetrack.sae.dead_features import DeadFeatures, DeadLoss
from saetrack.sae.kernels.sparse import ActivePairs
from saetrack.sae.kernels.top import kth_of_rows, top_pairs
from saetrack.sae.model import SAE
from saetrack.sae.tensor_parallel import ALONE, Ranks

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class TopKSAE(SAE):
    """feature_acts = ReLU(TopK(hidden_pre)), k features of each token."""

    architecture: ClassVar[str] = "topk"

    def __init__(self, d_in: int, d_sae: int, ranks: Ranks = ALONE, *, k: int) -> None:
        super().__init__(d_in, d_sae, ranks)
        self.k = k

    def activate(self, hidden_pre: Float[Tensor, "batch d_sae"]) -> Float[Tensor, "batch d_sae"]:
        """As `SAE` has it."""
        return keep_top(self, torch.relu(hidden_pre), self.k)

    def active_pairs(
        self, x: Float[Tensor, "batch d_in"], precision: EncoderPrecision = "float32"
    ) -> ActivePairs:
        """As `SAE` has it."""
        return top_pairs(self, x, self.k, precision)

    def settings(self) -> dict[str, Any]:
        """As `SAE` has it."""
        return {**super().settings(), "k": self.k}

    def empty(self, d_sae: int, ranks: Ranks = ALONE) -> SAE:
        """As `SAE` has it."""
        return TopKSAE(self.d_in, d_sae, ranks, k=self.k)


def keep_top(
    sae: SAE, values: Float[Tensor, "batch features"], k: int
) -> Float[Tensor, "batch features"]:
    """The k largest values of each row, over all ranks; the others become 0."""
    top = values.topk(min(k, values.shape[1]))
    if sae.ranks.count == 1:
        return torch.zeros_like(values).scatter(1, top.indices, top.values)
    bounds = kth_of_rows(sae, top.values.detach(), k, missing=-torch.inf)[:, None]
    return values.where(values >= bounds, 0.0)


class OfTopK(Objective[OfSAE, TopKConfig]):
    """Squared error of the reconstruction, of every prefix of a matryoshka dictionary.

    Dead features learn the error that the others leave, by their `auxk` largest activations (Gao et
    al. 2024, appendix A.2). The loss is scaled down where fewer are dead, as EleutherAI's and
    SAELens' are. From link to link pass all weights; features that fired on none of the parent's
    held-out tokens count as dead from the first batch on.
    """

    def __init__(self, sae: OfSAE, config: TopKConfig) -> None:
        super().__init__(sae, config)
        if config.auxk_coefficient > 0:
            self.dead_features = DeadFeatures(sae, config.dead_after_tokens)

    @property
    def groups(self) -> list[slice]:
        """As `Objective` has it."""
        return split_at(self.config.matryoshka, self.sae)

    def dead_loss(
        self,
        error: Float[Tensor, "batch d_in"],
        weights: Float[Tensor, " batch"],
        n_dead: int,
    ) -> DeadLoss:
        """As `Objective` has it."""
        auxk = self.config.auxk or max(1, self.sae.d_in // 2)
        scale = self.config.auxk_coefficient * min(n_dead / auxk, 1.0)

        def loss_of(
            tokens: Tensor, hidden_pre: Tensor, rows: Tensor, _threshold: Tensor | None
        ) -> Tensor:
            acts = keep_top(self.sae, hidden_pre, min(auxk, n_dead))
            missing = summed(self.sae, acts @ rows) + error[tokens]
            loss: Tensor = scale * (missing.square().sum(dim=1) * weights[tokens]).sum()
            return loss

        return loss_of


class TopK(OfTopK[TopKSAE]):
    """The objective of a `TopKSAE`."""
