"""Random directions read as if they were features: the control of every class.

A direction v is active by relu(v . (x - b_dec)), half of the time. Where a row counts once, its
active pairs are never listed: of each row only the strongest position goes on to the top contexts,
which keep no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from saetrack.analysis.contexts.top_contexts import Contexts, Firings, TokenBatch, TopContexts
from saetrack.analysis.meaning.determinism import Sums, TokenStatistics
from saetrack.data.exclusion import Excluded

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray
    from torch import Tensor


@dataclass(frozen=True)
class ReadDirections:
    """What is read of directions at a checkpoint.

    Attributes:
        contexts: the strongest of each.
        determinism: share of each one's variance that the token explains; NaN if it has none.
    """

    contexts: Contexts
    determinism: Float[ndarray, " directions"]


class DirectionReader:
    """Reads directions from a stream of batches.

    Memory is a float64 for each direction and token of the vocabulary, 100 MB for 256 directions
    and 50,000 tokens.
    """

    def __init__(
        self,
        vectors: Float[Tensor, "directions d_in"],
        contexts: TopContexts,
        statistics: TokenStatistics,
        excluded: Excluded,
    ) -> None:
        """Nothing is read yet.

        Args:
            vectors: unit vectors.
            contexts: a collector for as many features as there are vectors.
            statistics: of the text that is read.
            excluded: positions that are left out.
        """
        self._vectors, self._contexts = vectors, contexts
        self._statistics, self._excluded = statistics, excluded
        n = len(vectors)
        self._by_token = torch.zeros(statistics.vocabulary, n, dtype=torch.float64)
        self._sums = torch.zeros(5, n, dtype=torch.float64)
        self._fires = np.zeros(n, np.int64)

    def add(self, x: Float[Tensor, "tokens d_in"], batch: TokenBatch) -> None:
        """Take in one batch of rows: residuals less b_dec."""
        kept = torch.from_numpy(self._excluded.kept_in(batch.token_ids).reshape(-1)).to(x.device)
        acts = (x @ self._vectors.to(x.device).T).clamp_min(0) * kept[:, None]
        self._fires += (acts > 0).sum(dim=0).cpu().numpy()
        of_rows = acts.view(*batch.token_ids.shape, -1)
        if self._contexts.rows_count_once:
            strongest, position = of_rows.max(dim=1)
            rows, directions = strongest.nonzero(as_tuple=True)
            tokens = rows * batch.token_ids.shape[1] + position[rows, directions]
            firings = Firings(directions, tokens, strongest[rows, directions])
        else:
            tokens, directions = acts.nonzero(as_tuple=True)
            firings = Firings(directions, tokens, acts[tokens, directions])
        self._contexts.add(firings, batch)
        self._add_sums(acts.double(), batch)

    def _add_sums(self, acts: Float[Tensor, "tokens directions"], batch: TokenBatch) -> None:
        statistics = self._statistics
        if self._by_token.device != acts.device:
            self._by_token = self._by_token.to(acts.device)
            self._sums = self._sums.to(acts.device)
        ids = batch.token_ids.reshape(-1).astype(np.int64)
        weights = torch.from_numpy(statistics.weights[ids]).to(acts.device)
        once = torch.from_numpy((statistics.counts == 1)[ids]).to(acts.device).double()
        self._by_token.index_add_(0, torch.from_numpy(ids).to(acts.device), acts)
        squares = acts.square()
        found = (weights @ squares, acts.sum(0), squares.sum(0), once @ acts, once @ squares)
        self._sums += torch.stack(found)

    def result(self) -> ReadDirections:
        """What was read so far."""
        of_squares = torch.from_numpy(self._statistics.of_squares).to(self._by_token.device)
        of_tokens = (of_squares @ self._by_token.square()).cpu().numpy()
        weighted, total, squares, once, once_squares = self._sums.cpu().numpy()
        sums = Sums(weighted, of_tokens, total, squares, once, once_squares)
        contexts = replace(self._contexts.result(), fires=self._fires.copy())
        return ReadDirections(contexts, self._statistics.determinism(sums))
