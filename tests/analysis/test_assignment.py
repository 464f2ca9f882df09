"""Blockwise assignment against scipy's dense one, and matching by activation correlation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from saetrack.analysis.matching import scores
from saetrack.analysis.matching.activation_matching import (
    SharedTokens,
    correlation_numbers,
    match_activations,
    multiply_on_device,
    on_device,
)
from saetrack.analysis.matching.assignment import assign
from saetrack.analysis.matching.decoder_matching import match_features
from saetrack.analysis.matching.scores import ProductScores
from saetrack.registry.received import Decoder
from saetrack.sae.model import SAE, new_sae


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "BLOCK_SCORES", 1000)  # several blocks, the last one shorter


def directions(count: int, d_in: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, d_in, generator=generator, dtype=torch.float64), dim=1)


@pytest.mark.parametrize("sizes", [(1, 1), (6, 6), (60, 60), (40, 70), (70, 40)])
def test_candidates_of_every_pair_give_the_exact_assignment(sizes: tuple[int, int]) -> None:
    for seed in range(3):
        left, right = directions(sizes[0], 8, seed), directions(sizes[1], 8, seed + 50)
        rows, columns = linear_sum_assignment((left @ right.T).numpy(), maximize=True)
        for dense_pairs in (0, 10**6):
            found = assign(ProductScores(left, right), candidates=70, dense_pairs=dense_pairs)
            assert np.array_equal(found.rows, rows) and np.array_equal(found.columns, columns)
            assert found.score == pytest.approx((left @ right.T).numpy()[rows, columns])
            assert not found.outside.any()


def test_a_planted_dictionary_needs_few_candidates() -> None:
    left = directions(300, 32, 0)
    partners = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    right = torch.empty_like(left)
    right[partners] = normalize(left + 0.05 * directions(300, 32, 2) * 32**0.5, dim=1)
    found = assign(ProductScores(left, right), candidates=2, dense_pairs=0)
    assert np.array_equal(found.columns, partners.numpy()) and not found.outside.any()


def test_random_directions_lose_little_to_few_candidates() -> None:
    """Where no pair stands out the candidates matter most: 16 of 400 reach 99 % of the best sum."""
    left, right = directions(400, 16, 0), directions(400, 16, 1)
    dense = (left @ right.T).numpy()
    best = dense[linear_sum_assignment(-dense)].sum()
    found = assign(ProductScores(left, right), candidates=16, dense_pairs=0)
    assert 0.99 * best < found.score.sum() <= best + 1e-9


def test_crowded_columns_are_completed_and_said() -> None:
    """All rows want the same two columns: the candidates alone hold no assignment."""
    left = normalize(torch.ones(30, 4).double() + 0.1 * directions(30, 4, 0), dim=1)
    right = torch.cat([left[:2], -left[2:]])
    found = assign(ProductScores(left, right), candidates=1, dense_pairs=0)
    dense = (left @ right.T).numpy()
    assert len(set(found.columns)) == 30 and list(found.rows) == list(range(30))
    assert found.score == pytest.approx(dense[found.rows, found.columns])
    nearest_of_row = dense.argmax(axis=1)[found.rows] == found.columns
    nearest_of_column = dense.argmax(axis=0)[found.columns] == found.rows
    assert found.outside.any()
    assert np.array_equal(found.outside, ~(nearest_of_row | nearest_of_column))


def test_nothing_to_assign() -> None:
    nothing = assign(ProductScores(torch.zeros(0, 4).double(), directions(5, 4, 0)))
    assert len(nothing.rows) == len(nothing.outside) == 0


def test_quality_is_that_of_a_direct_look() -> None:
    left, right = directions(30, 6, 0), directions(40, 6, 1)
    products = ProductScores(left, right)
    dense = (left @ right.T).numpy()
    for found in (assign(products), assign(products, candidates=70, dense_pairs=0)):
        for row, column, runner_up in zip(found.rows, found.columns, found.runner_up, strict=True):
            others = [*np.delete(dense[row], column), *np.delete(dense[:, column], row)]
            assert runner_up == pytest.approx(max(others))
    assert assign(ProductScores(left[:1], right[:1])).runner_up.tolist() == [-np.inf]


def test_features_are_matched_in_blocks_as_at_once() -> None:
    left, right = (new_sae(16, 90, torch.zeros(16), seed) for seed in (0, 1))
    density = torch.ones(90)
    density[::9] = 0
    sides = Decoder(left.W_dec, density), Decoder(right.W_dec, torch.ones(90))
    dense = match_features(*sides)
    blockwise = match_features(*sides, dense_pairs=0, candidates=90)
    pd.testing.assert_frame_equal(dense.pairs, blockwise.pairs)
    assert dense.scalars() == pytest.approx(blockwise.scalars())
    assert (dense.scalars()["left_unmatched"], dense.scalars()["right_unmatched"]) == (0, 10)


def test_large_dictionaries_are_matched_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = (new_sae(16, 90, torch.zeros(16), seed) for seed in (0, 1))
    sides = Decoder(left.W_dec, torch.ones(90)), Decoder(right.W_dec, torch.ones(90))
    exact = match_features(*sides, dense_pairs=0, candidates=90)
    monkeypatch.setattr(scores, "DENSE_PAIRS", 90 * 90 - 1)
    found = match_features(*sides, dense_pairs=0, candidates=90)
    assert scores.precision(90 * 90) is torch.float32
    assert found.pairs["score"].dtype == np.float64
    pd.testing.assert_frame_equal(found.pairs, exact.pairs, atol=1e-6)
    assert (found.pairs["score"] != exact.pairs["score"]).any(), "it is another arithmetic"


def planted_pair(d_sae: int = 40, d_in: int = 24) -> tuple[SAE, SAE, Tensor]:
    """Two SAEs whose features fire alike, in another order, with unlike decoders."""
    left = new_sae(d_in, d_sae, torch.zeros(d_in), 0)
    right = new_sae(d_in, d_sae, torch.zeros(d_in), 1)
    places = torch.randperm(d_sae, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        left.b_enc -= 0.3
        right.W_enc[:, places] = 2 * left.W_enc  # correlation knows no scale
        right.b_enc[places] = 2 * left.b_enc
        left.b_enc[7] = -100.0  # dead
    return left, right, places


@pytest.mark.parametrize("dense_pairs", [scores.DENSE_PAIRS, 0], ids=["float64", "float32"])
def test_activations_match_what_fires_alike(
    dense_pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "DENSE_PAIRS", dense_pairs)
    left, right, places = planted_pair()
    tokens = torch.randn(500, 24, generator=torch.Generator().manual_seed(3))
    shared = SharedTokens()
    for batch in tokens.split(200):
        shared.add(left.active_pairs(batch), right.active_pairs(batch))
    correlations = shared.correlations()
    assert correlations.shape == (39, 40)
    acts = [sae.encode(tokens).detach().double().numpy().T for sae in (left, right)]
    direct = np.corrcoef(np.delete(acts[0], 7, axis=0), acts[1])[:39, 39:]
    blockwise = np.concatenate([values.numpy() for _, values in scores.blocks(correlations)])
    assert blockwise == pytest.approx(direct, abs=1e-6)  # float32 activations
    # What a GPU is given: dense blocks of the left side.
    there = on_device(correlations.right.acts, torch.device("cpu"))
    dense = multiply_on_device(there, correlations.left.acts[3:9])
    products = correlations._products(correlations.left.acts[3:9])
    torch.testing.assert_close(dense.to(products.dtype), products)
    found = match_activations(correlations, decoders=(left.W_dec, right.W_dec))
    table = found.pairs
    assert 7 not in set(table["left"])
    assert list(table["right"]) == [int(places[left]) for left in table["left"]]
    assert table["score"].to_numpy() == pytest.approx(1, abs=1e-6)
    rows = left.W_dec[list(table["left"])], right.W_dec[list(table["right"])]
    cosines = (rows[0] * rows[1]).sum(dim=1)
    assert table["decoder_cosine"].to_numpy() == pytest.approx(cosines.detach().numpy(), abs=1e-6)
    summary = correlation_numbers(correlations, found)
    assert (summary["pairs"], summary["left_dead"], summary["right_dead"]) == (39, 1, 0)
    assert summary["share_mutual_best"] == 1 and summary["tokens"] == 500
    assert (summary["left_unmatched"], summary["right_unmatched"]) == (0, 1)
    assert summary["share_outside_candidates"] == 0


def test_unlike_tokens_are_refused() -> None:
    left, right, _ = planted_pair()
    x = torch.rand(4, 24)
    batches = left.active_pairs(x[:3]), right.active_pairs(x)
    with pytest.raises(ValueError, match="3 and 4 tokens"):
        SharedTokens().add(*batches)
