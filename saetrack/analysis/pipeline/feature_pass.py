"""One pass of a checkpoint's LM and SAE over the analysis split, for all features at once.

Nothing is kept but what the collectors keep: top contexts, samples, the activations at chosen
datapoints. So a pass costs the same however many features are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from scipy import sparse

from saetrack.analysis.contexts.datapoints import Datapoints
from saetrack.analysis.contexts.top_contexts import Firings, TokenBatch
from saetrack.analysis.formation.progress_measure import PointActivations
from saetrack.lm.catalog.models import Checkpoint
from saetrack.lm.hooked import LM_BATCH_ROWS, HookedLM
from saetrack.sae.kernels.sparse import ActivePairs
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.registry import PulledLink
    from saetrack.sae.model import SAE


class Collector(Protocol):
    """Keeps of a stream of active (feature, token) pairs what it needs."""

    def add(self, firings: Firings, batch: TokenBatch) -> None:
        """Take in what fires in one batch of rows."""


class ResidualReader(Protocol):
    """Keeps of a stream of residuals what it needs."""

    def add(self, x: Float[Tensor, "tokens d_in"], batch: TokenBatch) -> None:
        """Take in one batch of rows: residuals less b_dec."""


@dataclass(frozen=True)
class FeaturePass:
    """One checkpoint's LM and SAE over the rows of the analysis split.

    Attributes:
        checkpoint: of the LM.
        lm: gives the residuals of one layer.
        pulled: the link, its SAE on the LM's device.
        token_rows: of the split, (rows, context_size).
    """

    checkpoint: Checkpoint
    lm: HookedLM
    pulled: PulledLink
    token_rows: Int[np.ndarray, "rows context"]

    @property
    def sae(self) -> SAE:
        """The link's SAE."""
        return self.pulled.sae

    def top_contexts(
        self, collectors: Sequence[Collector], directions: Sequence[ResidualReader] = ()
    ) -> None:
        """One pass that feeds collectors.

        Args:
            collectors: get the pairs of the SAE's features.
            directions: get residuals less b_dec: controls.
        """
        for batch, x, pairs in self._batches("contexts"):
            self._feed(batch, x, pairs, collectors, directions)

    def at(
        self,
        points: Datapoints,
        collectors: Sequence[Collector] = (),
        directions: Sequence[ResidualReader] = (),
    ) -> PointActivations:
        """One pass that reads residuals and features at datapoints, and feeds collectors."""
        # Points and batches both ascend by row.
        x: list[Tensor] = []
        parts: list[sparse.coo_array] = []
        for batch, resid, pairs in self._batches("datapoints"):
            self._feed(batch, resid, pairs, collectors, directions)
            _, indices = points.in_rows(batch.row_numbers, self.token_rows.shape[1])
            x.append(resid[torch.from_numpy(indices).to(resid.device)].cpu())
            parts.append(_features_at(indices, pairs))
        acts, at = sparse.vstack(parts, format="csr"), self.checkpoint
        return PointActivations(at.lm_step, at.checkpoint_index, torch.cat(x), acts)

    def at_ends(
        self, texts: Sequence[Int[np.ndarray, " tokens"]]
    ) -> tuple[Float[Tensor, "texts d_in"], sparse.csr_array]:
        """Residuals and features, (texts, d_sae), at the last token of texts of any lengths."""
        # Of like lengths together: what pads the shorter ones stands behind their last token.
        order = np.argsort([len(text) for text in texts], kind="stable")
        x: list[Tensor] = []
        acts: list[sparse.coo_array] = []
        for start in range(0, len(order), LM_BATCH_ROWS):
            batch = [texts[number] for number in order[start : start + LM_BATCH_ROWS]]
            ends = torch.tensor([len(text) - 1 for text in batch])
            tokens = torch.zeros(len(batch), int(ends.max()) + 1, dtype=torch.int64)
            for row, text in zip(tokens, batch, strict=True):
                row[: len(text)] = torch.from_numpy(text.astype(np.int64))
            resid = self.lm.activations(tokens)[0]
            at = resid[torch.arange(len(batch), device=resid.device), ends.to(resid.device)]
            x.append(at.cpu())
            acts.append(_features_at(np.arange(len(batch)), self.sae.active_pairs(at)))
        back = np.argsort(order)
        return torch.cat(x)[torch.from_numpy(back)], sparse.vstack(acts, format="csr")[back]

    def _feed(
        self,
        batch: TokenBatch,
        x: Float[Tensor, "tokens d_in"],
        pairs: ActivePairs,
        collectors: Sequence[Collector],
        directions: Sequence[ResidualReader],
    ) -> None:
        for collector in collectors:
            collector.add(_firings(pairs), batch)
        if directions:
            centred = x - self.sae.b_dec.detach()
            for reader in directions:
                reader.add(centred, batch)

    def _batches(
        self, what: str
    ) -> Iterator[tuple[TokenBatch, Float[Tensor, "tokens d_in"], ActivePairs]]:
        label = f"step {self.checkpoint.lm_step}, {what}"
        progress = Progress(label, self.token_rows.size, "tokens")
        for start in range(0, len(self.token_rows), LM_BATCH_ROWS):
            token_ids = self.token_rows[start : start + LM_BATCH_ROWS].astype(np.int64)
            batch = TokenBatch(np.arange(start, start + len(token_ids)), token_ids)
            x = self.lm.activations(torch.from_numpy(token_ids))[0].flatten(0, 1)
            yield batch, x, self.sae.active_pairs(x)
            progress.advance(token_ids.size)


def _firings(pairs: ActivePairs) -> Firings:
    return Firings(pairs.features, pairs.tokens, pairs.feature_acts)


def _features_at(indices: Int[np.ndarray, " points"], pairs: ActivePairs) -> sparse.coo_array:
    """The pairs whose token is one of some tokens, (points, d_sae)."""
    point_of = np.full(pairs.batch_tokens, -1)
    point_of[indices] = np.arange(len(indices))
    points = point_of[pairs.tokens.cpu().numpy()]
    kept = points >= 0
    where = points[kept], pairs.features.cpu().numpy()[kept]
    shape = len(indices), len(pairs.offsets) - 1
    return sparse.coo_array((pairs.feature_acts.cpu().numpy()[kept], where), shape=shape)
