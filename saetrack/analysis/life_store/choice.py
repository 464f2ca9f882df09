"""Which contexts of a feature are shown: the strongest, some of each quarter, some silent ones.

The choice within a quarter, and of silent positions, is by a seeded hash of feature and token: it
depends neither on the order of batches nor on what other features do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saetrack.analysis.life_store.layout import OF_QUARTER, SILENT

if TYPE_CHECKING:
    from jaxtyping import Int, UInt64
    from numpy import ndarray

    from saetrack.analysis.life_store.block import Block

# Positions that are tried until `SILENT` of them are found on which a feature does not fire.
TRIED = 32

NEVER = np.uint64(2**64 - 1)


def choose_contexts(
    block: Block,
    top: Int[ndarray, "features top"],
    kept: Int[ndarray, " kept"],
    seed: int,
) -> Int[ndarray, "features contexts"]:
    """Tokens of the flattened split whose contexts are shown, in the order of the groups.

    Args:
        block: of features.
        top: their strongest contexts, -1 fills up.
        kept: tokens that take part, ascending.
        seed: of the hash.

    Returns:
        -1 where a feature has too few: a dead one has none, one that fires everywhere no silent
        ones.
    """
    silent = _silent(block, kept, seed)
    silent[block.counts == 0] = -1
    return np.concatenate([top, *_of_quarters(block, top, seed), silent], axis=1)


def quarters(block: Block) -> Int[ndarray, " pairs"]:
    """In which quarter of its feature's activations each pair is: 3 the strongest, 0 the weakest.

    Quarters begin at the activations of rank floor(n q / 4), ascending; equal activations are in
    the same quarter, the stronger one.
    """
    bits = block.pairs.acts.view(np.uint32)
    # The bits of positive floats are in the order of their values.
    both = np.sort((block.of_pair.astype(np.uint64) << np.uint64(32)) | bits)
    ascending = both.astype(np.uint32)
    found = np.zeros(len(bits), np.int8)
    for quarter in (1, 2, 3):
        if not len(bits):
            break
        rank = np.minimum(block.pairs.offsets[:-1] + block.counts * quarter // 4, len(bits) - 1)
        found += bits >= ascending[rank][block.of_pair]
    return found


def _of_quarters(
    block: Block, top: Int[ndarray, "features top"], seed: int
) -> list[Int[ndarray, "features some"]]:
    """Of each quarter, the strongest first, the pairs with the smallest hashes."""
    quarter, tokens = quarters(block), block.pairs.tokens
    # The token is the hash's lower half: the smallest one says which it is.
    hashes = _hashes(block.first + block.of_pair, tokens, seed)
    hashes = (hashes & np.uint64(0xFFFFFFFF00000000)) | tokens.astype(np.uint64)
    known = block.find(top)
    hashes[known[known >= 0]] = NEVER
    chosen = []
    for wanted in (3, 2, 1, 0):
        left = np.where(quarter == wanted, hashes, NEVER)
        picked = []
        for _ in range(OF_QUARTER):
            smallest = block.reduced(np.minimum, left, NEVER)
            picked.append(
                np.where(smallest == NEVER, -1, (smallest & np.uint64(0xFFFFFFFF)).astype(np.int64))
            )
            left[left == smallest[block.of_pair]] = NEVER
        chosen.append(np.stack(picked, axis=1))
    return chosen


def _silent(
    block: Block, kept: Int[ndarray, " kept"], seed: int
) -> Int[ndarray, "features silent"]:
    """Positions on which features do not fire."""
    found = np.full((block.features, SILENT), -1, np.int64)
    if not len(kept):
        return found
    features = block.first + np.arange(block.features)
    # Apart from the hashes of pairs, whose tokens are not negative.
    hashes = _hashes(features[:, None], -1 - np.arange(TRIED), seed)
    tried = kept[(hashes % np.uint64(len(kept))).astype(np.int64)].astype(np.int64)
    left = block.find(tried) < 0
    for number in range(SILENT):
        which = left.argmax(axis=1)
        has = left.any(axis=1)
        found[has, number] = tried[np.arange(block.features), which][has]
        left &= tried != found[:, number, None]
    return found


def _hashes(
    features: Int[ndarray, "..."], tokens: Int[ndarray, "..."], seed: int
) -> UInt64[ndarray, "..."]:
    """64 well-mixed bits of feature, token and seed (splitmix64)."""
    golden = 0x9E3779B97F4A7C15
    with np.errstate(over="ignore"):
        mixed = features.astype(np.uint64) * np.uint64(golden)
        mixed = mixed + np.uint64((seed + 1) * 0xD1B54A32D192ED03 % 2**64)
        mixed = mixed ^ (tokens.astype(np.int64).view(np.uint64) * np.uint64(0xBF58476D1CE4E5B9))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        return mixed ^ (mixed >> np.uint64(31))
