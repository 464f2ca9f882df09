"""What each feature's decoder row promotes and suppresses at one checkpoint.

All logits of a dictionary never exist at a time: 65,536 features times 50,000 tokens are 13 GB.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch

from saetrack.analysis.contexts.datapoints import random_directions
from saetrack.analysis.logits.next_tokens import NextTokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float, Int
    from numpy import ndarray
    from torch import Tensor

# Tokens that are kept of each feature, each way.
PROMOTED = 8
# Logits that exist at a time, 64 MB; of a small vocabulary as many as of this one.
BLOCK_NUMBERS = 2**24
SMALL_VOCABULARY = 4096
# Random directions of which shapes are measured.
DIRECTIONS = 256


@dataclass(frozen=True)
class FeatureLogits:
    """What the features of one checkpoint add to the logits.

    Logits are centred, and those of a decoder row as it is: of an activation of 1.

    Attributes:
        promoted_tokens: the strongest first, (d_sae, promoted).
        promoted_logits: of these, (d_sae, promoted).
        suppressed_tokens: the strongest first, (d_sae, promoted).
        suppressed_logits: of these, negative, (d_sae, promoted).
        kurtosis: excess kurtosis of the logits over tokens, (d_sae,): 0 of a normal distribution,
            large where a few tokens stand out.
        entropy: of softmax(logits x mean activation where the feature fires), nats, (d_sae,): the
            logarithm of the vocabulary if a feature alone says nothing; NaN if it never fires.
        agreement: with next tokens (`saetrack.analysis.logits.next_tokens`), (d_sae,).
        shuffled_agreement: control, (d_sae,).
        random_kurtosis: of random directions, (directions,).
        random_entropy: the same with mean activations of features that fire, (directions,).
    """

    promoted_tokens: Int[ndarray, "d_sae promoted"]
    promoted_logits: Float[ndarray, "d_sae promoted"]
    suppressed_tokens: Int[ndarray, "d_sae promoted"]
    suppressed_logits: Float[ndarray, "d_sae promoted"]
    kurtosis: Float[ndarray, " d_sae"]
    entropy: Float[ndarray, " d_sae"]
    agreement: Float[ndarray, " d_sae"]
    shuffled_agreement: Float[ndarray, " d_sae"]
    random_kurtosis: Float[ndarray, " directions"]
    random_entropy: Float[ndarray, " directions"]


@torch.no_grad()
def measure_logits(
    decoder: Float[Tensor, "d_sae d_in"],
    readout: Float[Tensor, "vocabulary d_in"],
    mean_acts: Float[ndarray, " d_sae"],
    following: Int[ndarray, "d_sae k"],
    seed: int,
) -> FeatureLogits:
    """Everything about the logits of all features at a checkpoint.

    Args:
        decoder: rows.
        readout: of the LM (`HookedLM.readout`).
        mean_acts: of each feature where it fires, 0 for never.
        following: tokens behind each feature's contexts, -1 fills up.
        seed: of the controls.
    """
    decoder = decoder.detach()
    tokens = NextTokens.of(following, seed, decoder.device)
    acts = torch.from_numpy(mean_acts).to(decoder)
    found: dict[str, list[ndarray]] = {field.name: [] for field in fields(FeatureLogits)}
    for features, logits in _blocks(decoder, readout):
        of_block = _strongest(logits)
        of_block["kurtosis"], of_block["entropy"] = _shape(logits, acts[features])
        agreements = tokens.agreement(logits, features)
        of_block["agreement"], of_block["shuffled_agreement"] = agreements
        for name, values in of_block.items():
            found[name].append(values.cpu().numpy())
    for _, logits, given in _random(decoder, readout, acts, seed):
        for name, values in zip(("kurtosis", "entropy"), _shape(logits, given), strict=True):
            found[f"random_{name}"].append(values.cpu().numpy())
    nothing = np.zeros(0, np.float32)  # of random directions, where no feature fires
    return FeatureLogits(**{name: np.concatenate(of or [nothing]) for name, of in found.items()})


def overlap(
    tokens: Int[ndarray, "features promoted"], others: Int[ndarray, "features promoted"]
) -> Float[ndarray, " features"]:
    """The share of tokens that two lists of equal length have in common."""
    shares: Float[ndarray, " features"] = (
        (tokens[:, :, None] == others[:, None, :]).any(axis=2).mean(axis=1)
    )
    return shares


def _blocks(
    rows: Float[Tensor, "rows d_in"], readout: Float[Tensor, "vocabulary d_in"]
) -> Iterator[tuple[slice, Float[Tensor, "block vocabulary"]]]:
    size = max(1, BLOCK_NUMBERS // max(len(readout), SMALL_VOCABULARY))
    for start in range(0, len(rows), size):
        block = slice(start, min(start + size, len(rows)))
        yield block, rows[block] @ readout.T


def _random(
    decoder: Float[Tensor, "d_sae d_in"],
    readout: Float[Tensor, "vocabulary d_in"],
    acts: Float[Tensor, " d_sae"],
    seed: int,
) -> Iterator[tuple[slice, Float[Tensor, "block vocabulary"], Float[Tensor, " block"]]]:
    """Logits of random directions, with norms and mean activations of features that fire."""
    fires = acts.nonzero().view(-1)
    if not len(fires):
        return
    drawn = np.random.default_rng(seed).integers(len(fires), size=DIRECTIONS)
    like = fires[torch.from_numpy(drawn).to(fires.device)]
    rows = random_directions(DIRECTIONS, decoder.shape[1], seed).to(decoder)
    rows = rows * decoder[like].norm(dim=1, keepdim=True)
    for block, logits in _blocks(rows, readout):
        yield block, logits, acts[like][block]


def _strongest(logits: Float[Tensor, "block vocabulary"]) -> dict[str, Tensor]:
    kept = min(PROMOTED, logits.shape[1])
    found: dict[str, Tensor] = {}
    for name, largest in (("promoted", True), ("suppressed", False)):
        values, tokens = logits.topk(kept, dim=1, largest=largest)
        found |= {f"{name}_tokens": tokens.int(), f"{name}_logits": values}
    return found


def _shape(
    logits: Float[Tensor, "block vocabulary"], acts: Float[Tensor, " block"]
) -> tuple[Float[Tensor, " block"], Float[Tensor, " block"]]:
    """Excess kurtosis, and the entropy at some activations, NaN at 0."""
    squares = logits.square()
    variance = squares.mean(dim=1).clamp_min(1e-24)
    kurtosis = (squares / variance[:, None]).square().mean(dim=1) - 3
    log_shares = (logits * acts[:, None]).log_softmax(dim=1)
    entropy = -(log_shares.exp() * log_shares).sum(dim=1)
    return kurtosis, entropy.masked_fill(acts == 0, torch.nan)
