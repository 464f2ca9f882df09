"""What tokens explain of features and of random directions, against the slow definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from saetrack.analysis.contexts.top_contexts import TokenBatch, TopContexts
from saetrack.analysis.life_store.spool import PairSpool
from saetrack.analysis.meaning.determinism import TokenStatistics
from saetrack.analysis.meaning.directions import DirectionReader
from saetrack.data.exclusion import Excluded
from tests.support.planted_semantics import (
    BOS,
    CONTEXT,
    feed,
    lists_of,
    pairs_of,
    planted_acts,
    planted_rows,
    slow_top,
)

ROWS, VOCABULARY, D_SAE, K = 12, 9, 7, 5
TOKENS = planted_rows(ROWS, VOCABULARY)
TOKENS[5, 3] = VOCABULARY  # which occurs once
EXCLUDED = [Excluded((BOS,)), Excluded((BOS, 3), first_positions=2)]
# A text of two tokens: 1 and 2.
TEXT_IDS = np.array([0, 1, 1, 2, 3, 4, 5, 6, 7, 8])


def slow_share(f: np.ndarray, ids: np.ndarray) -> float:
    """Each value predicted by the mean of the others with its token, else of all others."""
    error, variation = 0.0, 0.0
    for index, value in enumerate(f):
        others = np.delete(f, index)
        alike = others[np.delete(ids, index) == ids[index]]
        error += (value - (alike if len(alike) else others).mean()) ** 2
        variation += (value - others.mean()) ** 2
    return 1 - error / variation


def planted() -> np.ndarray:
    acts = planted_acts(TOKENS, D_SAE)
    acts[..., 4] = TOKENS * (TOKENS > 3) * (TOKENS < VOCABULARY) / 4  # decided by the token
    acts[..., 5] = np.random.default_rng(0).random(TOKENS.shape)  # by nothing
    return acts


@pytest.mark.parametrize("excluded", EXCLUDED)
def test_determinism_is_that_of_the_definition(excluded: Excluded, tmp_path) -> None:
    acts, kept = planted(), excluded.kept_in(TOKENS)
    statistics = TokenStatistics(TOKENS, VOCABULARY + 1, excluded)
    found = statistics.of_pairs(pairs_of(TOKENS, acts, excluded))
    slow = [slow_share(acts[kept][:, feature], TOKENS[kept]) for feature in range(1, D_SAE)]
    np.testing.assert_allclose(found[1:], slow, atol=1e-6)
    assert np.isnan(found[0]), "it never fires"
    assert found[4] > 0.98 and found[5] < 0.2
    # The same from the spool of a pass, in blocks of few features; and recall.
    spool = PairSpool(D_SAE, tmp_path, excluded=excluded)
    feed(spool, TOKENS, acts, 5)
    texts = np.array([-1, 1, 1, 2, 7, 1, 1])
    eta, recall = statistics.of_all(spool.blocks(block_pairs=100), texts, TEXT_IDS)
    np.testing.assert_allclose(eta, found, atol=1e-9)
    fires = acts[kept & np.isin(TOKENS, [1, 2])] > 0
    assert recall[2] == pytest.approx(fires[:, 2].mean()) and np.isnan(recall[0])
    assert np.isnan(recall[3]) if 3 in excluded.token_ids else 0 <= recall[3] <= 1


def test_rare_tokens_are_not_explained_by_themselves() -> None:
    """A feature that fires now and then on tokens that occur twice: no token predicts the other."""
    tokens = np.arange(600).reshape(40, 15) % 300
    acts = (np.random.default_rng(0).random((40, 15, 1)) < 0.1) * 1.0
    found = TokenStatistics(tokens, 300).of_pairs(pairs_of(tokens, acts, Excluded()))
    assert found[0] < 0.1


@pytest.mark.parametrize("excluded", EXCLUDED)
@pytest.mark.parametrize("once", [True, False])
def test_directions_are_read_as_features_are(excluded: Excluded, once: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, CONTEXT, 6, generator=generator)
    x[[3, 7]] = x[1].clone()
    vectors = torch.nn.functional.normalize(torch.randn(4, 6, generator=generator), dim=1)
    statistics = TokenStatistics(TOKENS, VOCABULARY + 1, excluded)
    rule: dict[str, Any] = {"window": (2, 1) if once else None, "excluded": excluded}
    top = TopContexts(4, K, rows_count_once=once, **rule)
    reader = DirectionReader(vectors, top, statistics, excluded)
    for start in range(0, ROWS, 5):
        rows = np.arange(start, min(start + 5, ROWS))
        reader.add(x[rows].flatten(0, 1), TokenBatch(rows, TOKENS[rows]))
    found = reader.result()
    acts, kept = (x @ vectors.T).clamp_min(0).numpy(), excluded.kept_in(TOKENS)
    for direction in range(4):
        slow = slow_top(TOKENS, acts[..., direction], K, rows_count_once=once, **rule)
        assert [at[:2] for at in lists_of(found.contexts, direction)] == [at[:2] for at in slow]
        of_kept = acts[kept][:, direction]
        assert found.contexts.fires[direction] == (of_kept > 0).sum()
        expected = slow_share(of_kept.astype(float), TOKENS[kept])
        assert found.determinism[direction] == pytest.approx(expected, abs=1e-6)
