"""Random directions that fire as rarely as features: what explanations of nothing are judged by.

A random direction by relu(v . (x - b_dec)) fires half of the time, and no feature does. Here it is
active by relu(v . (x - b_dec) - threshold), with a threshold at each checkpoint that makes it fire
as often as some feature. It moves no activation past another, so the strongest contexts, and the
labels that they give, are those without a threshold.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from saetrack.analysis.contexts.top_contexts import Firings, TokenBatch
from saetrack.analysis.life_store.block import Block
from saetrack.analysis.life_store.neighbours import nearest_neighbours
from saetrack.analysis.life_store.records import link_records

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray
    from torch import Tensor

    from saetrack.analysis.contexts.top_contexts import Contexts
    from saetrack.analysis.life_store.records import Text
    from saetrack.analysis.life_store.spool import PairSpool
    from saetrack.data.exclusion import Excluded

RARE = 64  # directions, at most
MAX_DENSITY = 0.25
# Tokens of which a threshold is a quantile: what fires on fewer than one of them is set by the
# strongest of them, and fires about that often.
QUANTILE_TOKENS = 16_384


def rare_densities(of_features: Float[ndarray, " live"], directions: int) -> Float[ndarray, " k"]:
    """How often each direction is to fire: log-spaced between the rarest and the densest feature.

    Args:
        of_features: densities, positive; one at least.
        directions: that there are.
    """
    rarest, densest = (
        min(float(end), MAX_DENSITY) for end in (of_features.min(), of_features.max())
    )
    return np.geomspace(rarest, densest, min(RARE, directions))


class RareDirections:
    """Reads directions from a stream of batches whose rows ascend.

    The first `QUANTILE_TOKENS` tokens are held until they set the thresholds: what is read does not
    depend on the size of batches.
    """

    def __init__(
        self,
        vectors: Float[Tensor, "directions d_in"],
        densities: Float[ndarray, " directions"],
        spool: PairSpool,
        excluded: Excluded,
    ) -> None:
        """Nothing is read yet.

        Args:
            vectors: unit vectors.
            densities: share of the tokens on which each is to fire.
            spool: keeps what fires; for as many features as there are vectors.
            excluded: positions that are left out.
        """
        self._vectors, self._densities = vectors, densities
        self._spool, self._excluded = spool, excluded
        self._held: list[tuple[Float[Tensor, "tokens directions"], TokenBatch]] = []
        self._tokens = 0
        self._thresholds: Float[Tensor, " directions"] | None = None

    def add(self, x: Float[Tensor, "tokens d_in"], batch: TokenBatch) -> None:
        """Take in one batch of rows: residuals less b_dec."""
        acts = x @ self._vectors.to(x.device).T
        self._tokens += int(self._excluded.kept_in(batch.token_ids).sum())
        if self._thresholds is not None:
            self._keep(acts, batch, self._thresholds)
            return
        self._held.append((acts, batch))
        if self._tokens >= QUANTILE_TOKENS:
            self._settle()

    def thresholds(self) -> Float[Tensor, " directions"]:
        """Of the pass, by the tokens so far."""
        return self._settle() if self._thresholds is None else self._thresholds

    def records(self, contexts: Contexts, text: Text, seed: int) -> dict[str, ndarray]:
        """All arrays of a link, and `feature_density` and `max_act`, once the pass is over.

        Args:
            contexts: the strongest of the directions without a threshold; there may be more
                directions behind them.
            text: that was read.
            seed: of the choice of contexts.
        """
        thresholds, spool = self.thresholds().cpu().numpy(), self._spool
        fires = contexts.feature_acts[: spool.d_sae] > thresholds[:, None]
        top = replace(contexts, rows=np.where(fires, contexts.rows[: spool.d_sae], -1))
        largest = [
            Block(features.start, pairs, text.flat.size).max_acts
            for features, pairs in spool.blocks()
        ]
        return {
            **link_records(spool, top, text, seed),
            **nearest_neighbours(self._vectors, spool.counts > 0),
            "feature_density": (spool.counts / max(self._tokens, 1)).astype(np.float32),
            "max_act": np.concatenate(largest).astype(np.float32),
        }

    def _settle(self) -> Float[Tensor, " directions"]:
        """Set the thresholds by what was held, and pass that on."""
        kept = [
            acts[
                torch.from_numpy(self._excluded.kept_in(batch.token_ids).reshape(-1)).to(
                    acts.device
                )
            ]
            for acts, batch in self._held
        ]
        first = torch.cat(kept)[:QUANTILE_TOKENS].float().cpu().numpy()
        quantiles = np.quantile(first, 1 - self._densities, axis=0).diagonal()
        self._thresholds = torch.from_numpy(quantiles.astype(np.float32))
        for acts, batch in self._held:
            self._keep(acts, batch, self._thresholds)
        self._held = []
        return self._thresholds

    def _keep(
        self,
        acts: Float[Tensor, "tokens directions"],
        batch: TokenBatch,
        thresholds: Float[Tensor, " directions"],
    ) -> None:
        above = (acts - thresholds.to(acts.device)).clamp_min(0).T
        directions, tokens = above.nonzero(as_tuple=True)
        self._spool.add(Firings(directions, tokens, above[directions, tokens]), batch)
