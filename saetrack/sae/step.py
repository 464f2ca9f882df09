"""One exact training step of an SAE, over all of its activations or over the active ones."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saetrack.sae.adam import Adam
from saetrack.sae.config import EncoderPrecision, LossConfig
from saetrack.sae.dense import dense_gradient
from saetrack.sae.kernels.sparse import FeatureGradient, blocks, sparse_gradient
from saetrack.sae.loss import Losses
from saetrack.utils.timing import part

if TYPE_CHECKING:
    from jaxtyping import Float

    from saetrack.sae.kernels.fused import FusedStep
    from saetrack.sae.model import SAE

# Share of active pairs below which the sparse step is faster than the dense one. It decides how
# sums are rounded, so it is a constant: if it were measured, weights would depend on the machine.
SPARSE_BELOW = 0.06


class TrainStep:
    """Forward, backward, projected gradient, Adam, unit rows.

    The dense and the sparse step give the same gradient except for rounding. The density of the
    last batch decides between them: a new SAE, half of whose pairs are active, starts with dense
    steps; one that starts from its parent takes sparse steps from its first batch on, once it has
    been evaluated (`saetrack.training.link`).

    Attributes:
        sae: in training.
        loss_config: what it minimises.
        adam: its moments.
        density: share of (feature, token) pairs that were active in the last batch; before the
            first one, whoever has evaluated the SAE may say it.
        sparse_steps: how many steps were sparse.
    """

    def __init__(
        self,
        sae: SAE,
        loss_config: LossConfig,
        precision: EncoderPrecision = "float32",
        sparse_below: float = SPARSE_BELOW,
    ) -> None:
        self.sae = sae
        self.loss_config = loss_config
        self.adam = Adam(sae)
        self.density = 1.0
        self.sparse_steps = 0
        self._precision: EncoderPrecision = precision
        self._sparse_below = sparse_below
        self._fused: FusedStep | None = None
        # Triton comes with torch's builds for GPUs and is loaded only there.
        if sae.ranks.count == 1 and sae.b_enc.is_cuda and find_spec("triton") is not None:
            from saetrack.sae.kernels.fused import FusedStep

            self._fused = FusedStep(sae, loss_config, self.adam, precision)

    def __call__(self, x: Float[Tensor, "batch d_in"], learning_rate: float) -> Losses:
        """Train on one batch of residuals."""
        self.adam.begin_step(learning_rate)
        step = self._sparse if self.density < self._sparse_below else self._dense
        with part("step"):
            terms, n_active = step(x)
        ranks = self.sae.ranks
        if ranks.count > 1:
            n_active = int(ranks.all_gather(torch.tensor([n_active], device=x.device)).sum())
        self.density = n_active / (len(x) * self.sae.d_sae * ranks.count)
        return terms

    def _sparse(self, x: Float[Tensor, "batch d_in"]) -> tuple[Losses, int]:
        """Over the active pairs; the losses, and how many pairs were active."""
        self.sparse_steps += 1
        if self._fused is not None:
            return self._fused(x)
        gradient = sparse_gradient(self.sae, self.loss_config, x, self._precision)
        for of_block in gradient.blocks():
            with part("optimiser"):
                self._update_features(of_block)
        self.adam.update("b_dec", gradient.b_dec)
        return gradient.losses, len(gradient.pairs.tokens)

    def _dense(self, x: Float[Tensor, "batch d_in"]) -> tuple[Losses, int]:
        """Over all activations, by autograd; returns as `_sparse` does."""
        gradient = dense_gradient(self.sae, self.loss_config, x)
        W_enc, b_enc, W_dec = gradient.W_enc.T, gradient.b_enc, gradient.W_dec
        for features in blocks(self.sae):
            of_block = FeatureGradient(features, W_enc[features], b_enc[features], W_dec[features])
            with part("optimiser"):
                self._update_features(of_block)
        self.adam.update("b_dec", gradient.b_dec)
        return gradient.losses, gradient.n_active

    @torch.no_grad()
    def _update_features(self, gradient: FeatureGradient) -> None:
        """Update a block of features.

        With the unit penalty, decoder rows stay on the unit sphere: their gradient is projected on
        the tangent space first, and the rows are divided by their norm afterwards.
        """
        rows = self.sae.W_dec[gradient.features]
        unit_rows = self.loss_config.penalty == "unit_decoder"
        if unit_rows:
            along = (gradient.W_dec * rows).sum(dim=1, keepdim=True)
            gradient.W_dec.addcmul_(along, rows, value=-1)
        self.adam.update("W_dec", gradient.W_dec, gradient.features)
        if unit_rows:
            self.sae.normalise_decoder(gradient.features)
        self.adam.update("W_enc", gradient.W_enc, gradient.features)
        self.adam.update("b_enc", gradient.b_enc, gradient.features)

    def state(self) -> dict[str, Tensor]:
        """Weights, moments and counters, for `load`; with several ranks, the whole is on rank 0.

        It does not depend on the number of ranks: training may go on with another number.
        """
        return self.sae.ranks.unshard(
            {
                **dict(self.sae.named_parameters()),
                **self.adam.state(),
                "density": torch.tensor(self.density, dtype=torch.float64),
                "sparse_steps": torch.tensor(self.sparse_steps),
            }
        )

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a `state`.

        Raises:
            ValueError: a tensor of it has a wrong shape.
        """
        tensors = self.sae.ranks.shard(tensors)
        own = {**dict(self.sae.named_parameters()), **self.adam.state()}
        for name, tensor in own.items():
            if tensors[name].shape != tensor.shape:
                raise ValueError(f"{name} must have the shape {tuple(tensor.shape)}")
        for name, parameter in self.sae.named_parameters():
            parameter.copy_(tensors[name])
        self.adam.load(tensors)
        self.density = float(tensors["density"])
        self.sparse_steps = int(tensors["sparse_steps"])
