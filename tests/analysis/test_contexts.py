"""Top contexts, datapoints, liveness and regions against the slow definition."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from saetrack.analysis.contexts import top_contexts
from saetrack.analysis.contexts.datapoints import (
    random_contexts,
    random_directions,
    read_windows,
    token_ids_at,
    unite,
)
from saetrack.analysis.contexts.liveness import feature_status
from saetrack.analysis.contexts.top_contexts import TopContexts, text_keys
from saetrack.analysis.formation.progress_measure import PointActivations
from saetrack.analysis.formation.regions import RegionSample, region_table
from saetrack.data.exclusion import NOTHING, Excluded
from tests.support.planted_semantics import (
    BOS,
    CONTEXT,
    feed,
    lists_of,
    planted_acts,
    planted_rows,
    slow_top,
)

ROWS, VOCABULARY, D_SAE, K = 12, 9, 7, 5
TOKENS = planted_rows(ROWS, VOCABULARY)
ACTS = planted_acts(TOKENS, D_SAE)
WITHOUT_BOS = Excluded((BOS,))


@pytest.mark.parametrize(
    "excluded", [NOTHING, WITHOUT_BOS, Excluded((BOS, 3, 5)), Excluded((4,), first_positions=3)]
)
@pytest.mark.parametrize(
    ("window", "rows_count_once"), [(None, True), ((2, 1), True), ((0, 0), True), (None, False)]
)
def test_top_contexts_are_those_of_a_full_sort(
    window, rows_count_once: bool, excluded: Excluded, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = {"window": window, "rows_count_once": rows_count_once, "excluded": excluded}
    for batch_rows, buffer_pairs in ((3, 1), (5, 40), (ROWS, 10**6)):
        monkeypatch.setattr(top_contexts, "BUFFER_PAIRS", buffer_pairs)
        top = TopContexts(D_SAE, K, **choices)
        feed(top, TOKENS, ACTS, batch_rows)
        contexts = top.result()
        for feature in range(D_SAE):
            slow = slow_top(TOKENS, ACTS[..., feature], K, **choices)
            assert lists_of(contexts, feature) == slow
    eligible = ~np.isin(TOKENS, excluded.token_ids)
    eligible[:, : excluded.first_positions] = False
    assert contexts.tokens == eligible.sum()
    assert contexts.fires.tolist() == ((ACTS > 0) & eligible[..., None]).sum(axis=(0, 1)).tolist()


def test_a_repeated_text_counts_once_and_a_dead_feature_has_no_list() -> None:
    top = TopContexts(D_SAE, ROWS, window=(3, 0))
    feed(top, TOKENS, ACTS, 4)
    contexts = top.result()
    for feature in range(2, D_SAE):
        rows = contexts.rows[feature, : contexts.counts[feature]].tolist()
        assert len(set(rows) & {1, 3, 7}) <= 1 and len(rows) == len(set(rows))
    assert contexts.counts[0] == 0 and (contexts.rows[0] == -1).all()
    assert lists_of(contexts, 1) == [(5, 1, 3.0), (2, 9, 2.0)]


def test_keys_are_equal_where_texts_are() -> None:
    keys = text_keys(TOKENS, 2, 1)
    texts = {}
    for row, at in np.ndindex(*TOKENS.shape):
        text = tuple(TOKENS[row, i] if 0 <= i < CONTEXT else None for i in range(at - 2, at + 2))
        assert texts.setdefault(text, keys[row, at]) == keys[row, at]
    assert len(set(texts.values())) == len(texts)


def test_dead_and_ultra_low_features_are_found_and_counted() -> None:
    top = TopContexts(D_SAE, K)
    feed(top, TOKENS, ACTS, 4)
    contexts = top.result()
    status = feature_status(contexts, 0.02)
    assert status["status"].tolist() == ["dead", "ultra_low", *["live"] * 5]
    assert (feature_status(contexts, 0)["status"] == "live").sum() == D_SAE - 1


def test_the_union_knows_where_every_datapoint_went() -> None:
    a = (np.array([[4, 2], [9, -1]]), np.array([[1, 3], [0, -1]]))
    b = (np.array([2, 2, 4]), np.array([3, 0, 1]))
    union = unite({"a": a, "b": b})
    assert list(zip(union.rows.tolist(), union.positions.tolist(), strict=True)) == [
        (2, 0),
        (2, 3),
        (4, 1),
        (9, 0),
    ]
    assert union.sets["a"].tolist() == [[2, 1], [3, -1]]
    assert union.sets["b"].tolist() == [1, 0, 2]
    points, places = union.in_rows(np.array([1, 2, 9]), 4)
    assert points.tolist() == [0, 1, 3] and places.tolist() == [4, 7, 8]


def test_random_contexts_are_of_distinct_rows_and_seeded() -> None:
    rows, positions = random_contexts(TOKENS, 6, 8, seed=1, excluded=WITHOUT_BOS)
    assert rows.shape == positions.shape == (6, 8)
    assert all(len(set(draw)) == 8 for draw in rows.tolist())
    assert (TOKENS[rows, positions] != BOS).all()
    again = random_contexts(TOKENS, 6, 8, seed=1, excluded=WITHOUT_BOS)
    assert np.array_equal(rows, again[0]) and np.array_equal(positions, again[1])
    assert not np.array_equal(rows, random_contexts(TOKENS, 6, 8, seed=2)[0])
    with pytest.raises(ValueError, match="12 rows, fewer than a random set's 13"):
        random_contexts(TOKENS, 1, 13, seed=0)
    # A row of which nothing may be drawn is none.
    tokens, seven = TOKENS.copy(), Excluded((BOS, 7), first_positions=4)
    tokens[2] = 7
    rows, positions = random_contexts(tokens, 6, 11, seed=1, excluded=seven)
    assert 2 not in rows and (tokens[rows, positions] != 7).all() and positions.min() >= 4
    with pytest.raises(ValueError, match="11 rows, fewer than a random set's 12"):
        random_contexts(tokens, 6, 12, seed=1, excluded=seven)
    directions = random_directions(5, 3, seed=0)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(5))


def test_windows_are_read_with_their_token_marked() -> None:
    words = ["<s>", " the", " US", " firm", " is", "\n"]
    rows = np.array([[0, 1, 2, 3, 4, 5]])

    def decode(ids: list[int]) -> str:
        return "".join(words[i] for i in ids)

    texts = read_windows(rows, np.array([0, 0, -1]), np.array([3, 5, -1]), decode, (2, 1))
    assert texts == ["the US ⟦firm⟧ is", "firm is⟦\\n⟧", ""]
    assert token_ids_at(rows, np.array([0, -1]), np.array([3, -1])).tolist() == [3, -1]


def test_regions_are_sampled_where_they_are() -> None:
    features = np.array([2, 6])
    max_acts = ACTS.max(axis=(0, 1))[features]
    samples = []
    for batch_rows in (3, ROWS):
        sample = RegionSample(features, max_acts, seed=3, size=4, edges=(0, 0.5, 1))
        feed(sample, TOKENS, ACTS, batch_rows)
        samples.append(sample.result())
    contexts = samples[0]
    assert np.array_equal(contexts.rows, samples[1].rows)
    assert np.array_equal(contexts.positions, samples[1].positions)
    for place, feature in enumerate(features):
        share = ACTS[..., feature] / max_acts[place]
        assert contexts.fires[2 * place] == ((share > 0) & (share <= 0.5)).sum()
        assert contexts.fires[2 * place + 1] == (share > 0.5).sum()
        for region, (low, high) in enumerate(((0, 0.5), (0.5, 1))):
            members = lists_of(contexts, 2 * place + region)
            assert len(members) == 4 and len({row for row, _, _ in members}) == 4
            assert all(low < share[row, at] <= high for row, at, _ in members)
    points = np.where(contexts.rows >= 0, contexts.rows * CONTEXT + contexts.positions, -1)
    x = torch.randn(ROWS * CONTEXT, 8, generator=torch.Generator().manual_seed(0))
    activations = PointActivations(0, 0, x, sparse.csr_array(ACTS.reshape(-1, D_SAE)))
    ids = token_ids_at(TOKENS, contexts.rows, contexts.positions)
    baseline = np.arange(60).reshape(6, 10)
    table = region_table(features, contexts, activations, points, baseline, ids, edges=(0, 0.5, 1))
    assert table[["feature", "region"]].to_numpy().tolist() == [[2, 0], [2, 1], [6, 0], [6, 1]]
    counts = pd.Series(ids[0]).value_counts()
    assert table["token_purity"][0] == pytest.approx(counts.max() / 4)
    assert table.notna().all(axis=None)


def test_a_regions_sample_is_uniform() -> None:
    tokens = planted_rows(400, VOCABULARY)
    acts = np.ones((400, CONTEXT, 1))
    sample = RegionSample(np.array([0]), np.array([1.0]), seed=0, size=200, edges=(0, 1))
    feed(sample, tokens, acts, 50)
    contexts = sample.result()
    assert abs(contexts.rows.mean() - 199.5) < 20
    assert abs(contexts.positions.mean() - 7.5) < 1
