"""Keeps all active (feature, token) pairs of one pass, to be read again feature by feature.

What is shown of a feature (windows, quantiles, histograms) is known only once its largest
activation and its strongest contexts are, that is, at the end of the pass. Eight bytes a pair are
kept: in memory up to a bound, beyond it in a file without a name, which is gone with the process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch

from saetrack.data.exclusion import NOTHING, Excluded

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray

    from saetrack.analysis.contexts.top_contexts import Firings, TokenBatch

# Pairs that are gathered before they are put in the order of features; that stay in memory, half a
# gigabyte; and that are looked at together.
BUFFER_PAIRS = 2**22
MEMORY_PAIRS = 2**26
BLOCK_PAIRS = 2**22


@dataclass(frozen=True)
class Pairs:
    """Active pairs, feature by feature.

    Attributes:
        offsets: where each feature's pairs begin, and the end of the last, (features + 1,).
        tokens: index of each pair's token in the flattened split, ascending within a feature.
        acts: activation of each pair, positive.
    """

    offsets: Int[ndarray, " features_and_one"]
    tokens: Int[ndarray, " pairs"]
    acts: Float[ndarray, " pairs"]


@dataclass(frozen=True)
class Filed:
    """Pairs that were written to a file: tokens, then activations, from a position on."""

    offsets: Int[ndarray, " features_and_one"]
    file: BinaryIO
    start_bytes: int

    def of_features(self, first: int, last: int) -> Pairs:
        """Those of some successive features."""
        begin, end, pairs = (int(self.offsets[at]) for at in (first, last, -1))
        found = []
        for dtype, start in ((np.int32, 0), (np.float32, 4 * pairs)):
            self.file.seek(self.start_bytes + start + 4 * begin)
            found.append(np.frombuffer(self.file.read(4 * (end - begin)), dtype))
        return Pairs(self.offsets[first : last + 1] - begin, *found)


class PairSpool:
    """Collects pairs of a stream of batches whose rows ascend."""

    def __init__(
        self,
        d_sae: int,
        folder: Path,
        *,
        excluded: Excluded = NOTHING,
        memory_pairs: int = MEMORY_PAIRS,
        buffer_pairs: int = BUFFER_PAIRS,
    ) -> None:
        """Nothing is kept yet.

        Args:
            d_sae: features.
            folder: where the file lies, if there must be one.
            excluded: positions that are left out.
            memory_pairs: how many stay in memory.
            buffer_pairs: how many are gathered before they are put in order.
        """
        self.d_sae = d_sae
        self._folder, self._excluded = folder, excluded
        self._memory_pairs, self._buffer_pairs = memory_pairs, buffer_pairs
        self._batches: list[Pairs] = []
        self._chunks: list[Pairs | Filed] = []
        self._file: BinaryIO | None = None
        self.counts = np.zeros(d_sae, np.int64)

    def add(self, firings: Firings, batch: TokenBatch) -> None:
        """Take in what fires in one batch of rows."""
        features, tokens, acts = firings
        last = (int(batch.row_numbers[-1]) + 1) * batch.token_ids.shape[1]
        assert last <= 2**31, "more tokens than 32 bits count"
        kept = torch.from_numpy(self._excluded.kept_in(batch.token_ids).reshape(-1))
        wanted = (acts > 0) & kept.to(tokens.device)[tokens]
        of_features = features[wanted].cpu().numpy()
        rows, positions = np.divmod(
            tokens[wanted].cpu().numpy().astype(np.int32), batch.token_ids.shape[1]
        )
        at = batch.row_numbers.astype(np.int32)[rows] * batch.token_ids.shape[1] + positions
        values = acts[wanted].float().cpu().numpy()
        if (of_features[1:] < of_features[:-1]).any():
            order = np.lexsort((at, of_features))
            of_features, at, values = of_features[order], at[order], values[order]
        counts = np.bincount(of_features, minlength=self.d_sae)
        self.counts += counts
        self._batches.append(Pairs(_offsets(counts), at.astype(np.int32), values))
        if sum(len(batch.tokens) for batch in self._batches) >= self._buffer_pairs:
            self._put_in_order()

    def blocks(self, block_pairs: int = BLOCK_PAIRS) -> Iterator[tuple[slice, Pairs]]:
        """All features and their pairs, in blocks of successive features with so many at most.

        A feature that has more by itself is a block by itself.
        """
        self._put_in_order()
        ends = _offsets(self.counts)
        first = 0
        while first < self.d_sae:
            last = int(np.searchsorted(ends, ends[first] + block_pairs, side="right")) - 1
            last = min(max(last, first + 1), self.d_sae)
            yield slice(first, last), merged([_cut(chunk, first, last) for chunk in self._chunks])
            first = last

    def _put_in_order(self) -> None:
        if not self._batches and self._chunks:
            return
        chunk = merged(self._batches) if self._batches else _nothing(self.d_sae)
        self._batches = []
        in_memory = sum(len(kept.tokens) for kept in self._chunks if isinstance(kept, Pairs))
        if in_memory + len(chunk.tokens) <= self._memory_pairs:
            self._chunks.append(chunk)
            return
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        start_bytes = self._file.seek(0, 2)
        self._file.write(chunk.tokens.data)
        self._file.write(chunk.acts.data)
        self._chunks.append(Filed(chunk.offsets, self._file, start_bytes))


def merged(parts: list[Pairs]) -> Pairs:
    """Pairs of successive stretches of the text as one, feature by feature; sorts nothing."""
    if len(parts) == 1:
        return parts[0]
    counts = [np.diff(part.offsets) for part in parts]
    offsets = _offsets(np.sum(counts, axis=0))
    tokens = np.empty(offsets[-1], np.int32)
    acts = np.empty(offsets[-1], np.float32)
    begins = offsets[:-1].copy()
    for part, of_part in zip(parts, counts, strict=True):
        where = np.arange(len(part.tokens)) + np.repeat(begins - part.offsets[:-1], of_part)
        tokens[where], acts[where] = part.tokens, part.acts
        begins += of_part
    return Pairs(offsets, tokens, acts)


def _cut(chunk: Pairs | Filed, first: int, last: int) -> Pairs:
    if isinstance(chunk, Filed):
        return chunk.of_features(first, last)
    begin, end = int(chunk.offsets[first]), int(chunk.offsets[last])
    return Pairs(
        chunk.offsets[first : last + 1] - begin, chunk.tokens[begin:end], chunk.acts[begin:end]
    )


def _nothing(d_sae: int) -> Pairs:
    return Pairs(np.zeros(d_sae + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))


def _offsets(counts: Int[ndarray, " features"]) -> Int[ndarray, " features_and_one"]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
