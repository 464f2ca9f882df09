"""Random directions that fire as rarely as features: thresholds and what a store keeps of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from saetrack.analysis.contexts.datapoints import random_directions
from saetrack.analysis.contexts.top_contexts import TokenBatch, TopContexts
from saetrack.analysis.life_store import rare_directions
from saetrack.analysis.life_store.layout import SILENT, TOP
from saetrack.analysis.life_store.rare_directions import RareDirections, rare_densities
from saetrack.analysis.life_store.records import Text
from saetrack.analysis.life_store.spool import PairSpool
from saetrack.analysis.meaning.determinism import TokenStatistics
from saetrack.analysis.meaning.directions import DirectionReader
from saetrack.data.exclusion import Excluded

ROWS, CONTEXT, VOCABULARY, D_IN, DIRECTIONS = 60, 32, 40, 8, 5
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, CONTEXT))
EXCLUDED = Excluded(token_ids=(7,), first_positions=1)
KEPT = EXCLUDED.kept_in(TOKENS)
X = torch.randn(ROWS, CONTEXT, D_IN, generator=torch.Generator().manual_seed(0))
VECTORS = random_directions(DIRECTIONS + 3, D_IN, seed=0)
DENSITIES = np.array([0.003, 0.03, 0.1, 0.2, 0.25])
HELD = 700  # fewer tokens than there are


@pytest.fixture(autouse=True)
def few_tokens_set_the_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rare_directions, "QUANTILE_TOKENS", HELD)


def read(batch_rows: int, folder: Path) -> tuple[RareDirections, PairSpool]:
    spool = PairSpool(DIRECTIONS, folder, excluded=EXCLUDED)
    rare = RareDirections(VECTORS[:DIRECTIONS], DENSITIES, spool, EXCLUDED)
    for start in range(0, ROWS, batch_rows):
        rows = np.arange(start, min(start + batch_rows, ROWS))
        rare.add(X[rows].flatten(0, 1), TokenBatch(rows, TOKENS[rows]))
    return rare, spool


def expected_acts(held: int = HELD) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds by NumPy, one direction after another; and all activations above them."""
    projections = (X @ VECTORS[:DIRECTIONS].T).numpy()
    first = projections[KEPT][:held]
    thresholds = np.array(
        [np.quantile(first[:, k], 1 - density) for k, density in enumerate(DENSITIES)], np.float32
    )
    return thresholds, np.maximum(projections - thresholds, 0) * KEPT[..., None]


@pytest.mark.parametrize("batch_rows", [1, 7, ROWS])
def test_a_threshold_is_the_quantile_of_the_first_tokens(batch_rows: int, tmp_path: Path) -> None:
    rare, spool = read(batch_rows, tmp_path)
    thresholds, acts = expected_acts()
    np.testing.assert_allclose(rare.thresholds().numpy(), thresholds, rtol=1e-6)
    np.testing.assert_array_equal(spool.counts, (acts > 0).sum((0, 1)))
    np.testing.assert_allclose((acts[KEPT][:HELD] > 0).mean(0), DENSITIES, atol=1 / HELD)
    ((_, pairs),) = spool.blocks()
    tokens = [np.flatnonzero(acts[..., k].reshape(-1)) for k in range(DIRECTIONS)]
    np.testing.assert_array_equal(pairs.tokens, np.concatenate(tokens))
    in_order = [acts[..., k].reshape(-1)[at] for k, at in enumerate(tokens)]
    np.testing.assert_allclose(pairs.acts, np.concatenate(in_order), atol=1e-6)


def test_of_a_shorter_text_all_tokens_set_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rare_directions, "QUANTILE_TOKENS", KEPT.sum() + 1)
    rare, _ = read(7, tmp_path)
    np.testing.assert_allclose(rare.thresholds().numpy(), expected_acts(KEPT.sum())[0], rtol=1e-6)


def test_a_store_keeps_what_a_plain_computation_finds(tmp_path: Path) -> None:
    rare, _ = read(7, tmp_path)
    statistics = TokenStatistics(TOKENS, VOCABULARY, EXCLUDED)
    top = TopContexts(len(VECTORS), 25, excluded=EXCLUDED)
    reader = DirectionReader(VECTORS, top, statistics, EXCLUDED)
    rows = np.arange(ROWS)
    reader.add(X.flatten(0, 1), TokenBatch(rows, TOKENS))
    contexts = reader.result().contexts
    found = rare.records(contexts, Text(TOKENS, EXCLUDED, VOCABULARY), seed=0)
    _, acts = expected_acts()
    np.testing.assert_allclose(found["feature_density"], (acts > 0).sum((0, 1)) / KEPT.sum())
    np.testing.assert_allclose(found["max_act"], acts.max((0, 1)), atol=1e-6)
    for k in range(DIRECTIONS):
        of_direction = acts[..., k]
        # The strongest position of each row, the strongest rows first.
        strongest = np.argsort(-of_direction.max(axis=1), kind="stable")[:TOP]
        strongest = strongest[of_direction[strongest].max(axis=1) > 0]
        shown = found["context_rows"][k, :TOP]
        np.testing.assert_array_equal(shown[shown >= 0], strongest)
        where = found["context_rows"][k], found["context_positions"][k]
        known = where[0] >= 0
        np.testing.assert_allclose(
            found["context_act"][k][known], of_direction[where][known], atol=1e-6
        )
        assert not found["context_act"][k][-SILENT:].any()
    assert (found["neighbours"][:, : DIRECTIONS - 1] >= 0).all()


def test_densities_are_those_of_features() -> None:
    np.testing.assert_allclose(rare_densities(np.array([0.1, 1e-3, 0.01]), 3), [1e-3, 0.01, 0.1])
    found = rare_densities(np.array([1e-4, 0.9]), 256)
    assert len(found) == 64 and found[0] == pytest.approx(1e-4) and found[-1] == pytest.approx(0.25)
    np.testing.assert_allclose(rare_densities(np.array([0.4, 0.9]), 2), 0.25)
