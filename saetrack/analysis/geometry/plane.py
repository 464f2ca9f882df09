"""Rows as points of a plane, by UMAP: neighbours lie side by side."""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray


def umap_plane(
    rows: Float[ndarray, "rows d_in"], settings: dict[str, Any], seed: int
) -> Float[ndarray, "rows 2"]:
    """Lay out rows by UMAP; equal rows, settings and seed give equal points.

    Args:
        rows: at least 3.
        settings: UMAP's own; more neighbours than there are others become all others.
        seed: of UMAP.
    """
    from umap import UMAP

    _keep_compiled()
    neighbours = min(settings["n_neighbors"], len(rows) - 1)
    # One thread: with a seed there can be no more, and UMAP would say so.
    umap = UMAP(**{**settings, "n_neighbors": neighbours}, random_state=seed, n_jobs=1)
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            # Two tight clusters are not connected: the picture shows it.
            warnings.filterwarnings("ignore", message=".*not fully connected.*")
            return np.asarray(umap.fit_transform(rows.astype(np.float32)), dtype=np.float32)
    finally:
        # numba shares OpenMP with torch, and leaves it with as many threads as there are cores:
        # whatever is trained later in this process would have other bits than anywhere else.
        torch.set_num_threads(threads)


@cache
def _keep_compiled() -> None:
    """Keep what numba compiles for UMAP on disk: some fifteen seconds of each process else."""
    import umap
    from numba.core.dispatcher import Dispatcher

    for module in (umap.umap_, umap.layouts, umap.utils, umap.distances):
        for function in vars(module).values():
            if isinstance(function, Dispatcher) and not function.signatures:
                with suppress(RuntimeError):  # no folder can be written
                    function.enable_caching()
