"""Is feature i of a link still feature i of the last one? By the nearest decoder row.

A chain keeps indices, and training may still replace what stands behind one. So a feature's row at
each link is compared with all rows of the last link, and with all of the link before. If the
nearest one has another index, the cosine to the final direction of the same index is that of two
features, and its drift is a replacement. Where this is so for half of the features or more,
whatever follows an index to the end follows the replacement of the dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from saetrack.analysis.drift.residual_turns import median
from saetrack.analysis.formation.phases import formed_from

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from saetrack.analysis.geometry.inputs import DecoderLink

# Features that are looked for among all rows, a random sample of larger dictionaries.
SAMPLE = 2048
# An index is followed to the end from where on at least this share of features keeps its own.
HALF = 0.5


@dataclass(frozen=True)
class OwnIndex:
    """How many features are nearest to their own index, link by link; NaN where none is alive.

    Attributes:
        lm_steps: of the links, (links,).
        in_last: share of features whose nearest row of the last link is their own, (links,).
        in_previous: the same of the link before; NaN at the first, (links,).
        own_cosine: median cosine to the own row of the last link, (links,).
        best_cosine: to the nearest one, (links,).
        chance: of random directions, to the nearest one.
    """

    lm_steps: Int[np.ndarray, " links"]
    in_last: Float[np.ndarray, " links"]
    in_previous: Float[np.ndarray, " links"]
    own_cosine: Float[np.ndarray, " links"]
    best_cosine: Float[np.ndarray, " links"]
    chance: float

    @property
    def holds_from(self) -> int:
        """The LM step from which on the index holds to the end for half of the features."""
        return int(self.lm_steps[formed_from((self.in_last >= HALF)[None])[0]])  # -1: the last

    def table(self, chain: str = "chain") -> pd.DataFrame:
        """One row per link: `chain`, `link`, `lm_step`, and the attributes."""
        names = ("in_last", "in_previous", "own_cosine", "best_cosine")
        table = pd.DataFrame({name: getattr(self, name) for name in names})
        table.insert(0, "lm_step", self.lm_steps)
        table.insert(0, "link", np.arange(len(table)))
        table.insert(0, "chain", chain)
        return table.assign(chance=self.chance)


class IndexFollower:
    """Takes in the links of a chain, one at a time, and gives an `OwnIndex`."""

    def __init__(self, final: DecoderLink, seed: int = 0) -> None:
        """Draws the features that are looked for among those alive at the last link."""
        self._final = normalize(final.W_dec.float(), dim=1)
        self._alive = (final.feature_density > 0).to(self._final.device)
        alive = np.flatnonzero(self._alive.cpu().numpy())
        chosen = np.random.default_rng(seed).permutation(alive)[:SAMPLE]
        self._sampled = torch.from_numpy(np.sort(chosen)).to(self._final.device)
        self._seed = seed
        self._before: tuple[Tensor, Tensor] | None = None
        self._rows: list[tuple[int, float, float, float, float]] = []

    def add(self, link: DecoderLink) -> None:
        """Take in a link; those that are dead at it are not looked for."""
        alive = (link.feature_density > 0).to(self._sampled.device)
        here = self._sampled[alive[self._sampled]]
        rows = normalize(link.W_dec.float(), dim=1)
        nearest, best = _nearest(rows[here], self._final, self._alive)
        own = (rows[here] * self._final[here]).sum(dim=1)
        kept = float("nan")
        if self._before is not None:
            kept = _share(_nearest(rows[here], *self._before)[0] == here)
        self._before = rows, alive
        found = _share(nearest == here), kept, _middle(own), _middle(best)
        self._rows.append((link.lm_step, *found))

    def result(self) -> OwnIndex:
        """What was found in all links."""
        lm_steps, in_last, in_previous, own, best = zip(*self._rows, strict=True)
        generator = torch.Generator().manual_seed(self._seed)
        random = torch.randn(len(self._sampled), self._final.shape[1], generator=generator)
        random = normalize(random.to(self._final.device), dim=1)
        return OwnIndex(
            lm_steps=np.array(lm_steps),
            in_last=np.array(in_last),
            in_previous=np.array(in_previous),
            own_cosine=np.array(own),
            best_cosine=np.array(best),
            chance=_middle(_nearest(random, self._final, self._alive)[1]),
        )


def _nearest(
    rows: Float[Tensor, "sampled d_in"],
    among: Float[Tensor, "d_sae d_in"],
    alive: Bool[Tensor, " d_sae"],
) -> tuple[Int[Tensor, " sampled"], Float[Tensor, " sampled"]]:
    """Of unit rows the nearest ones that are alive, and their cosines."""
    cosines = (rows @ among.T).masked_fill(~alive, -2)
    best, nearest = cosines.max(dim=1)
    return nearest, best


def _share(true: Bool[Tensor, " sampled"]) -> float:
    return float(true.double().mean())


def _middle(values: Float[Tensor, " sampled"]) -> float:
    return median(values.double().cpu().numpy())
