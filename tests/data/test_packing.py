"""Rows of equal length, every one of which begins with BOS."""

from __future__ import annotations

import random
import time
import timeit

import pytest

from saetrack.data.packing import RowPacker

BOS = 0


def test_packing_by_hand() -> None:
    packer = RowPacker(context_size=4, bos_token_id=BOS)
    assert packer.add([1, 2, 3, 4, 5]) == [[BOS, 1, 2, 3]]
    # The rest of the first document goes on behind a fresh BOS, the next one brings its own.
    assert packer.add([6]) == [[BOS, 4, 5, BOS]]
    assert packer.add([7, 8]) == [[BOS, 6, BOS, 7]]


def test_a_row_that_ends_with_a_document_leaves_nothing_over() -> None:
    packer = RowPacker(context_size=3, bos_token_id=BOS)
    assert packer.add([1, 2]) == [[BOS, 1, 2]]
    assert packer.add([3, 4]) == [[BOS, 3, 4]]


def rows_token_by_token(documents: list[list[int]], context_size: int) -> list[list[int]]:
    """The same rule, one token at a time."""
    rows: list[list[int]] = [[]]
    for document in documents:
        for token in [BOS, *document]:
            if len(rows[-1]) == context_size:
                rows.append([])
            if not rows[-1] and token != BOS:
                rows[-1].append(BOS)
            rows[-1].append(token)
    return [row for row in rows if len(row) == context_size]


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_those_of_the_rule_applied_token_by_token(seed: int) -> None:
    chooser = random.Random(seed)
    context_size = chooser.randint(2, 9)
    # BOS may stand within a document too.
    documents = [
        [chooser.randint(BOS, 5) for _ in range(chooser.choice([0, 1, 3, 8, 9, 10, 40]))]
        for _ in range(30)
    ]
    packer = RowPacker(context_size, BOS)
    rows = [row for document in documents for row in packer.add(document)]
    assert rows == rows_token_by_token(documents, context_size)


def test_a_document_twenty_times_as_long_takes_no_hundred_times_as_long() -> None:
    def pack_s(tokens: int) -> float:
        # `timeit` stops the garbage collector, whose time grows with all that tests have imported.
        document = [1] * tokens
        packer = RowPacker(32, BOS)
        return timeit.timeit(lambda: packer.add(document), timer=time.process_time, number=1)

    pack_s(1_000)
    short_s = min(pack_s(50_000) for _ in range(3))
    assert pack_s(1_000_000) < 100 * short_s
