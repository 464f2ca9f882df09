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
        ([6, 7, 8, 9, 6, 7, 8, 9, 6, 7], "several_tokens"),  # digits: more than a list names
    ],
)
def test_rules_name_the_class(marked: list[int], label: str) -> None:
    assert Rules(VOCABULARY).explain(texts(marked)).label == label


def test_marks_anywhere_have_nothing_in_common() -> None:
    generator = np.random.default_rng(1)
    found = texts([int(token) for token in generator.integers(10, 20, 30)])
    said = Rules(VOCABULARY).explain(found)
    assert (said.text, said.label) == ("nothing in common", "nothing_found")


@pytest.mark.parametrize(
    ("rule", "label"),
    [
        ('tokens "while"', "token"),
        ('tokens "while", "because"', "several_tokens"),
        ('tokens "walk", "walked"', "weak_concept"),
        ('stem of "walk"', "weak_concept"),
        ('beginning "walk"', "weak_concept"),
        ('after "while"', "contextual"),
        ("digits", "several_tokens"),
        ("beginnings of words", "several_tokens"),
        ("first tokens of a row", "contextual"),
    ],
)
def test_the_class_is_that_of_the_rule_that_is_written(rule: str, label: str) -> None:
    rules = Rules([*VOCABULARY, " walk", " walked", " Walk"])
    assert rules.label_of(rule) == label
