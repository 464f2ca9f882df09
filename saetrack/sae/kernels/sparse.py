"""The exact gradient of a batch from its active (feature, token) pairs alone.

Of a ReLU dictionary with tens of thousands of features, some tens are active on a token; the others
have a gradient of exactly zero. Only the encoder's product has to be dense, to find the active
pairs. Everything else runs over these pairs:

    sae_out_t  = b_dec + sum over f of  a_ft W_dec_f                    (decode)
    da_ft      = <dL/dsae_out_t, W_dec_f> + weight of a_ft in the L1    (dot products)
    dW_dec_f   = sum over t of  a_ft dL/dsae_out_t                      (weighted sums of rows)
    dW_enc_f   = sum over t of  da_ft (x_t - b_dec)
    db_enc_f   = sum over t of  da_ft
    db_dec     = sum over t of  dL/dsae_out_t  -  sum over f of  db_enc_f W_enc_f

Weighted sums are torch's `embedding_bag`, dot products its `sampled_addmm`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import embedding_bag

from saetrack.sae.config import EncoderPrecision, LossConfig
from saetrack.sae.loss import Losses, l1_weights, reconstruction_error

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from saetrack.sae.model import SAE

# Weights of the features that are updated at a time: with moments and gradient, a few MB, which
# stay in a processor's cache.
BLOCK_WEIGHTS = 2**18

# The same on a GPU, whose host starts each block's kernels: few blocks, of 64 MB in float32.
GPU_BLOCK_WEIGHTS = 2**24

# Numbers of the encoder's product that exist at a time, 32 MB in float32. Smaller parts would stay
# in the cache, but their products take longer: 10 % at 256 of 16,384 features, measured.
PRODUCT_NUMBERS = 2**23


@dataclass(frozen=True)
class ActivePairs:
    """The pairs of a batch whose activation is positive, feature by feature.

    Attributes:
        offsets: where each feature's pairs begin, and the end of the last, (d_sae + 1,).
        features: of each pair, ascending, (pairs,).
        tokens: of each pair, ascending within a feature, (pairs,).
        feature_acts: of each pair, (pairs,).
        batch_tokens: tokens of the batch.
    """

    offsets: Int[Tensor, " d_sae_and_one"]
    features: Int[Tensor, " pairs"]
    tokens: Int[Tensor, " pairs"]
    feature_acts: Float[Tensor, " pairs"]
    batch_tokens: int


class FeatureGradient(NamedTuple):
    """Gradients of a block of features, each with the features along its first axis."""

    features: slice
    W_enc: Float[Tensor, "features d_in"]
    b_enc: Float[Tensor, " features"]
    W_dec: Float[Tensor, "features d_in"]


def blocks(sae: SAE) -> list[slice]:
    """All features as slices that are updated at a time; no number depends on their size."""
    weights = GPU_BLOCK_WEIGHTS if sae.b_enc.is_cuda else BLOCK_WEIGHTS
    return _slices(sae.d_sae, weights // sae.d_in)


def _slices(d_sae: int, size: int) -> list[slice]:
    size = max(1, size)
    return [slice(start, min(start + size, d_sae)) for start in range(0, d_sae, size)]


@torch.no_grad()
def active_pairs(
    sae: SAE, x: Float[Tensor, "batch d_in"], precision: EncoderPrecision = "float32"
) -> ActivePairs:
    """Encode (Eq 11) and keep what is active; the dense activations never exist as a whole.

    Args:
        sae: the weights.
        x: residuals.
        precision: of the dense product. With `bfloat16` it only finds the active pairs, whose
            activations are then computed in float32. A pair whose activation is smaller than the
            product's rounding may be missed, or found and dropped again.
    """
    centred = x - sae.b_dec
    dtype = getattr(torch, precision)
    W, b, xT = sae.W_enc.T.to(dtype), sae.b_enc.to(dtype), centred.to(dtype).T
    pieces = _slices(sae.d_sae, PRODUCT_NUMBERS // len(x))
    product = W.new_empty(pieces[0].stop, len(x))
    indices, acts = [], []  # flat, into all (feature, token) pairs
    for features in pieces:
        out = product[: features.stop - features.start]
        flat = torch.addmm(b[features, None], W[features], xT, out=out).view(-1)
        active = flat.gt(0).nonzero().view(-1)
        acts.append(flat[active])
        indices.append(active + features.start * len(x))
    index = torch.cat(indices)
    feature = index.div(len(x), rounding_mode="floor")
    pairs = pairs_of(sae, len(x), feature, index - feature * len(x), torch.cat(acts).float())
    if precision == "float32":
        return pairs
    feature_acts = dot_products(pairs, sae.W_enc.T, centred) + sae.b_enc[pairs.features]
    return select(sae, replace(pairs, feature_acts=feature_acts), feature_acts > 0)


def select(sae: SAE, pairs: ActivePairs, wanted: Bool[Tensor, " pairs"]) -> ActivePairs:
    """Some of the pairs."""
    chosen = wanted.nonzero().view(-1)  # once: a GPU's host waits for each
    return pairs_of(
        sae,
        pairs.batch_tokens,
        pairs.features[chosen],
        pairs.tokens[chosen],
        pairs.feature_acts[chosen],
    )


def pairs_of(
    sae: SAE,
    batch_tokens: int,
    features: Int[Tensor, " pairs"],
    tokens: Int[Tensor, " pairs"],
    feature_acts: Float[Tensor, " pairs"],
) -> ActivePairs:
    """Pairs in the order of `ActivePairs`, with where each feature's begin."""
    # Not by `bincount`, for whose size a GPU's host would wait.
    counts = features.new_zeros(sae.d_sae + 1)
    counts.scatter_add_(0, features + 1, torch.ones_like(features))
    return ActivePairs(counts.cumsum(0), features, tokens, feature_acts, batch_tokens)


@torch.no_grad()
def decode_pairs(sae: SAE, pairs: ActivePairs) -> Float[Tensor, "batch d_in"]:
    """Reconstruction (Eq 12): of each token, the weighted sum of its active features' rows."""
    tokens, by_token = pairs.tokens.sort(stable=True)
    begins = torch.searchsorted(tokens, torch.arange(pairs.batch_tokens, device=tokens.device))
    summed = weighted_sums(
        sae.W_dec, pairs.features[by_token], pairs.feature_acts[by_token], begins
    )
    return sae.ranks.all_reduce(summed).add_(sae.b_dec)


def weighted_sums(
    rows: Float[Tensor, "rows d_in"],
    chosen: Int[Tensor, " terms"],
    weights: Float[Tensor, " terms"],
    begins: Int[Tensor, " sums"],
) -> Float[Tensor, "sums d_in"]:
    """Sums of chosen rows times weights; each sum's terms begin where `begins` says."""
    sums: Tensor = embedding_bag(chosen, rows, begins, mode="sum", per_sample_weights=weights)
    return sums


def dot_products(
    pairs: ActivePairs,
    by_feature: Float[Tensor, "d_sae d_in"],
    by_token: Float[Tensor, "batch d_in"],
) -> Float[Tensor, " pairs"]:
    """Of each pair, its feature's row times its token's row."""
    size = (len(by_feature), len(by_token))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        pattern = torch.sparse_csr_tensor(
            pairs.offsets, pairs.tokens, pairs.feature_acts, size, check_invariants=False
        )
    products: Tensor = torch.sparse.sampled_addmm(pattern, by_feature, by_token.T, beta=0.0)
    return products.values()


@dataclass(frozen=True)
class SparseGradient:
    """Losses and gradients of one batch; gradients as large as the dictionary come in blocks.

    Attributes:
        losses: the terms of the loss.
        pairs: what was active.
        b_enc: gradient of `b_enc`, (d_sae,).
        b_dec: gradient of `b_dec`, (d_in,).
    """

    losses: Losses
    pairs: ActivePairs
    b_enc: Float[Tensor, " d_sae"]
    b_dec: Float[Tensor, " d_in"]
    _centred: Float[Tensor, "batch d_in"]
    _error: Float[Tensor, "batch d_in"]
    _acts_gradient: Float[Tensor, " pairs"]
    _norm_gradient: Float[Tensor, " d_sae"] | None
    _sae: SAE

    @torch.no_grad()
    def blocks(self) -> Iterator[FeatureGradient]:
        """The gradients, block by block; each may be applied before the next is computed."""
        pairs = self.pairs
        offsets = pairs.offsets.cpu()  # at once: the host waits for a GPU at each read
        for features in blocks(self._sae):
            first, last = int(offsets[features.start]), int(offsets[features.stop])
            tokens, begins = pairs.tokens[first:last], pairs.offsets[features] - first
            W_dec = weighted_sums(self._error, tokens, pairs.feature_acts[first:last], begins)
            if self._norm_gradient is not None:
                rows = self._sae.W_dec[features]
                directions = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
                W_dec.addcmul_(self._norm_gradient[features, None], directions)
            W_enc = weighted_sums(self._centred, tokens, self._acts_gradient[first:last], begins)
            yield FeatureGradient(features, W_enc, self.b_enc[features], W_dec)


@torch.no_grad()
def sparse_gradient(
    sae: SAE,
    loss_config: LossConfig,
    x: Float[Tensor, "batch d_in"],
    precision: EncoderPrecision = "float32",
) -> SparseGradient:
    """The loss on one batch and its gradient, which is autograd's except for rounding."""
    pairs = active_pairs(sae, x, precision)
    sae_out = decode_pairs(sae, pairs)
    with torch.enable_grad():
        reconstruction = reconstruction_error(loss_config, x, sae_out.requires_grad_())
        (error,) = torch.autograd.grad(reconstruction, sae_out)
    weights = l1_weights(loss_config, sae)
    l1_scale = loss_config.l1_coefficient / len(x)
    summed_acts = sums_by_feature(pairs, pairs.feature_acts)
    l1 = sae.ranks.all_reduce(summed_acts @ weights / len(x))
    acts_gradient = dot_products(pairs, sae.W_dec, error)
    acts_gradient += (l1_scale * weights)[pairs.features]
    b_enc = sums_by_feature(pairs, acts_gradient)
    reconstruction = reconstruction.detach()
    return SparseGradient(
        losses=Losses(reconstruction + loss_config.l1_coefficient * l1, reconstruction, l1),
        pairs=pairs,
        b_enc=b_enc,
        b_dec=error.sum(dim=0) - sae.ranks.all_reduce(b_enc @ sae.W_enc.T),
        _centred=x - sae.b_dec,
        _error=error,
        _acts_gradient=acts_gradient,
        _norm_gradient=l1_scale * summed_acts if loss_config.penalty == "decoder_norm" else None,
        _sae=sae,
    )


def sums_by_feature(pairs: ActivePairs, values: Float[Tensor, " pairs"]) -> Float[Tensor, " d_sae"]:
    """For each feature, the sum of its pairs' values."""
    return torch.segment_reduce(values, "sum", offsets=pairs.offsets)
