"""Splits have the shares that are promised."""

from __future__ import annotations

from itertools import islice

from saetrack.data.embedded import embedded_documents
from saetrack.data.splits import split_of


def test_split_shares_are_those_promised() -> None:
    splits = [split_of(document) for document in islice(embedded_documents(), 8_000)]
    assert abs(splits.count("held_out") / len(splits) - 0.05) < 0.01
    assert abs(splits.count("analysis") / len(splits) - 0.15) < 0.015


def test_a_document_always_falls_into_the_same_split() -> None:
    documents = [f"document {index}" for index in range(200)]
    splits = [split_of(document) for document in documents]
    assert [split_of(document) for document in reversed(documents)] == splits[::-1]
    assert set(splits) == {"train", "held_out", "analysis"}
