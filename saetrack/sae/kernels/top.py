"""The largest activations of each token, or of a batch, without holding all activations.

A few tokens are encoded whole first. They show above which bound the wanted pairs lie; then one
pass finds all pairs above it. Where that bound was too high, the rest is encoded again, so that the
result does not depend on the guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from saetrack.sae.kernels.sparse import ActivePairs, pairs_above, pairs_of, select

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.sae.config import EncoderPrecision
    from saetrack.sae.model import SAE

# Tokens that are encoded whole to guess the bound.
PROBE_TOKENS = 64

# Share of tokens whose bound may turn out too high: these are encoded once more.
SHORT_SHARE = 0.03

# A batch's bound is guessed by this share of that of the probe.
CAUTION = 0.8

# Activations that exist at a time where tokens are encoded whole, 128 MB.
DENSE_NUMBERS = 2**25


@torch.no_grad()
def top_pairs(
    sae: SAE, x: Float[Tensor, "batch d_in"], k: int, precision: EncoderPrecision = "float32"
) -> ActivePairs:
    """Of each token the `k` largest pairs, if they are positive (Gao et al. 2024, section 2.3)."""
    probe = x[:: max(1, len(x) // PROBE_TOKENS)]
    smallest = _top_values(sae, probe, k).sort().values
    above = max(0.0, float(smallest[int(SHORT_SHARE * len(smallest))]) * (1 - 2**-10))
    pairs = pairs_above(sae, x, above, precision)
    if above > 0:
        counts = torch.bincount(pairs.tokens, minlength=len(x))
        short = (sae.ranks.all_reduce(counts) < k).nonzero().view(-1)
        if len(short):
            pairs = _with_whole_tokens(sae, x, pairs, short, k)
    return select(sae, pairs, pairs.feature_acts >= _bounds(sae, pairs, k)[pairs.tokens])


@torch.no_grad()
def batch_top_pairs(
    sae: SAE, x: Float[Tensor, "batch d_in"], count: int, precision: EncoderPrecision = "float32"
) -> ActivePairs:
    """The `count` largest pairs of a batch, if they are positive (Bussmann et al. 2024)."""
    probe = x[:: max(1, len(x) // PROBE_TOKENS)]
    above = CAUTION * batch_bound(sae, probe, count * len(probe) // len(x))
    while True:
        pairs = pairs_above(sae, x, above, precision)
        found = sae.ranks.all_reduce(torch.tensor(len(pairs.tokens), device=x.device))
        if above <= 0 or int(found) >= count:
            return largest(sae, pairs, count)
        above = above / 2 if above > 2**-10 * CAUTION else 0.0


@torch.no_grad()
def batch_bound(sae: SAE, x: Float[Tensor, "batch d_in"], count: int) -> float:
    """The smallest of a batch's `count` largest activations; 0 if fewer are positive.

    Args:
        sae: the weights.
        x: few tokens, which are encoded whole.
        count: pairs.
    """
    return float(nth_largest(sae, sae.hidden_pre(x).relu().flatten(), max(count, 1)))


def largest(sae: SAE, pairs: ActivePairs, count: int) -> ActivePairs:
    """The `count` pairs of the largest activations, among those of all ranks."""
    return select(sae, pairs, pairs.feature_acts >= nth_largest(sae, pairs.feature_acts, count))


def nth_largest(sae: SAE, values: Float[Tensor, " values"], n: int) -> Float[Tensor, ""]:
    """The n-th largest of the values of all ranks, 0 if there are fewer; none is negative."""
    top = values.topk(min(n, len(values)), sorted=False).values
    tops = sae.ranks.all_gather(pad(top, (0, n - len(top))))
    return tops.topk(n, sorted=False).values.min()


def kth_of_rows(
    sae: SAE, top: Float[Tensor, "tokens up_to_k"], k: int, missing: float = 0.0
) -> Float[Tensor, " tokens"]:
    """The k-th largest value of each token over all ranks, from the largest of this rank.

    Args:
        sae: of these ranks.
        top: the k largest of this rank, or all that it has.
        k: counted from the largest.
        missing: stands for values where there are fewer.
    """
    padded = pad(top, (0, k - top.shape[1]), value=missing)
    of_ranks = sae.ranks.all_gather(padded).view(-1, *padded.shape)
    return of_ranks.movedim(0, 1).flatten(1).topk(k, sorted=False).values.min(dim=1).values


def _top_values(sae: SAE, x: Float[Tensor, "tokens d_in"], k: int) -> Float[Tensor, " tokens"]:
    """The k-th largest positive activation of each token, 0 where there are fewer."""
    acts = sae.hidden_pre(x).relu()
    return kth_of_rows(sae, acts.topk(min(k, sae.d_sae), sorted=False).values, k)


def _bounds(sae: SAE, pairs: ActivePairs, k: int) -> Float[Tensor, " batch"]:
    """The k-th largest activation of each token among its pairs, 0 where there are fewer."""
    tokens, by_token = pairs.tokens.sort(stable=True)
    counts = torch.bincount(tokens, minlength=pairs.batch_tokens)
    rank = torch.arange(len(tokens), device=tokens.device) - (counts.cumsum(0) - counts)[tokens]
    width = max(k, int(counts.max()))
    acts = pairs.feature_acts.new_zeros(pairs.batch_tokens, width)
    acts[tokens, rank] = pairs.feature_acts[by_token]
    return kth_of_rows(sae, acts.topk(k, sorted=False).values, k)


def _with_whole_tokens(
    sae: SAE,
    x: Float[Tensor, "batch d_in"],
    pairs: ActivePairs,
    tokens: Int[Tensor, " short"],
    k: int,
) -> ActivePairs:
    """The pairs, with those of some tokens found anew among all of their features."""
    is_short = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    is_short[tokens] = True
    kept = ~is_short[pairs.tokens]
    features, of_tokens = [pairs.features[kept]], [pairs.tokens[kept]]
    acts = [pairs.feature_acts[kept]]
    for some in tokens.split(max(1, DENSE_NUMBERS // sae.d_sae)):
        top = sae.hidden_pre(x[some]).topk(min(k, sae.d_sae), sorted=False)
        row, column = (top.values > 0).nonzero(as_tuple=True)
        features.append(top.indices[row, column])
        of_tokens.append(some[row])
        acts.append(top.values[row, column])
    feature, token = torch.cat(features), torch.cat(of_tokens)
    in_order = (feature * len(x) + token).argsort()
    return pairs_of(sae, len(x), feature[in_order], token[in_order], torch.cat(acts)[in_order])
