"""The exact gradient of a batch from its active (feature, token) pairs alone.

Of a dictionary with tens of thousands of features, some tens are active on a token; the others
have a gradient of exactly zero. Only the encoder's product has to be dense, to find the active
pairs. Everything else runs over these pairs:

    sae_out_t  = b_dec + sum over f of  a_ft W_dec_f                    (decode)
    da_ft      = <dL/dsae_out_t, W_dec_f> + that of the sparsity term   (dot products)
    dW_dec_f   = sum over t of  a_ft dL/dsae_out_t                      (weighted sums of rows)
    dW_enc_f   = sum over t of  da_ft (x_t - b_dec)
    db_enc_f   = sum over t of  da_ft
    db_dec     = sum over t of  dL/dsae_out_t  -  sum over f of  db_enc_f W_enc_f

On a CPU, `cpu.py` does this in compiled kernels. Otherwise weighted sums are torch's
`embedding_bag`, dot products its `sampled_addmm`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import embedding_bag

from saetrack.sae.config import EncoderPrecision

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
    """The (feature, token) pairs of a batch that are active, feature by feature.

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


def compiled_for(weights: Tensor) -> Any:
    """`saetrack.sae.kernels.cpu`, where numba is installed and can work on these weights.

    Otherwise, and on a GPU, torch's own operations do the same.
    """
    return _compiled() if weights.is_cpu and weights.dtype == torch.float32 else None


@cache
def _compiled() -> Any:
    if find_spec("numba") is None:
        return None
    from saetrack.sae.kernels import cpu

    return cpu


class FeatureGradient(NamedTuple):
    """Gradients of a block of features, each with the features along its first axis."""

    features: slice
    W_enc: Float[Tensor, "features d_in"]
    b_enc: Float[Tensor, " features"]
    W_dec: Float[Tensor, "features d_in"]


def blocks(sae: SAE, features: slice | None = None) -> list[slice]:
    """All features, or some, as slices that are updated at a time; no number depends on them."""
    weights = GPU_BLOCK_WEIGHTS if sae.b_enc.is_cuda else BLOCK_WEIGHTS
    return _slices(features or slice(0, sae.d_sae), weights // sae.d_in)


def _slices(features: slice, size: int) -> list[slice]:
    size = max(1, size)
    starts = range(features.start, features.stop, size)
    return [slice(start, min(start + size, features.stop)) for start in starts]


@torch.no_grad()
def pairs_above(
    sae: SAE,
    x: Float[Tensor, "batch d_in"],
    above: float | Float[Tensor, " d_sae"],
    precision: EncoderPrecision = "float32",
) -> ActivePairs:
    """The pairs whose `hidden_pre` exceeds a bound; all of them never exist at a time.

    Args:
        sae: the weights.
        x: residuals.
        above: the bound, of all features or of each.
        precision: of the dense product. With `bfloat16` it only finds the pairs, whose values are
            then computed in float32. A pair that exceeds the bound by less than the product's
            rounding may be missed, or found and dropped again.
    """
    centred = x - sae.b_dec
    bounds = sae.b_enc.new_zeros(()) + above  # a number does not make the host wait for a GPU
    bounds = bounds.detach().expand(sae.d_sae)
    if (compiled := compiled_for(sae.W_dec)) is not None:
        offsets, features, tokens, values = compiled.search(sae, centred, bounds, precision)
        return ActivePairs(offsets, features, tokens, values, len(x))
    dtype = getattr(torch, precision)
    W, b, xT = sae.W_enc.T.to(dtype), sae.b_enc.to(dtype), centred.to(dtype).T
    pieces = _slices(slice(0, sae.d_sae), PRODUCT_NUMBERS // len(x))
    product = W.new_empty(pieces[0].stop, len(x))
    indices, acts = [], []  # flat, into all (feature, token) pairs
    for features in pieces:
        out = product[: features.stop - features.start]
        torch.addmm(b[features, None], W[features], xT, out=out)
        active = out.gt(bounds[features, None]).view(-1).nonzero().view(-1)
        acts.append(out.view(-1)[active])
        indices.append(active + features.start * len(x))
    index = torch.cat(indices)
    feature = index.div(len(x), rounding_mode="floor")
    pairs = pairs_of(sae, len(x), feature, index - feature * len(x), torch.cat(acts).float())
    if precision == "float32":
        return pairs
    values = dot_products(pairs, sae.W_enc.T, centred) + sae.b_enc[pairs.features]
    return select(sae, replace(pairs, feature_acts=values), values > bounds[pairs.features])


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
    return sae.ranks.all_reduce(_summed_rows(sae, pairs)).add_(sae.b_dec)


@torch.no_grad()
def decode_prefixes(
    sae: SAE, pairs: ActivePairs, groups: list[slice]
) -> list[Float[Tensor, "batch d_in"]]:
    """The reconstructions by the first group of features, by the first two, and so on."""
    summed = [_summed_rows(sae, of_features(pairs, group)) for group in groups]
    sae_outs = [sae.ranks.all_reduce(summed[0]).add_(sae.b_dec)]
    for of_group in summed[1:]:
        sae_outs.append(sae.ranks.all_reduce(of_group).add_(sae_outs[-1]))
    return sae_outs


def of_features(pairs: ActivePairs, features: slice) -> ActivePairs:
    """The pairs of some successive features; no number is copied."""
    if features == slice(0, len(pairs.offsets) - 1):
        return pairs
    first, last = pairs.offsets[[features.start, features.stop]].tolist()
    of_slice = slice(first, last)
    return ActivePairs(
        pairs.offsets.clamp(first, last) - first,
        pairs.features[of_slice],
        pairs.tokens[of_slice],
        pairs.feature_acts[of_slice],
        pairs.batch_tokens,
    )


def _summed_rows(sae: SAE, pairs: ActivePairs) -> Float[Tensor, "batch d_in"]:
    if (compiled := compiled_for(sae.W_dec)) is not None:
        given = pairs.features, pairs.tokens, pairs.feature_acts, pairs.batch_tokens
        summed: Tensor = compiled.summed_rows(sae.W_dec, *given)
        return summed
    tokens, by_token = pairs.tokens.sort(stable=True)
    begins = torch.searchsorted(tokens, torch.arange(pairs.batch_tokens, device=tokens.device))
    return weighted_sums(sae.W_dec, pairs.features[by_token], pairs.feature_acts[by_token], begins)


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
    if (compiled := compiled_for(by_feature)) is not None:
        found: Tensor = compiled.dot_products(pairs.offsets, pairs.tokens, by_feature, by_token)
        return found
    size = (len(by_feature), len(by_token))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        pattern = torch.sparse_csr_tensor(
            pairs.offsets, pairs.tokens, pairs.feature_acts, size, check_invariants=False
        )
    products: Tensor = torch.sparse.sampled_addmm(pattern, by_feature, by_token.T, beta=0.0)
    return products.values()


@dataclass(frozen=True)
class Group:
    """Successive features that answer for the same reconstructions.

    Attributes:
        features: of the group.
        error: gradient of the reconstruction terms by `sae_out`, summed over the reconstructions
            that use the group, (batch, d_in).
    """

    features: slice
    error: Float[Tensor, "batch d_in"]


def acts_gradient(sae: SAE, pairs: ActivePairs, groups: list[Group]) -> Float[Tensor, " pairs"]:
    """Gradient of the reconstruction terms by each pair's activation."""
    return torch.cat(
        [dot_products(of_features(pairs, of.features), sae.W_dec, of.error) for of in groups]
    )


@dataclass(frozen=True)
class SparseGradient:
    """What determines the gradient of one batch, which is autograd's except for rounding.

    Attributes:
        pairs: what was active.
        groups: that cover all features in their order.
        centred: x - b_dec.
        of_acts: gradient of the loss by each pair's activation.
        of_norms: gradient of the loss by each decoder row's norm, if it depends on them.
    """

    pairs: ActivePairs
    groups: list[Group]
    centred: Float[Tensor, "batch d_in"]
    of_acts: Float[Tensor, " pairs"]
    of_norms: Float[Tensor, " d_sae"] | None

    def b_enc(self) -> Float[Tensor, " d_sae"]:
        """Gradient of `b_enc`."""
        return sums_by_feature(self.pairs, self.of_acts)

    @torch.no_grad()
    def blocks(self, sae: SAE) -> Iterator[FeatureGradient]:
        """The gradients, block by block; each may be applied before the next is computed."""
        pairs, b_enc = self.pairs, self.b_enc()
        offsets = pairs.offsets.cpu()  # at once: the host waits for a GPU at each read
        for group in self.groups:
            for features in blocks(sae, group.features):
                first, last = int(offsets[features.start]), int(offsets[features.stop])
                tokens, begins = pairs.tokens[first:last], pairs.offsets[features] - first
                W_dec = weighted_sums(group.error, tokens, pairs.feature_acts[first:last], begins)
                if self.of_norms is not None:
                    rows = sae.W_dec[features]
                    directions = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
                    W_dec.addcmul_(self.of_norms[features, None], directions)
                of_acts = self.of_acts[first:last]
                W_enc = weighted_sums(self.centred, tokens, of_acts, begins)
                yield FeatureGradient(features, W_enc, b_enc[features], W_dec)


def sums_by_feature(pairs: ActivePairs, values: Float[Tensor, " pairs"]) -> Float[Tensor, " d_sae"]:
    """For each feature, the sum of its pairs' values."""
    return torch.segment_reduce(values, "sum", offsets=pairs.offsets)
