"""How good a crosscoder is at each of its checkpoints, on tokens that it is not trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from saetrack.sae.kernels.sparse import ActivePairs, decode_pairs
from saetrack.sae.kernels.top import largest

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from saetrack.sae.crosscoder import Crosscoder
    from saetrack.sae.model import SAE

MEASURES = ("explained_variance", "explained_variance_at_l0")


@dataclass(frozen=True)
class CrosscoderEvaluation:
    """Held-out metrics of one crosscoder, under the names that those of an SAE have.

    Attributes:
        explained_variance: at each checkpoint.
        explained_variance_at_l0: the same, when of each batch only the pairs that add most at this
            checkpoint are kept (activation times norm of the decoder row), `matched_l0` per token.
        l0: active features per token; one number for all checkpoints.
        dead: share of features that fire on none of the held-out tokens.
        feature_density: share of held-out tokens on which each feature fires, (d_sae,).
    """

    explained_variance: list[float]
    explained_variance_at_l0: list[float]
    l0: float
    dead: float
    feature_density: Float[Tensor, " d_sae"]

    def at(self, checkpoint: int) -> dict[str, float]:
        """Every number of one checkpoint by its name."""
        return {
            **{name: getattr(self, name)[checkpoint] for name in MEASURES},
            "l0": self.l0,
            "dead": self.dead,
        }


@torch.no_grad()
def evaluate_crosscoder(
    crosscoder: Crosscoder,
    held_out: Float[Tensor, "checkpoints tokens d_resid"],
    matched_l0: int,
    batch_tokens: int = 2048,
) -> CrosscoderEvaluation:
    """Measure a crosscoder on held-out residuals.

    Args:
        crosscoder: what to measure.
        held_out: of the same tokens at each checkpoint.
        matched_l0: pairs per token for `explained_variance_at_l0`.
        batch_tokens: tokens at a time; sums across batches are kept in float64.
    """
    n_checkpoints, tokens, _ = held_out.shape
    decoders = [crosscoder.decoder_at(number) for number in range(n_checkpoints)]
    means = held_out.mean(dim=1)
    sums = torch.zeros(3, n_checkpoints, dtype=torch.float64, device=held_out.device)
    fired = torch.zeros(crosscoder.d_sae, dtype=torch.int64, device=held_out.device)
    for x in held_out.split(batch_tokens, dim=1):
        pairs = crosscoder.active_pairs(crosscoder.joined(x))
        fired += pairs.offsets.diff()
        for number, (decoder, of_checkpoint) in enumerate(zip(decoders, x, strict=True)):
            top = _adding_most(decoder, pairs, matched_l0 * x.shape[1])
            sums[0, number] += _square(decode_pairs(decoder, pairs) - of_checkpoint)
            sums[1, number] += _square(decode_pairs(decoder, top) - of_checkpoint)
            sums[2, number] += _square(of_checkpoint - means[number])
    error, at_l0, variance = sums.tolist()
    return CrosscoderEvaluation(
        explained_variance=list(map(_explained, error, variance)),
        explained_variance_at_l0=list(map(_explained, at_l0, variance)),
        l0=float(fired.sum()) / tokens,
        dead=float((fired == 0).double().mean()),
        feature_density=(fired.double() / tokens).float().cpu(),
    )


def _adding_most(decoder: SAE, pairs: ActivePairs, count: int) -> ActivePairs:
    """The pairs with the largest activation times decoder norm."""
    norms = decoder.W_dec.norm(dim=1)
    kept = largest(
        decoder, replace(pairs, feature_acts=pairs.feature_acts * norms[pairs.features]), count
    )
    # Of rows of norm zero nothing is added, whatever the activation.
    acts = kept.feature_acts / norms[kept.features].clamp_min(torch.finfo(norms.dtype).tiny)
    return replace(kept, feature_acts=acts)


def _square(error: Float[Tensor, "batch d_resid"]) -> Float[Tensor, ""]:
    total: Tensor = error.square().sum(dim=1).double().sum()
    return total


def _explained(error: float, variance: float) -> float:
    return 1 - error / variance if variance else 0.0
