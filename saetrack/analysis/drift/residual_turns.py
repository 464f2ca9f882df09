"""How far the residuals of features' own contexts turn between checkpoints, with no SAE in between.

A decoder row turns because the LM moved, because training an SAE goes on, or because the stream
changed while its directions stood still: other noise, another scale, a rotation of all of it. A
frozen control shows the second alone. The mean residual of a feature's contexts, less the mean of
all tokens, is a direction of the stream itself, and tells the first from the third:

- Noise cancels. The product of two means is the mean of products of contexts; those of a context
  with itself, which alone hold its noise, are left out, of lengths as well.
- A rotation that all residuals share is taken away: the best one between random tokens, less their
  mean (orthogonal Procrustes). It is found twice, from either half of the tokens, and what the two
  differ by is taken from the cosine, so that its own error is not read as a turn.
- A cosine knows no scale.

Contexts are chosen at the final checkpoint by what fires there, so that noise which favours them is
at that checkpoint and at no other. The move to it is therefore not one that can be relied on, and
all checkpoints are compared with the last but one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

# Of a mean's squared length, at least this share must be common to all of its contexts.
LEAST_RELIABLE = 0.5


class ContextResiduals(NamedTuple):
    """The residual stream at one checkpoint, on tokens that are the same at every checkpoint.

    Attributes:
        lm_step: of the checkpoint.
        checkpoint_index: of the same in the LM's list.
        sample: of random tokens, (tokens, d_in).
        contexts: of followed features at their contexts; zero fills up, (followed, k, d_in).
    """

    lm_step: int
    checkpoint_index: int
    sample: Float[Tensor, "tokens d_in"]
    contexts: Float[Tensor, "followed k d_in"]


@dataclass(frozen=True)
class ResidualTurns:
    """Cosines of contexts' mean residuals, noise taken away; NaN where too much of it is left.

    Attributes:
        features: that are followed, (followed,).
        lm_steps: of the checkpoints, ascending, (checkpoints,).
        to_previous: with the checkpoint before, a shared rotation taken away; NaN at the first,
            (checkpoints, followed).
        to_late: likewise with the last checkpoint but one.
        rotating_to_previous: as `to_previous`, with the shared rotation.
        rotating_to_late: as `to_late`, with the shared rotation.
    """

    features: Int[np.ndarray, " followed"]
    lm_steps: Int[np.ndarray, " checkpoints"]
    to_previous: Float[np.ndarray, "checkpoints followed"]
    to_late: Float[np.ndarray, "checkpoints followed"]
    rotating_to_previous: Float[np.ndarray, "checkpoints followed"]
    rotating_to_late: Float[np.ndarray, "checkpoints followed"]

    def table(self) -> pd.DataFrame:
        """A row per checkpoint: `lm_step`, `features` that are known, medians of each cosine."""
        names = ("to_previous", "to_late", "rotating_to_previous", "rotating_to_late")
        medians = {name: [median(row) for row in getattr(self, name)] for name in names}
        known = (~np.isnan(self.to_late)).sum(axis=1)
        return pd.DataFrame({"lm_step": self.lm_steps, "features": known, **medians})


class _At(NamedTuple):
    """One checkpoint, less the mean of its random tokens, float64.

    Attributes:
        x: at contexts; zero fills up, (followed, k, d_in).
        squared: of their sums' lengths, without products of a context with itself, (followed,).
        is_known: whether a sum's direction is more than noise, (followed,).
        sample: of random tokens, (tokens, d_in).
    """

    x: Float[Tensor, "followed k d_in"]
    squared: Float[Tensor, " followed"]
    is_known: Bool[Tensor, " followed"]
    sample: Float[Tensor, "tokens d_in"]


@torch.no_grad()
def residual_turns(
    checkpoints: Sequence[ContextResiduals], features: Sequence[int] | Int[np.ndarray, " followed"]
) -> ResidualTurns:
    """Follow the mean residuals of features' contexts through all checkpoints.

    Args:
        checkpoints: ascending by LM step. With fewer random tokens than twice `d_in` no rotation
            can be told, and none is taken away.
        features: whose contexts they are, (followed,).

    Raises:
        ValueError: fewer than three checkpoints, or numbers of contexts or features differ.
    """
    if len(checkpoints) < 3:
        raise ValueError(f"{len(checkpoints)} checkpoints, fewer than 3")
    shapes = {tuple(at.contexts.shape) for at in checkpoints}
    if len(shapes) > 1 or len(features) != len(checkpoints[0].contexts):
        raise ValueError(f"contexts of {sorted(shapes)} for {len(features)} features")
    late, before = _centred(checkpoints[-2]), None
    rows: list[list[np.ndarray]] = []
    for at in checkpoints:
        here = _centred(at)
        unknown = np.full(len(features), np.nan)
        moved = (unknown, unknown) if before is None else _cosines(here, before)
        rows.append([*moved, *_cosines(here, late)])
        before = here
    own_previous, previous, own_late, to_late = (
        np.stack(column) for column in zip(*rows, strict=True)
    )
    return ResidualTurns(
        features=np.asarray(features, int),
        lm_steps=np.array([at.lm_step for at in checkpoints]),
        to_previous=own_previous,
        to_late=own_late,
        rotating_to_previous=previous,
        rotating_to_late=to_late,
    )


def _centred(at: ContextResiduals) -> _At:
    mean = at.sample.double().mean(dim=0)
    x = (at.contexts.double() - mean) * (at.contexts != 0).any(dim=-1, keepdim=True)
    lengths = x.sum(dim=1).square().sum(dim=1)
    squared = _crossed(x, x)
    return _At(x, squared, squared > LEAST_RELIABLE * lengths, at.sample.double() - mean)


def _crossed(
    left: Float[Tensor, "followed k d_in"], right: Float[Tensor, "followed k d_in"]
) -> Float[Tensor, " followed"]:
    """The product of two sums, without the products of a context with itself."""
    return (left.sum(dim=1) * right.sum(dim=1)).sum(dim=1) - (left * right).sum(dim=(1, 2))


def _cosines(here: _At, other: _At) -> tuple[np.ndarray, np.ndarray]:
    """Of each feature, without and with the rotation that all tokens share, (followed,)."""
    known = here.is_known & other.is_known
    scale = (here.squared * other.squared).clamp_min(1e-300).sqrt()
    whole = _crossed(here.x, other.x) / scale
    own, turned = whole, _rotated(here, other)
    if turned:
        one, two = turned
        agreement = _crossed(one, two) / here.squared.clamp_min(1e-300)
        crossed = (_crossed(one, other.x) + _crossed(two, other.x)) / 2
        own = crossed / scale / agreement.clamp_min(LEAST_RELIABLE).sqrt()
    cosines = [
        cosine.clamp(-1, 1).masked_fill(~known, torch.nan).cpu().numpy() for cosine in (own, whole)
    ]
    return (cosines[0] if median(cosines[0]) > median(cosines[1]) else cosines[1]), cosines[1]


def _rotated(here: _At, other: _At) -> list[Float[Tensor, "followed k d_in"]]:
    """Contexts, turned as either half of the random tokens turns; nothing if they are too few."""
    halves = [slice(0, None, 2), slice(1, None, 2)]
    if len(here.sample) < 2 * here.sample.shape[1]:
        return []
    turned = []
    for half in halves:
        left, _, right = torch.linalg.svd(here.sample[half].T @ other.sample[half])
        turned.append(here.x @ (left @ right))
    return turned


def median(values: Float[np.ndarray, " values"]) -> float:
    """Of what is known; NaN if nothing is."""
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else float("nan")
