"""The features' directions as points of a plane: neighbours lie side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saetrack.analysis.geometry.plane import umap_plane

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from numpy import ndarray

# UMAP's own defaults but for the metric: decoder rows are directions.
UMAP_SETTINGS: dict[str, Any] = {"n_neighbors": 15, "min_dist": 0.1, "metric": "cosine"}
COMPONENTS = 50
# Below so many features there are no neighbourhoods: the first two principal components.
FEWEST = 24


def decoder_map(
    rows: Float[ndarray, "d_sae d_in"], fires: Bool[ndarray, " d_sae"], seed: int
) -> Float[ndarray, "d_sae 2"]:
    """Lay out decoder directions by UMAP, of the first 50 principal components if there are more.

    Args:
        rows: of the decoder, of any length.
        fires: which features are laid out; others are NaN.
        seed: of UMAP.
    """
    plane = np.full((len(rows), 2), np.nan, np.float32)
    units = rows[fires].astype(np.float64)
    units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12)
    if len(units) >= FEWEST:
        components = _components(units, min(COMPONENTS, units.shape[1]))
        plane[fires] = umap_plane(components, UMAP_SETTINGS, seed)
    elif len(units):
        found = np.zeros((len(units), 2))
        components = _components(units, min(2, units.shape[1]))
        found[:, : components.shape[1]] = components
        plane[fires] = found
    return plane


def _components(rows: Float[ndarray, "rows d_in"], count: int) -> Float[ndarray, "rows components"]:
    """The first principal components, each with a sign that does not depend on the machine."""
    centred = rows - rows.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    vectors = vectors[:, ::-1][:, :count]
    largest = np.abs(vectors).argmax(axis=0)
    found: Float[ndarray, "rows components"] = centred @ (
        vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])
    )
    return found
