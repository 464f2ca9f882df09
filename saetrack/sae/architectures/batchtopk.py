"""BatchTopK: the k times batch largest pairs fire (Bussmann et al. 2024, arXiv:2412.06410)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from saetrack.sae.architectures.topk import OfTopK
from saetrack.sae.config import BatchTopKConfig, EncoderPrecision, TopKConfig
from saetrack.sae.kernels.sparse import ActivePairs, pairs_above
from saetrack.sae.kernels.top import batch_bound, batch_top_pairs, nth_largest
from saetrack.sae.model import SAE
from saetrack.sae.tensor_parallel import ALONE, Ranks

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

# Tokens of which the threshold of a new SAE is that of a batch.
FIRST_TOKENS = 256


class BatchTopKSAE(SAE):
    """Once training is over, features fire above one threshold.

    Attributes:
        topk_threshold: the running mean of the batches' smallest firing activations, ().
    """

    architecture: ClassVar[str] = "batchtopk"
    topk_threshold: Tensor

    def __init__(self, d_in: int, d_sae: int, ranks: Ranks = ALONE) -> None:
        super().__init__(d_in, d_sae, ranks)
        self.register_buffer("topk_threshold", torch.zeros(()))

    def activate(self, hidden_pre: Float[Tensor, "batch d_sae"]) -> Float[Tensor, "batch d_sae"]:
        """As `SAE` has it."""
        return torch.relu(hidden_pre) * (hidden_pre > self.topk_threshold)

    def active_pairs(
        self, x: Float[Tensor, "batch d_in"], precision: EncoderPrecision = "float32"
    ) -> ActivePairs:
        """As `SAE` has it."""
        return pairs_above(self, x, self.topk_threshold, precision)

    def empty(self, d_sae: int, ranks: Ranks = ALONE) -> SAE:
        """As `SAE` has it."""
        return BatchTopKSAE(self.d_in, d_sae, ranks)

    @torch.no_grad()
    def scale_biases(self, growth: float) -> None:
        """As `SAE` has it."""
        super().scale_biases(growth)
        self.topk_threshold.mul_(growth)


class BatchTopK(OfTopK[BatchTopKSAE]):
    """The objective of a `BatchTopKSAE`: that of TopK, with k on average over a batch.

    From link to link the threshold passes too.
    """

    by_token = False

    def __init__(self, sae: BatchTopKSAE, config: TopKConfig) -> None:
        super().__init__(sae, config)
        assert isinstance(config, BatchTopKConfig)
        self._rate = config.threshold_rate

    def see_first(
        self,
        x: Float[Tensor, "tokens d_in"],
        mean_distance: float,  # noqa: ARG002
        *,
        is_new: bool,
    ) -> None:
        """A new SAE's threshold is that of its first tokens."""
        if is_new:
            first = x[:FIRST_TOKENS]
            bound = batch_bound(self.sae, first, self.config.k * len(first))
            self.sae.topk_threshold.fill_(bound)

    def activate(self, hidden_pre: Float[Tensor, "batch d_sae"]) -> Float[Tensor, "batch d_sae"]:
        """As `Objective` has it."""
        acts = torch.relu(hidden_pre)
        bound = nth_largest(self.sae, acts.detach().flatten(), self.config.k * len(acts))
        return acts * (acts >= bound)

    def active_pairs(
        self, x: Float[Tensor, "batch d_in"], precision: EncoderPrecision
    ) -> ActivePairs:
        """As `Objective` has it."""
        return batch_top_pairs(self.sae, x, self.config.k * len(x), precision)

    def after_step(
        self, fired: Bool[Tensor, " d_sae"], smallest: Tensor, batch_tokens: int
    ) -> None:
        """As `Objective` has it; moves the threshold."""
        super().after_step(fired, smallest, batch_tokens)
        threshold = self.sae.topk_threshold
        of_all = self.sae.ranks.all_gather(smallest.view(1)).min()
        threshold.lerp_(of_all.where(of_all.isfinite(), threshold), self._rate)
