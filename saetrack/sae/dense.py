"""The dense step's gradient, by autograd over all activations of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from saetrack.sae.config import LossConfig
from saetrack.sae.loss import Losses, l1_weights, losses, reconstruction_error

if TYPE_CHECKING:
    from jaxtyping import Float

    from saetrack.sae.model import SAE

# Activations up to which a batch is taken whole: 1 GB an array, of which autograd has three. It
# decides how sums are rounded, so it is a constant.
WHOLE_NUMBERS = 2**28
# Activations of a block, where a batch has more.
BLOCK_NUMBERS = 2**26


class DenseGradient(NamedTuple):
    """The loss on one batch and its gradient, each shaped as its parameter; active pairs."""

    losses: Losses
    n_active: int
    W_enc: Float[Tensor, "d_in d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_in"]
    b_dec: Float[Tensor, " d_in"]


def dense_gradient(
    sae: SAE, loss_config: LossConfig, x: Float[Tensor, "batch d_in"]
) -> DenseGradient:
    """By autograd; of more than `WHOLE_NUMBERS` activations in blocks of tokens."""
    if len(x) * sae.d_sae > WHOLE_NUMBERS:
        return _in_blocks(sae, loss_config, x)
    feature_acts = sae.encode(x)
    terms = losses(loss_config, sae, x, feature_acts, sae.decode(feature_acts))
    gradients = torch.autograd.grad(terms.loss, _parameters(sae))
    return DenseGradient(_detached(terms), int((feature_acts > 0).sum()), *gradients)


def _in_blocks(sae: SAE, loss_config: LossConfig, x: Float[Tensor, "batch d_in"]) -> DenseGradient:
    """Twice over the tokens: the loss needs the whole reconstruction before it has a gradient."""
    blocks = x.split(max(1, BLOCK_NUMBERS // sae.d_sae))
    with torch.no_grad():
        sae_out = torch.cat([sae.decode(sae.encode(tokens)) for tokens in blocks])
    reconstruction = reconstruction_error(loss_config, x, sae_out.requires_grad_())
    (error,) = torch.autograd.grad(reconstruction, sae_out)
    total: tuple[Tensor, ...] = ()
    l1, n_active = torch.zeros((), device=x.device), 0
    for tokens, of_tokens in zip(blocks, error.split(len(blocks[0])), strict=True):
        feature_acts = sae.encode(tokens)
        of_block = (feature_acts @ l1_weights(loss_config, sae)).sum() / len(x)
        # Its gradient is that of the loss: `error` is the loss' own by the reconstruction.
        along = (sae.decode(feature_acts) * of_tokens).sum() + loss_config.l1_coefficient * of_block
        gradients = torch.autograd.grad(along, _parameters(sae))
        total = tuple(map(Tensor.add_, total, gradients)) if total else gradients
        l1 += of_block.detach()
        n_active += int((feature_acts > 0).sum())
    l1 = sae.ranks.all_reduce(l1)
    terms = Losses(reconstruction + loss_config.l1_coefficient * l1, reconstruction, l1)
    return DenseGradient(_detached(terms), n_active, *total)


def _parameters(sae: SAE) -> tuple[Tensor, ...]:
    return sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec


def _detached(terms: Losses) -> Losses:
    return Losses(*(term.detach() for term in terms))
