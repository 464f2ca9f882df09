"""The top contexts of all features in one pass (section 4.1, Eq 6), and which features are live.

Fed with the active (feature, token) pairs of one batch of rows after another, `TopContexts` keeps
of every feature the k datapoints with the largest activations. Its memory is that of the result
and of one buffer of candidates, however many rows pass.

Three things that the authors' search does not do, each by choice, and each to be had their way
(`saetrack.analysis.contexts.context_rules`):

- a row counts once: of the tokens of one row only the strongest is a datapoint;
- a text counts once: of datapoints with the same tokens around them only the strongest is kept,
  so that a licence repeated in a hundred documents does not make a feature look coherent;
- positions that no SAE was trained on take no part, nor does BOS.

What does not fire is no datapoint: a feature that fires on fewer than k has a shorter list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from saetrack.data.exclusion import NOTHING, Excluded

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt64
    from numpy import ndarray
    from torch import Tensor

    Candidates = tuple[ndarray, ndarray, ndarray, ndarray, ndarray]

# Candidates that are gathered before they are merged into the lists: 28 bytes each.
BUFFER_PAIRS = 2**20
# Tokens before and after a datapoint that make its text.
WINDOW = (10, 5)


@dataclass(frozen=True)
class TokenBatch:
    """Whole rows of the corpus, all of whose positions went through the SAE.

    Attributes:
        row_numbers: indices of the rows in their split, (rows,).
        token_ids: (rows, context_size); token `t` of the flattened batch is that of row
            `t // context_size` at position `t % context_size`.
    """

    row_numbers: Int[ndarray, " rows"]
    token_ids: Int[ndarray, "rows context"]


class Firings(NamedTuple):
    """Active (feature, token) pairs of a batch, in any order.

    Attributes:
        features: of each pair, (pairs,).
        tokens: index of each pair's token in the flattened batch, (pairs,).
        feature_acts: of each pair, (pairs,); those of 0 or less are ignored.
    """

    features: Int[Tensor, " pairs"]
    tokens: Int[Tensor, " pairs"]
    feature_acts: Float[Tensor, " pairs"]


@dataclass(frozen=True)
class Contexts:
    """The datapoints of each feature, strongest first.

    Attributes:
        rows: of the corpus split, (d_sae, k); -1 behind the end of a shorter list.
        positions: in the row, (d_sae, k); -1 likewise.
        feature_acts: descending, (d_sae, k); 0 likewise.
        counts: length of each list, (d_sae,).
        fires: tokens on which each feature is active, (d_sae,).
        tokens: how many tokens were looked at.
    """

    rows: Int[ndarray, "d_sae k"]
    positions: Int[ndarray, "d_sae k"]
    feature_acts: Float[ndarray, "d_sae k"]
    counts: Int[ndarray, " d_sae"]
    fires: Int[ndarray, " d_sae"]
    tokens: int

    @property
    def feature_density(self) -> Float[ndarray, " d_sae"]:
        """Share of the tokens on which each feature fires."""
        return self.fires / max(self.tokens, 1)

    @property
    def max_acts(self) -> Float[ndarray, " d_sae"]:
        """Largest activation of each feature; 0 if it never fires."""
        return self.feature_acts[:, 0]


class TopContexts:
    """Collects `Contexts` from a stream of batches."""

    def __init__(
        self,
        d_sae: int,
        k: int = 25,
        *,
        window: tuple[int, int] | None = WINDOW,
        rows_count_once: bool = True,
        excluded: Excluded = NOTHING,
    ) -> None:
        """Begin with empty lists.

        Args:
            d_sae: features.
            k: datapoints per feature.
            window: tokens before and after a datapoint that make its text; of the rows' strongest
                those of equal text (their own token included) count once. None: each counts.
            rows_count_once: of the tokens of a row only the strongest is a datapoint.
            excluded: positions that are left out.
        """
        self.rows_count_once = rows_count_once
        self.d_sae, self.k = d_sae, k
        self._window, self._excluded = window, excluded
        self._rows = np.full((d_sae, k), -1, np.int32)
        self._positions = np.full((d_sae, k), -1, np.int32)
        self._acts = np.zeros((d_sae, k), np.float32)
        self._keys = np.zeros((d_sae, k), np.uint64)
        self._fires = np.zeros(d_sae, np.int64)
        self._tokens = 0
        # What a datapoint must exceed to enter a list that is full.
        self._floor = torch.zeros(d_sae)
        self._buffer: list[Candidates] = []
        self._buffered = 0

    def add(self, firings: Firings, batch: TokenBatch) -> None:
        """Take in what fires in one batch of rows; each row must come in one batch."""
        features, tokens, feature_acts = firings
        ids = batch.token_ids
        kept = torch.from_numpy(self._excluded.kept_in(ids).reshape(-1))
        self._tokens += int(kept.sum())
        wanted = (feature_acts > 0) & kept.to(tokens.device)[tokens]
        fired = torch.bincount(features[wanted], minlength=self.d_sae)
        self._fires += fired.cpu().numpy()
        wanted &= feature_acts > self._floor.to(features.device)[features]
        indices = tokens[wanted].cpu().numpy()
        rows, positions = np.divmod(indices, ids.shape[1])
        found = (
            features[wanted].cpu().numpy(),
            feature_acts[wanted].float().cpu().numpy(),
            batch.row_numbers[rows].astype(np.int32),
            positions.astype(np.int32),
            self._text_keys(batch)[indices],
        )
        if self.rows_count_once:
            of_row = found[0] * len(ids) + rows
            order = _by_strength(of_row, *found[1:4])
            found = _chosen(found, order[_first(of_row[order])])
        self._buffer.append(found)
        self._buffered += len(found[0])
        if self._buffered >= BUFFER_PAIRS:
            self._merge()

    def result(self) -> Contexts:
        """The lists so far."""
        self._merge()
        return Contexts(
            rows=self._rows.copy(),
            positions=self._positions.copy(),
            feature_acts=self._acts.copy(),
            counts=(self._rows >= 0).sum(axis=1),
            fires=self._fires.copy(),
            tokens=self._tokens,
        )

    def _text_keys(self, batch: TokenBatch) -> UInt64[ndarray, " tokens"]:
        """Equal for datapoints that count once; unused if each counts."""
        if self._window is not None:
            return text_keys(batch.token_ids, *self._window).reshape(-1)
        return np.zeros(batch.token_ids.size, np.uint64)

    def _merge(self) -> None:
        """The best k of what the lists hold and what was buffered."""
        if not self._buffered:
            return
        touched = np.unique(np.concatenate([part[0] for part in self._buffer]))
        lists = self._rows[touched] >= 0
        held = (
            np.broadcast_to(touched[:, None], lists.shape)[lists],
            *(kept[touched][lists] for kept in self._kept()),
        )
        parts = zip(held, *self._buffer, strict=True)
        found: Any = tuple(np.concatenate(part) for part in parts)
        found = _chosen(found, _by_strength(*found[:4]))
        if self._window is not None:
            found = _chosen(found, _first_of_text(found[0], found[4]))
        features = found[0]
        # The rank within a feature: the index less that of the feature's first.
        rank = np.arange(len(features)) - np.searchsorted(features, features)
        best = rank < self.k
        for kept, new, empty in zip(self._kept(), found[1:], (0, -1, -1, 0), strict=True):
            kept[touched] = empty
            kept[features[best], rank[best]] = new[best]
        self._floor[torch.from_numpy(touched)] = torch.from_numpy(self._acts[touched, -1])
        self._buffer, self._buffered = [], 0

    def _kept(self) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        return self._acts, self._rows, self._positions, self._keys


def _by_strength(
    groups: Int[ndarray, " found"],
    acts: Float[ndarray, " found"],
    rows: Int[ndarray, " found"],
    positions: Int[ndarray, " found"],
) -> Int[ndarray, " found"]:
    """The order by group, then strongest first, then as in the corpus.

    Two numbers of 64 bits sort five times as fast as four columns. The bits of positive floats are
    in the order of their values.
    """
    weakness = np.uint64(2**32 - 1) - np.asarray(acts, np.float32).view(np.uint32)
    major = (groups.astype(np.uint64) << np.uint64(32)) | weakness
    minor = (rows.astype(np.int64) << 32) | positions
    return np.lexsort((minor, major))


def _first(groups: Int[ndarray, " found"]) -> Bool[ndarray, " found"]:
    """Where a new group begins, in sorted ones."""
    first = np.ones(len(groups), bool)
    first[1:] = groups[1:] != groups[:-1]
    return first


def _first_of_text(
    features: Int[ndarray, " found"], keys: UInt64[ndarray, " found"]
) -> Int[ndarray, " kept"]:
    """Indices, ascending, of the first candidate of each feature with each text."""
    factors = np.random.default_rng(1).integers(2**63, size=2, dtype=np.uint64) * 2 + 1
    both = features.astype(np.uint64) * factors[0] + keys * factors[1]
    return np.sort(np.unique(both, return_index=True)[1])


def _chosen(found: Candidates, indices: Int[ndarray, " kept"]) -> Candidates:
    features, acts, rows, positions, keys = found
    return features[indices], acts[indices], rows[indices], positions[indices], keys[indices]


def text_keys(
    token_ids: Int[ndarray, "rows context"], before: int, after: int
) -> UInt64[ndarray, "rows context"]:
    """A hash of the text around each position; behind a row's ends there is nothing.

    A sum of tokens times fixed random numbers modulo 2^64: two different texts agree with a
    probability of at most 2^-32.
    """
    context_size = token_ids.shape[1]
    factors = np.random.default_rng(0).integers(2**64, size=before + 1 + after, dtype=np.uint64)
    padded = np.pad(token_ids.astype(np.uint64) + np.uint64(1), ((0, 0), (before, after)))
    keys = np.zeros(token_ids.shape, np.uint64)
    for offset, factor in enumerate(factors):
        keys += factor * padded[:, offset : offset + context_size]
    return keys
