"""Classes and patterns of features, each planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon

from saetrack.analysis.contexts.examples import choose_examples
from saetrack.analysis.contexts.token_purity import vocabulary_forms
from saetrack.analysis.meaning.classes import LABELS, PAPER_CLASSES
from saetrack.analysis.meaning.labels import (
    Meanings,
    classify,
    label_counts,
    may_be_concepts,
    paper_counts,
    sample_features,
)
from saetrack.analysis.meaning.patterns import (
    PATTERNS,
    paper_pattern_counts,
    pattern_counts,
    text_overlap,
    trace_patterns,
)
from tests.support.planted_semantics import FORM_TOKENS

FORMS, K = vocabulary_forms(FORM_TOKENS), 10

TOKEN, FORMS_OF_ONE, MANY = [6] * 6 + [7] * 3 + [13], [1, 2, 3, 4, 1, 2, 3, 5, 5, 13], [10, 12, 13]
TWO = [10] * 6 + [12] * 4


def labelled(
    lists: list[list[int]],
    z: list[float],
    status: list[str] | None = None,
    determinism: list[float] | None = None,
):
    ids = np.array([chosen + [-1] * (K - len(chosen)) for chosen in lists])
    table = pd.DataFrame({"coherence": 0.0, "coherence_random": 0.0, "coherence_z": z})
    states = pd.Series(status or ["live"] * len(ids))
    explained = np.array(determinism or [0.3] * len(ids))
    return ids, classify(ids, FORMS, states, explained, table, 8)


# What a feature's contexts have, its coherence, its status, what its token explains; its class, and
# the paper's.
MANY_TOKENS = (MANY * 4)[:K]
EACH_CLASS = [
    (TOKEN, 0, "live", 0.1, "token", "token"),
    (FORMS_OF_ONE, 0, "live", 0.9, "weak_concept", "weak_concept"),
    (TWO, 2, "live", 0.9, "several_tokens", "noise"),
    (MANY_TOKENS, 6, "live", 0.9, "several_tokens", "concept"),
    (MANY_TOKENS, 6, "live", 0.3, "concept", "concept"),
    (MANY_TOKENS, 4, "live", 0.3, "contextual", "noise"),
    (TWO, 6, "live", 0.3, "contextual", "noise"),  # two stems: no concept
    (TOKEN[:7], 9, "live", 0.9, "insufficient", "insufficient"),
    ([], np.nan, "dead", np.nan, "dead", "dead"),
    (TOKEN, 0, "ultra_low", 0.9, "ultra_low", "ultra_low"),
]


def test_each_class_is_found_beside_that_of_the_paper() -> None:
    lists, z, status, determinism, ours, paper = map(list, zip(*EACH_CLASS, strict=True))
    _, table = labelled(lists, z, status, determinism)
    assert set(ours) == set(LABELS) and set(paper) >= set(PAPER_CLASSES)
    assert table["label"].tolist() == ours and table["paper_label"].tolist() == paper
    first = table.iloc[0]
    assert (first["exact_purity"], first["token_purity"], first["top_text"]) == (0.6, 0.9, "firm")
    assert table.loc[1, "stem_purity"] == 0.9 and table.loc[1, "token_purity"] == 0.3
    meanings = [Meanings(4, 2, table, np.empty((len(table), 0)))]
    counts = label_counts(meanings).set_index("label")
    assert list(counts.index) == list(LABELS) and counts["features"].sum() == len(table)
    assert counts.loc["contextual", "share"] == 2 / 7 and np.isnan(counts.loc["dead", "share"])
    assert paper_counts(meanings).set_index("label").loc["noise", "features"] == 3
    assert may_be_concepts(table).tolist() == [place in (4, 5) for place in range(len(table))]


def test_two_words_that_the_token_decides_are_several_tokens_and_no_noise() -> None:
    words = vocabulary_forms([" while", " because"])
    ids = np.array([[0] * 13 + [1] * 12])
    low = pd.DataFrame({"coherence_z": [1.0]})
    table = classify(ids, words, pd.Series(["live"]), np.array([0.95]), low, 25)
    assert table["label"].tolist() == ["several_tokens"]
    assert table["paper_label"].tolist() == ["noise"]


def test_overlap_is_one_less_the_jensen_shannon_distance() -> None:
    generator = np.random.default_rng(0)
    left, right = (generator.integers(0, 6, (20, K)) for _ in range(2))
    left[3, 4:] = -1
    right[0] = left[0][::-1]
    right[1], left[1] = 3, 4
    left[2] = -1
    shares = [
        np.stack([np.bincount(row[row >= 0], minlength=6) for row in ids]) for ids in (left, right)
    ]
    slow = [
        1 - jensenshannon(p, q, base=2) if p.sum() else np.nan for p, q in zip(*shares, strict=True)
    ]
    found = text_overlap(left, right)
    np.testing.assert_allclose(found, slow, atol=1e-7)
    assert found[0] == pytest.approx(1) and found[1] == pytest.approx(0) and np.isnan(found[2])


# Contexts of features, coherence, what the token explains; what they are at four checkpoints, and
# since when they are formed.
OTHERS = [14, 15, 9] * 3 + [14]
T, T2, S, W, C, N, A = (
    *((TOKEN, 0.0, 0.9), ([12] * K, 0.0, 0.9), (TWO, 0.0, 0.9), (FORMS_OF_ONE, 0.0, 0.9)),
    *((MANY_TOKENS, 9.0, 0.3), (OTHERS, 0.0, 0.3), ([], np.nan, np.nan)),
)
C2, T_OF_TWO = (OTHERS, 9.0, 0.3), ([10] * K, 0.0, 0.9)
WIDER = ([6] * 7 + [14] * 3, 0.0, 0.9)  # no feature fires on 14 alone
CHANGES = {
    "maintaining": ([T, T, T, T], 0),
    "shifting": ([T, T, T2, T2], 2),
    "grouping": ([N, N, N, C], 3),
    "merging": ([T_OF_TWO, T_OF_TWO, S, S], 2),  # 12 is at first that of the one that dissolves
    "widening": ([T, T, WIDER, WIDER], 2),
    "narrowing": ([S, S, T_OF_TWO, T_OF_TWO], 2),
    "kept_concept": ([C, C, C, C], 0),
    "moved_concept": ([C, C2, C2, C2], 1),
    "dissolving": ([T2, N, N, N], None),
    "unformed": ([N, T, N, N], None),
    "late_born": ([A, T, N, T], 3),
    "dying": ([T, T, T, A], None),
    "absent": ([A, T, T, A], None),
}


def planted_meanings(changes: list[list[tuple]]) -> list[Meanings]:
    meanings = []
    for index, step in enumerate([0, 8, 64, 512]):
        lists, z, explained = map(list, zip(*(change[index] for change in changes), strict=True))
        ids, table = labelled(lists, z, determinism=explained)
        texts = np.where(ids >= 0, FORMS.text_ids[ids], -1)
        meanings.append(Meanings(step, 10 * index, table, texts))
    return meanings


def test_each_pattern_is_found_with_its_formation_point() -> None:
    assert set(CHANGES) == set(PATTERNS)
    patterns = trace_patterns(planted_meanings([change for change, _ in CHANGES.values()]))
    assert patterns["pattern"].tolist() == list(CHANGES)
    formed = [np.nan if place is None else place for _, place in CHANGES.values()]
    np.testing.assert_array_equal(patterns["formed_checkpoint_index"], np.array(formed) * 10)
    steps = [np.nan if place is None else [0, 8, 64, 512][place] for _, place in CHANGES.values()]
    np.testing.assert_array_equal(patterns["formed_lm_step"], steps)
    assert patterns.loc[patterns["steady"], "pattern"].tolist() == ["maintaining", "kept_concept"]


@pytest.mark.parametrize(
    ("first", "final", "pattern", "of_paper"),
    [
        (S, S, "maintaining", None),  # noise throughout, to the paper
        (S, WIDER, "shifting", None),
        (S, T, "shifting", "grouping"),
        (S, C, "shifting", "grouping"),
        (W, T, "narrowing", None),
        (T, C, "shifting", "shifting"),
        (T, T, "maintaining", "maintaining"),
        (N, S, "grouping", None),
        (S, N, "dissolving", None),
    ],
)
def test_patterns_of_several_tokens_beside_those_of_the_paper(
    first: tuple, final: tuple, pattern: str, of_paper: str | None
) -> None:
    found = trace_patterns(planted_meanings([[first, first, final, final]]))
    assert found["pattern"].tolist() == [pattern]
    assert found["paper_pattern"].tolist() == [of_paper]


def test_tokens_merge_only_if_both_had_a_feature() -> None:
    """Two features end on the same two tokens: each had one of them; or one feature widened."""
    both = trace_patterns(planted_meanings([[T_OF_TWO, S, S, S], [T2, S, S, S]]))
    assert both["pattern"].tolist() == ["merging", "merging"]
    alone = trace_patterns(planted_meanings([[T_OF_TWO, S, S, S], [T, T, T, T]]))
    assert alone["pattern"].tolist() == ["widening", "maintaining"]


def test_a_maintaining_feature_is_formed_throughout_and_widening_is_seen() -> None:
    widens = [([1] * K, 0.0, 0.9), W, W, W]
    patterns = trace_patterns(planted_meanings([[T, N, T, T], widens]))
    assert patterns["pattern"].tolist() == ["maintaining", "shifting"]
    assert patterns["formed_lm_step"].tolist() == [0, 8]
    assert patterns["steady"].tolist() == [False, False]
    assert patterns["same_stem"].tolist() == [True, True]


def test_patterns_are_counted_over_all_and_over_a_sample() -> None:
    changes = [CHANGES["maintaining"][0]] * 30 + [CHANGES["grouping"][0]] * 10
    patterns = trace_patterns(planted_meanings(changes))
    sample = sample_features(np.arange(40), 8, seed=1)
    assert np.array_equal(sample, sample_features(np.arange(40), 8, seed=1)) and len(sample) == 8
    assert len(sample_features(np.arange(5), 256, seed=0)) == 5
    samples = {"all live": np.arange(40), "sample": sample}
    of_paper = paper_pattern_counts(patterns, samples).set_index(["sample", "pattern"])["features"]
    assert of_paper["all live"].tolist() == [30, 0, 10, 0] and of_paper["sample"].sum() == 8
    counts = pattern_counts(patterns, samples)
    counts = counts.set_index(["sample", "pattern", "final_label"])
    assert counts.loc[("all live", "maintaining", "token"), "share"] == 0.75
    assert counts.loc["sample", "features"].sum() == 8
    chosen = choose_examples(patterns, 3, seed=0)
    assert (chosen[:3] < 30).all() and (chosen[3:] >= 30).all() and len(chosen) == 6
