"""Directions as points of a plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from saetrack.analysis.life_store.decoder_map import decoder_map


def bundles(features: int, d_in: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of any length around three directions, and which one."""
    random = np.random.default_rng(seed)
    centres = np.linalg.qr(random.normal(size=(d_in, 3)))[0].T
    of_bundle = np.arange(features) % 3
    rows = centres[of_bundle] + random.normal(size=(features, d_in)) * 0.02
    return (rows * random.uniform(0.1, 5, (features, 1))).astype(np.float32), of_bundle


@pytest.mark.parametrize("features", [12, 90])
def test_neighbours_lie_side_by_side_and_the_dead_nowhere(features: int) -> None:
    rows, of_bundle = bundles(features)
    fires = np.arange(features) % 7 != 6
    rows[2] = 0
    plane = decoder_map(rows, fires, seed=0)
    assert plane.shape == (features, 2) and plane.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(plane).all(axis=1), ~fires)
    assert np.isfinite(plane[fires]).all()
    shown = np.flatnonzero(fires & (np.arange(features) != 2))
    distance = np.linalg.norm(plane[shown, None] - plane[shown], axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = shown[distance.argmin(axis=1)]
    assert (of_bundle[nearest] == of_bundle[shown]).all()
    np.testing.assert_array_equal(decoder_map(rows, fires, seed=0), plane)


def test_a_map_leaves_torch_its_threads() -> None:
    """The bits of what this process trains next depend on them, and UMAP's are as many as cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        decoder_map(bundles(90)[0], np.ones(90, bool), seed=0)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_what_is_compiled_for_a_map_is_kept_for_the_next_process() -> None:
    decoder_map(bundles(90)[0], np.ones(90, bool), seed=0)
    from umap.umap_ import smooth_knn_dist

    found = smooth_knn_dist.stats
    assert found.cache_hits or found.cache_misses
    assert list(Path(found.cache_path).glob("*smooth_knn_dist*.nbc"))


@pytest.mark.parametrize("living", [0, 1, 2, 3])
def test_few_features_have_a_map_too(living: int) -> None:
    rows, _ = bundles(5, d_in=1 + 79 * (living > 1)) if living > 1 else (np.ones((5, 1), "f4"), 0)
    plane = decoder_map(rows, np.arange(5) < living, seed=0)
    assert np.isfinite(plane[:living]).all() and np.isnan(plane[living:]).all()
