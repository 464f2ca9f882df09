"""What is kept of every feature at one link, from all its active pairs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from saetrack.analysis.life_store.block import Block
from saetrack.analysis.life_store.choice import choose_contexts
from saetrack.analysis.life_store.layout import (
    AFTER,
    BEFORE,
    BINS,
    COMMON_TOKENS,
    GROUPS,
    OF_QUARTER,
    SILENT,
    TOP,
    context_count,
    record_arrays,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray

    from saetrack.analysis.contexts.top_contexts import Contexts
    from saetrack.analysis.life_store.spool import PairSpool
    from saetrack.data.exclusion import Excluded


@dataclass(frozen=True)
class Text:
    """The analysis split.

    Attributes:
        token_rows: tokens, (rows, context_size).
        excluded: positions that are left out.
        vocabulary: tokens that there are.
    """

    token_rows: Int[ndarray, "rows context"]
    excluded: Excluded
    vocabulary: int

    @cached_property
    def flat(self) -> Int[ndarray, " tokens"]:
        """All tokens, row by row."""
        return self.token_rows.reshape(-1)

    @cached_property
    def kept(self) -> Int[ndarray, " kept"]:
        """Indices of those that take part."""
        return np.flatnonzero(self.excluded.kept_in(self.token_rows).reshape(-1)).astype(np.int32)


def shown_top(contexts: Contexts) -> int:
    """How many of the strongest contexts are shown."""
    return min(TOP, int(contexts.rows.shape[1]))


def link_records(spool: PairSpool, contexts: Contexts, text: Text, seed: int) -> dict[str, ndarray]:
    """All arrays of a link but those of neighbours (`saetrack.analysis.life_store.layout`).

    In memory are the result and some blocks of pairs.

    Args:
        spool: of the pass.
        contexts: the strongest of each feature, as the same pass found them.
        text: that was read.
        seed: of the choice of contexts.
    """
    top = shown_top(contexts)
    arrays = {
        name: np.zeros(shape, dtype)
        for name, (dtype, shape) in record_arrays(spool.d_sae, context_count(top)).items()
        if not name.startswith("neighbour")
    }
    groups = np.repeat(np.arange(len(GROUPS)), [top, *[OF_QUARTER] * 4, SILENT])
    arrays["context_groups"][:] = groups
    context_size = text.token_rows.shape[1]
    for features, pairs in spool.blocks():
        block = Block(features.start, pairs, text.flat.size)
        rows = contexts.rows[features, :top].astype(np.int64)
        of_top = np.where(rows < 0, -1, rows * context_size + contexts.positions[features, :top])
        chosen = choose_contexts(block, of_top, text.kept, seed)
        at = block.find(chosen)
        acts = block.pairs.acts[at] if len(block.pairs.acts) else np.zeros(at.shape, np.float32)
        found = {
            "context_rows": np.where(chosen < 0, -1, chosen // context_size),
            "context_positions": np.where(chosen < 0, 0, chosen % context_size),
            "context_act": np.where(at < 0, 0, acts),
            "context_acts": window_acts(block, chosen, context_size),
            "histogram": histogram(block),
        }
        found["common_tokens"], found["common_shares"] = common_tokens(block, text)
        for name, values in found.items():
            arrays[name][features] = values
    return arrays


def window_acts(
    block: Block, chosen: Int[ndarray, "features contexts"], context_size: int
) -> Int[ndarray, "features contexts window"]:
    """The activation at each token around some, over the feature's largest, 0 to 255.

    0 is silent: what fires has 1 at least. Behind a row's ends, and where no context is, is 0.
    """
    found = np.zeros((*chosen.shape, BEFORE + 1 + AFTER), np.uint8)
    features, numbers = np.nonzero(chosen >= 0)
    tokens = chosen[features, numbers]
    begin_of_row = tokens - tokens % context_size
    begins = np.maximum(tokens - BEFORE, begin_of_row)
    ends = np.minimum(tokens + AFTER + 1, begin_of_row + context_size)
    first = np.searchsorted(block.keys, features * block.tokens + begins)
    last = np.searchsorted(block.keys, features * block.tokens + ends)
    hits = last - first
    of_context = np.repeat(np.arange(len(tokens)), hits)
    pair = np.arange(len(of_context)) + np.repeat(first - (np.cumsum(hits) - hits), hits)
    offset = block.pairs.tokens[pair] - tokens[of_context] + BEFORE
    of_feature = features[of_context]
    scaled = np.rint(block.pairs.acts[pair] * (np.float32(255) / block.max_acts[of_feature]))
    found[of_feature, numbers[of_context], offset] = np.clip(scaled, 1, 255).astype(np.uint8)
    return found


def histogram(block: Block) -> Int[ndarray, "features bins"]:
    """Activations in equal bins from 0 to the feature's largest, which is in the last one."""
    acts, of_pair = block.pairs.acts, block.of_pair
    bins = (acts * (np.float32(BINS) / block.max_acts[of_pair])).astype(np.int64)
    index = of_pair * BINS + np.minimum(bins, BINS - 1)
    return np.bincount(index, minlength=block.features * BINS).reshape(block.features, BINS)


def common_tokens(
    block: Block, text: Text
) -> tuple[Int[ndarray, "features some"], Float[ndarray, "features some"]]:
    """The tokens that a feature fires on most often, and their shares of all that it fires on.

    Of equally common ones the smaller id first; -1 fills up.
    """
    ids = np.full((block.features, COMMON_TOKENS), -1, np.int64)
    shares = np.zeros((block.features, COMMON_TOKENS))
    of_pair = block.of_pair * text.vocabulary + text.flat[block.pairs.tokens]
    of_pair.sort()
    new = np.flatnonzero(np.diff(of_pair, prepend=-1))
    counts = np.diff(new, append=len(of_pair))
    features, token_ids = np.divmod(of_pair[new], text.vocabulary)
    # Feature, rarity and id as one number, which sorts faster than three.
    most = int(counts.max(initial=0))
    order = (features * (most + 1) + (most - counts)) * text.vocabulary + token_ids
    order.sort()
    features, rest = np.divmod(order, (most + 1) * text.vocabulary)
    rarity, token_ids = np.divmod(rest, text.vocabulary)
    rank = np.arange(len(order)) - np.searchsorted(features, features)
    kept = rank < COMMON_TOKENS
    where = features[kept], rank[kept]
    ids[where] = token_ids[kept]
    shares[where] = (most - rarity[kept]) / block.counts[where[0]]
    return ids, shares
