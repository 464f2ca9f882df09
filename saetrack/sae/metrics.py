"""How good an SAE is, on tokens that no link trains on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from saetrack.sae.architectures import objective_of
from saetrack.sae.architectures.relu import l1_weights
from saetrack.sae.config import SAEConfig
from saetrack.sae.kernels.sparse import decode_pairs, pairs_of, sums_by_feature
from saetrack.sae.kernels.top import largest
from saetrack.sae.loss import reconstruction_error
from saetrack.sae.step import SPARSE_BELOW

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.sae.model import SAE

# Held-out tokens that show how dense an SAE's activations are.
PROBE_TOKENS = 64

# Activations that exist at a time where most of them are active, 128 MB.
DENSE_NUMBERS = 2**25


@dataclass(frozen=True)
class Evaluation:
    """Held-out metrics of one SAE.

    Attributes:
        loss: what training minimises, without what dead features and inner prefixes add.
        mse: squared error, averaged over tokens and dimensions (Eq 13).
        l1: summed activations per token.
        explained_variance: 1 - summed squared error / summed squared distance from the mean; 0 if
            all residuals are equal.
        explained_variance_per_token: mean over tokens of 1 - squared error / squared distance from
            the mean, the authors' form; a few tokens near the mean dominate it.
        explained_variance_at_l0: as `explained_variance`, when of each batch only the largest
            activations are kept, `matched_l0` per token on average: comparable between SAEs of
            different sparsity.
        l0: active features per token.
        dead: share of features that fire on none of the held-out tokens.
        feature_density: share of held-out tokens on which each feature fires, (d_sae,).
    """

    loss: float
    mse: float
    l1: float
    explained_variance: float
    explained_variance_per_token: float
    explained_variance_at_l0: float
    l0: float
    dead: float
    feature_density: Float[Tensor, " d_sae"]

    def scalars(self) -> dict[str, float]:
        """Every number by its name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, float)}


@torch.no_grad()
def evaluate(
    sae: SAE,
    held_out: Float[Tensor, "tokens d_in"],
    sae_config: SAEConfig,
    matched_l0: int,
    batch_tokens: int = 2048,
) -> Evaluation:
    """Measure an SAE on held-out residuals.

    Args:
        sae: what to measure.
        held_out: residuals that no link trains on.
        sae_config: of the training; a scale-free loss centres on the mean of each batch.
        matched_l0: active features per token for `explained_variance_at_l0`.
        batch_tokens: residuals at a time; sums across batches are kept in float64.
    """
    x_mean = held_out.mean(dim=0)
    names = ("loss", "l1", "error", "error_at_l0", "variance", "per_token")
    sums = torch.zeros(len(names), dtype=torch.float64, device=held_out.device)
    fired = torch.zeros(sae.d_sae, dtype=torch.int64, device=held_out.device)
    reconstruct = (
        _reconstruct_sparse if _density(sae, held_out) < SPARSE_BELOW else _reconstruct_dense
    )
    for x in held_out.split(batch_tokens):
        found = reconstruct(sae, x, l1_weights(sae_config, sae), matched_l0 * len(x))
        loss = reconstruction_error(sae_config, x, found.sae_out) * len(x)
        error = (found.sae_out - x).square().sum(dim=1).double()
        variance = (x - x_mean).square().sum(dim=1).double()
        error_at_l0 = (found.sae_out_at_l0 - x).square().sum(dim=1).double()
        per_token = 1 - error / variance.clamp_min(1e-12)
        of_batch = (loss, found.l1, error.sum(), error_at_l0.sum(), variance.sum(), per_token.sum())
        sums += torch.stack([value.double() for value in of_batch])
        fired += found.fired
    fired = sae.ranks.all_gather(fired)
    total = dict(zip(names, sums.tolist(), strict=True))
    tokens = len(held_out)
    l1, l0 = total["l1"] / tokens, float(fired.sum()) / tokens
    sparsity = objective_of(sae, sae_config).held_out_sparsity(l1, l0)
    return Evaluation(
        loss=total["loss"] / tokens + sparsity,
        mse=total["error"] / held_out.numel(),
        l1=l1,
        explained_variance=_explained(total["error"], total["variance"]),
        explained_variance_per_token=total["per_token"] / tokens,
        explained_variance_at_l0=_explained(total["error_at_l0"], total["variance"]),
        l0=l0,
        dead=float((fired == 0).double().mean()),
        feature_density=(fired.double() / tokens).float().cpu(),
    )


@torch.no_grad()
def _density(sae: SAE, held_out: Float[Tensor, "tokens d_in"]) -> float:
    """Share of active pairs among the first tokens: which way to evaluate is the faster one."""
    probe = held_out[:PROBE_TOKENS]
    n_active = sae.ranks.all_reduce((sae.encode(probe) > 0).sum(dtype=torch.float64))
    return float(n_active) / (len(probe) * sae.d_sae * sae.ranks.count)


class _Reconstruction(NamedTuple):
    """What is needed of a batch; `l1` is summed over its tokens, and over the ranks."""

    sae_out: Float[Tensor, "batch d_in"]
    sae_out_at_l0: Float[Tensor, "batch d_in"]
    l1: Float[Tensor, ""]
    fired: Int[Tensor, " d_sae"]


def _reconstruct_sparse(
    sae: SAE, x: Float[Tensor, "batch d_in"], weights: Float[Tensor, " d_sae"], count: int
) -> _Reconstruction:
    """From the active pairs; at the matched L0, from the `count` largest of them."""
    pairs = sae.active_pairs(x)
    l1 = sae.ranks.all_reduce(sums_by_feature(pairs, pairs.feature_acts) @ weights)
    sae_out_at_l0 = decode_pairs(sae, largest(sae, pairs, count))
    return _Reconstruction(decode_pairs(sae, pairs), sae_out_at_l0, l1, pairs.offsets.diff())


def _reconstruct_dense(
    sae: SAE, x: Float[Tensor, "batch d_in"], weights: Float[Tensor, " d_sae"], count: int
) -> _Reconstruction:
    """The same from dense products, some tokens at a time, as long as most pairs are active."""
    sae_out, tops = [], []
    l1, fired = x.new_zeros(()), torch.zeros(sae.d_sae, dtype=torch.int64, device=x.device)
    rows = max(1, DENSE_NUMBERS // sae.d_sae)
    for start in range(0, len(x), rows):
        feature_acts = sae.encode(x[start : start + rows])
        sae_out.append(sae.decode(feature_acts))
        l1 += (feature_acts @ weights).sum()
        fired += (feature_acts > 0).sum(dim=0)
        flat = feature_acts.flatten()
        top, index = flat.topk(min(count, len(flat)), sorted=False)
        tops.append((top, index % sae.d_sae, index // sae.d_sae + start))
    acts, features, tokens = (torch.cat(values) for values in zip(*tops, strict=True))
    by_feature = (features * len(x) + tokens).argsort()
    by_feature = by_feature[acts[by_feature] > 0]
    pairs = pairs_of(sae, len(x), features[by_feature], tokens[by_feature], acts[by_feature])
    return _Reconstruction(
        torch.cat(sae_out),
        decode_pairs(sae, largest(sae, pairs, count)),
        sae.ranks.all_reduce(l1),
        fired,
    )


def _explained(error: float, variance: float) -> float:
    return 1 - error / variance if variance else 0.0
