"""The class that rules give is that of the analysis."""

from __future__ import annotations

import numpy as np
import pytest

from saetrack.analysis.explanations.examples import Text
from saetrack.analysis.explanations.rules import Rules

VOCABULARY = [" while", " because", " Paris", " London", " Rome", " Oslo", "1", "22", "7", "950"]
VOCABULARY += [f" w{letter}" for letter in "abcdefghij"]


def texts(marked: list[int]) -> list[Text]:
    """Texts of random other words, each with one marked token."""
    generator = np.random.default_rng(0)
    found = []
    for token in marked:
        ids = [*generator.integers(10, 20, 8), token, *generator.integers(10, 20, 4)]
        marks = [False] * 8 + [True] + [False] * 4
        found.append(Text(0, 0, tuple(int(one) for one in ids), tuple(marks)))
    return found


@pytest.mark.parametrize(
    ("marked", "label"),
    [
        ([0] * 12, "token"),
        ([0] * 6 + [1] * 6, "several_tokens"),
        ([6, 7, 8, 9, 6, 7, 8, 9, 6, 7], "concept"),  # digits: more than a list names
    ],
)
def test_rules_name_the_class(marked: list[int], label: str) -> None:
    assert Rules(VOCABULARY).explain(texts(marked)).label == label


def test_marks_anywhere_have_nothing_in_common() -> None:
    generator = np.random.default_rng(1)
    found = texts([int(token) for token in generator.integers(10, 20, 30)])
    assert Rules(VOCABULARY).explain(found).label == "contextual"
