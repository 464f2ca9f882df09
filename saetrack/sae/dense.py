"""The dense step's gradient, by autograd over all activations of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from saetrack.sae.loss import weighted_error

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from saetrack.sae.architectures import Objective

# Activations up to which a batch is taken whole: 1 GB an array, of which autograd has three. It
# decides how sums are rounded, so it is a constant.
WHOLE_NUMBERS = 2**28
# Activations of a block, where a batch has more.
BLOCK_NUMBERS = 2**26


class DenseGradient(NamedTuple):
    """The loss of one batch, without what dead features have beside, and its gradient.

    Attributes:
        reconstruction: its term.
        sparsity: its term, this rank's part.
        gradients: by each parameter.
        error: sae_out - x.
        n_active: active pairs.
        fired: features that were active.
        smallest: smallest activation; infinite if nothing was active.
    """

    reconstruction: Float[Tensor, ""]
    sparsity: Float[Tensor, ""]
    gradients: dict[str, Tensor]
    error: Float[Tensor, "batch d_in"]
    n_active: int
    fired: Bool[Tensor, " d_sae"]
    smallest: Float[Tensor, ""]


class _Part(NamedTuple):
    """As `DenseGradient`, of some tokens; `n_active` is still on the device."""

    reconstruction: Tensor
    sparsity: Tensor
    gradients: tuple[Tensor, ...]
    error: Tensor
    n_active: Tensor
    fired: Tensor
    smallest: Tensor


def dense_gradient(
    objective: Objective[Any, Any],
    x: Float[Tensor, "batch d_in"],
    weights: Float[Tensor, " batch"],
) -> DenseGradient:
    """By autograd; of more than `WHOLE_NUMBERS` activations in blocks of tokens.

    Args:
        objective: of the SAE in training.
        x: residuals.
        weights: of each token's squared error.
    """
    sae = objective.sae
    is_whole = len(x) * sae.d_sae <= WHOLE_NUMBERS or not objective.by_token
    rows = len(x) if is_whole else max(1, BLOCK_NUMBERS // sae.d_sae)
    total, errors = None, []
    for tokens, of_tokens in zip(x.split(rows), weights.split(rows), strict=True):
        part = _part(objective, tokens, of_tokens, len(tokens) / len(x))
        errors.append(part.error)
        total = part if total is None else _sum(total, part)
    assert total is not None
    names = dict(sae.named_parameters())
    return DenseGradient(
        total.reconstruction,
        total.sparsity,
        dict(zip(names, total.gradients, strict=True)),
        torch.cat(errors) if len(errors) > 1 else errors[0],
        int(total.n_active),
        total.fired,
        total.smallest,
    )


def _part(objective: Objective[Any, Any], x: Tensor, weights: Tensor, share: float) -> _Part:
    """Of some tokens, a share of the batch."""
    sae = objective.sae
    hidden_pre = sae.hidden_pre(x)
    feature_acts = objective.activate(hidden_pre)
    errors = [
        sae.decode(feature_acts[:, : group.stop], group.stop) - x for group in objective.groups
    ]
    reconstruction = torch.stack([weighted_error(weights, error) for error in errors]).sum()
    sparsity = share * objective.sparsity(hidden_pre, feature_acts)
    gradients = torch.autograd.grad(
        reconstruction + sae.ranks.all_reduce(sparsity), list(sae.parameters())
    )
    acts = feature_acts.detach()
    is_active = acts > 0
    return _Part(
        reconstruction.detach(),
        sparsity.detach(),
        gradients,
        errors[-1].detach(),
        is_active.sum(),
        is_active.any(dim=0),
        acts.where(is_active, torch.inf).min(),
    )


def _sum(total: _Part, part: _Part) -> _Part:
    return _Part(
        total.reconstruction + part.reconstruction,
        total.sparsity + part.sparsity,
        tuple(map(Tensor.add_, total.gradients, part.gradients)),
        part.error,
        total.n_active + part.n_active,
        total.fired | part.fired,
        torch.minimum(total.smallest, part.smallest),
    )
