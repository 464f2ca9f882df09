"""One exact training step of an SAE, over all of its activations or over the active ones."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from saetrack.sae.adam import Adam
from saetrack.sae.architectures import objective_of
from saetrack.sae.config import EncoderPrecision, ReLUConfig, SAEConfig
from saetrack.sae.dead_features import DeadGradient
from saetrack.sae.kernels.sparse import (
    FeatureGradient,
    Group,
    SparseGradient,
    acts_gradient,
    blocks,
    compiled_for,
    decode_prefixes,
)
from saetrack.sae.loss import Losses, error_weights, losses, weighted_error
from saetrack.utils.timing import part

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from saetrack.sae.kernels.fused import FusedStep
    from saetrack.sae.model import SAE

# Share of active pairs below which the sparse step is faster than the dense one. It decides how
# sums are rounded, so it is a constant: if it were measured, weights would depend on the machine.
SPARSE_BELOW = 0.06


class _Gradient(NamedTuple):
    """Of one batch.

    Attributes:
        losses: the terms.
        features: gradients by the features' weights.
        b_dec: gradient by `b_dec`; from the active pairs without its way through the encoder.
        threshold: gradient by the thresholds, where they are learnt.
        dead: what dead features learn beside.
        n_active: active pairs, of this rank.
        fired: features that were active.
        smallest: smallest activation; infinite if nothing was active.
    """

    losses: Losses
    features: SparseGradient | list[FeatureGradient]
    b_dec: Float[Tensor, " d_in"]
    threshold: Float[Tensor, " d_sae"] | None
    dead: DeadGradient | None
    n_active: int
    fired: Bool[Tensor, " d_sae"]
    smallest: Float[Tensor, ""]


class TrainStep:
    """Forward, backward, projected gradient, Adam, unit rows.

    The dense and the sparse step give the same gradient except for rounding. The density of the
    last batch decides between them: a new ReLU SAE, half of whose pairs are active, starts with
    dense steps; an SAE that starts from its parent takes sparse steps from its first batch on, once
    it has been evaluated (`saetrack.training.link`).

    Attributes:
        sae: in training.
        sae_config: of its architecture, with what it minimises.
        objective: the same at work.
        adam: its moments.
        density: share of (feature, token) pairs that were active in the last batch; before the
            first one, whoever has evaluated the SAE may say it.
        sparse_steps: how many steps were sparse.
    """

    def __init__(
        self,
        sae: SAE,
        sae_config: SAEConfig,
        precision: EncoderPrecision = "float32",
        sparse_below: float = SPARSE_BELOW,
    ) -> None:
        self.sae = sae
        self.sae_config = sae_config
        self.objective = objective_of(sae, sae_config)
        self.adam = Adam(sae)
        self.density = 1.0
        self.sparse_steps = 0
        self._precision: EncoderPrecision = precision
        self._sparse_below = sparse_below
        self._fused: FusedStep | None = None
        # Triton comes with torch's builds for GPUs and is loaded only there.
        alone_on_gpu = sae.ranks.count == 1 and sae.b_enc.is_cuda
        if alone_on_gpu and isinstance(sae_config, ReLUConfig) and find_spec("triton") is not None:
            from saetrack.sae.kernels.fused import FusedStep

            self._fused = FusedStep(sae, sae_config, self.adam, precision)

    def __call__(self, x: Float[Tensor, "batch d_in"], learning_rate: float) -> Losses:
        """Train on one batch of residuals."""
        self.adam.begin_step(learning_rate)
        is_sparse = self.density < self._sparse_below
        self.sparse_steps += is_sparse
        with part("step"):
            if is_sparse and self._fused is not None:
                terms, n_active = self._fused(x)
            else:
                gradient = self._sparse(x) if is_sparse else self._dense(x)
                self._apply(gradient)
                terms, n_active = gradient.losses, gradient.n_active
                self.objective.after_step(gradient.fired, gradient.smallest, len(x))
        ranks = self.sae.ranks
        if ranks.count > 1:
            n_active = int(ranks.all_gather(torch.tensor([n_active], device=x.device)).sum())
        self.density = n_active / (len(x) * self.sae.d_sae * ranks.count)
        return terms

    @torch.no_grad()
    def _sparse(self, x: Float[Tensor, "batch d_in"]) -> _Gradient:
        """Over the active pairs."""
        sae, objective = self.sae, self.objective
        pairs = objective.active_pairs(x, self._precision)
        weights = error_weights(self.sae_config, x)
        errors = [sae_out.sub_(x) for sae_out in decode_prefixes(sae, pairs, objective.groups)]
        reconstruction = torch.stack([weighted_error(weights, of) for of in errors]).sum()
        dead = objective.of_dead(x, errors[-1], weights)
        groups = _groups(objective.groups, errors, weights)
        of_acts = acts_gradient(sae, pairs, groups)
        sparsity, of_norms = objective.sparse_sparsity(pairs, of_acts, groups)
        return _Gradient(
            self._losses(reconstruction, sparsity, dead),
            SparseGradient(pairs, groups, x - sae.b_dec, of_acts, of_norms),
            groups[0].error.sum(dim=0),
            objective.threshold_gradient(),
            dead,
            len(pairs.tokens),
            pairs.offsets.diff() > 0,
            pairs.feature_acts.min() if len(pairs.tokens) else x.new_tensor(torch.inf),
        )

    def _dense(self, x: Float[Tensor, "batch d_in"]) -> _Gradient:
        """Over all activations, by autograd."""
        sae, objective = self.sae, self.objective
        hidden_pre = sae.hidden_pre(x)
        feature_acts = objective.activate(hidden_pre)
        weights = error_weights(self.sae_config, x)
        errors = [
            sae.decode(feature_acts[:, : group.stop], group.stop) - x for group in objective.groups
        ]
        reconstruction = torch.stack([weighted_error(weights, of) for of in errors]).sum()
        sparsity = objective.sparsity(hidden_pre, feature_acts)
        parameters = dict(sae.named_parameters())
        found = torch.autograd.grad(
            reconstruction + sae.ranks.all_reduce(sparsity), list(parameters.values())
        )
        of = dict(zip(parameters, found, strict=True))
        acts = feature_acts.detach()
        dead = objective.of_dead(x, errors[-1].detach(), weights)
        return _Gradient(
            self._losses(reconstruction.detach(), sparsity.detach(), dead),
            [
                FeatureGradient(part, of["W_enc"].T[part], of["b_enc"][part], of["W_dec"][part])
                for part in blocks(sae)
            ],
            of["b_dec"],
            of.get("threshold"),
            dead,
            int((acts > 0).sum()),
            (acts > 0).any(dim=0),
            acts.where(acts > 0, torch.inf).min(),
        )

    def _losses(
        self, reconstruction: Tensor, sparsity: Tensor, dead: DeadGradient | None
    ) -> Losses:
        auxiliary = reconstruction.new_zeros(()) if dead is None else dead.loss
        return losses(reconstruction, self.sae.ranks.all_reduce(sparsity), auxiliary)

    @torch.no_grad()
    def _apply(self, gradient: _Gradient) -> None:
        """Update all parameters."""
        b_dec, threshold, dead = gradient.b_dec, gradient.threshold, gradient.dead
        if isinstance(gradient.features, SparseGradient):
            through_encoder = self._update_sparsely(gradient.features, dead)
            b_dec = b_dec - self.sae.ranks.all_reduce(through_encoder)
        else:
            self._update_blocks(gradient.features, dead)
        if dead is not None:
            b_dec = b_dec + self.sae.ranks.all_reduce(dead.b_dec)
            if threshold is not None and dead.threshold is not None:
                threshold = threshold.index_add(0, dead.features, dead.threshold)
        self.adam.update("b_dec", b_dec)
        if threshold is not None:
            self.adam.update("threshold", threshold)
            self.adam.parameters["threshold"].clamp_(min=0.0)

    def _update_sparsely(
        self, gradient: SparseGradient, dead: DeadGradient | None
    ) -> Float[Tensor, " d_in"]:
        """Update all features; returns the sum of their gradients of b_enc times W_enc^T."""
        sae, pairs = self.sae, gradient.pairs
        compiled = compiled_for(sae.W_dec)
        if compiled is None:
            through_encoder = gradient.b_enc() @ sae.W_enc.T
            self._update_blocks(gradient.blocks(sae), dead)
            return through_encoder
        with part("optimiser"):
            shares: Tensor = compiled.update(
                sae,
                self.adam,
                (pairs.offsets, pairs.tokens, pairs.feature_acts),
                gradient.of_acts,
                gradient.centred,
                [(group.features, group.error) for group in gradient.groups],
                gradient.of_norms,
                dead,
            )
            return shares

    def _update_blocks(
        self, of_blocks: Iterable[FeatureGradient], dead: DeadGradient | None
    ) -> None:
        """Update all features, block by block."""
        for of_block in of_blocks:
            if dead is not None:
                _add_dead(of_block, dead)
            with part("optimiser"):
                self._update_features(of_block)

    def _update_features(self, gradient: FeatureGradient) -> None:
        """Update a block of features.

        Where decoder rows stay on the unit sphere, their gradient is projected on the tangent space
        first, and the rows are divided by their norm afterwards.
        """
        rows = self.sae.W_dec[gradient.features]
        unit_rows = self.sae_config.unit_rows
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
                **dict(self.sae.state_dict()),
                **self.adam.state(),
                **self.objective.state(),
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
        weights = dict(self.sae.state_dict())
        for name, tensor in {**weights, **self.adam.state(), **self.objective.state()}.items():
            if tensors[name].shape != tensor.shape:
                raise ValueError(f"{name} must have the shape {tuple(tensor.shape)}")
        for name, tensor in weights.items():
            tensor.copy_(tensors[name])
        self.adam.load(tensors)
        self.objective.load(tensors)
        self.density = float(tensors["density"])
        self.sparse_steps = int(tensors["sparse_steps"])


def _groups(features: list[slice], errors: list[Tensor], weights: Tensor) -> list[Group]:
    """Each group with the gradient of all reconstructions that use it: its own and the later.

    The errors become the gradients: the memory is used again.
    """
    groups: list[Group] = []
    for of_group, error in zip(reversed(features), reversed(errors), strict=True):
        gradient = error.mul_(2 * weights[:, None])
        if groups:
            gradient += groups[-1].error
        groups.append(Group(of_group, gradient))
    return groups[::-1]


def _add_dead(of_block: FeatureGradient, dead: DeadGradient) -> None:
    """Add what the dead features among a block's learn beside."""
    features = of_block.features
    first, last = torch.searchsorted(
        dead.features, dead.features.new_tensor([features.start, features.stop])
    ).tolist()
    rows = dead.features[first:last] - features.start
    of_block.W_enc.index_add_(0, rows, dead.W_enc[first:last])
    of_block.b_enc.index_add_(0, rows, dead.b_enc[first:last])
    of_block.W_dec.index_add_(0, rows, dead.W_dec[first:last])
