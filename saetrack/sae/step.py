"""One exact training step of an SAE, over all of its activations or over the active ones."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saetrack.sae.adam import Adam
from saetrack.sae.kernels.sparse import EncoderPrecision, FeatureGradient, blocks, sparse_gradient
from saetrack.sae.loss import LossConfig, Losses, losses
from saetrack.utils.timing import part

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from saetrack.sae.kernels.fused import FusedStep
    from saetrack.sae.model import SAE

# Share of active pairs below which the sparse step is the faster one. It decides how sums are
# rounded, so it is a constant: a measurement here would make weights depend on the machine.
SPARSE_BELOW = 0.06


class TrainStep:
    """Forward, backward, projected gradient, Adam, unit rows.

    Both ways give the same gradient (to rounding). The last batch's density chooses: a fresh SAE,
    half of whose pairs are active, starts dense, a warm one is sparse from its second batch on.

    Attributes:
        sae: in training.
        loss_config: what it minimises.
        adam: its moments.
        density: share of the last batch's (feature, token) pairs that were active.
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
            terms, active_tokens, active = step(x)
        self.density = active / (len(x) * self.sae.d_sae)
        if self.sae.ranks.count > 1:
            self.density = float(self.sae.ranks.all_gather(active_tokens).sum()) / (
                len(x) * self.sae.d_sae * self.sae.ranks.count
            )
        return terms

    def _sparse(self, x: Float[Tensor, "batch d_in"]) -> tuple[Losses, Int[Tensor, " d_sae"], int]:
        """Over the active pairs; losses, tokens on which each feature was active, their sum."""
        self.sparse_steps += 1
        if self._fused is not None:
            return self._fused(x)
        gradient = sparse_gradient(self.sae, self.loss_config, x, self._precision)
        for of_block in gradient.blocks():
            with part("optimiser"):
                self._update_features(of_block)
        self.adam.update("b_dec", gradient.b_dec)
        return gradient.losses, gradient.pairs.offsets.diff(), len(gradient.pairs.tokens)

    def _dense(self, x: Float[Tensor, "batch d_in"]) -> tuple[Losses, Int[Tensor, " d_sae"], int]:
        """Over all activations, by autograd; returns as `_sparse` does."""
        sae = self.sae
        feature_acts = sae.encode(x)
        terms = losses(self.loss_config, sae, x, feature_acts, sae.decode(feature_acts))
        W_enc, b_enc, W_dec, b_dec = torch.autograd.grad(
            terms.loss, (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec)
        )
        for features in blocks(sae):
            of_block = FeatureGradient(
                features, W_enc.T[features], b_enc[features], W_dec[features]
            )
            with part("optimiser"):
                self._update_features(of_block)
        self.adam.update("b_dec", b_dec)
        active_tokens = (feature_acts > 0).sum(dim=0)
        return Losses(*(term.detach() for term in terms)), active_tokens, int(active_tokens.sum())

    @torch.no_grad()
    def _update_features(self, gradient: FeatureGradient) -> None:
        """Bring a block of features forward; with the unit penalty, on the sphere.

        There each decoder row's gradient loses its part along the row: norms are not the loss's to
        move. With free norms nothing is to be projected.
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
        """Weights, moments and counters, for `load`; of several ranks, the whole on rank 0.

        The number of ranks is not in it: another number may go on.
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
        """Go on with weights, moments and counters of another step: see `state`.

        Raises:
            ValueError: they are of another shape.
        """
        tensors = self.sae.ranks.shard(tensors)
        own = {**dict(self.sae.named_parameters()), **self.adam.state()}
        for name, tensor in own.items():
            if tensors[name].shape != tensor.shape:
                raise ValueError(f"{name} has another shape than {tuple(tensor.shape)}")
        for name, parameter in self.sae.named_parameters():
            parameter.copy_(tensors[name])
        self.adam.load(tensors)
        self.density = float(tensors["density"])
        self.sparse_steps = int(tensors["sparse_steps"])
