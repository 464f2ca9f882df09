"""Datapoints of some features in two dimensions, by UMAP (figure 3, right).

The paper fits each checkpoint by itself: its panels cannot be laid over one another. A joint fit of
all checkpoints has one plane for all, in which a feature's datapoints can be followed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.formation.progress_measure import FollowedSets, PointActivations

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray

Fit = Literal["separate", "joint"]


@dataclass(frozen=True)
class Projection:
    """How UMAP runs; the authors' settings.

    Attributes:
        n_neighbors: of the 175 points of seven features 100: a very global picture.
        min_dist: between points of the plane.
        metric: between residuals.
        seed: of the layout.
        n_epochs: of the optimisation; None is UMAP's own choice, 500 for so few points.
        centred: take away each checkpoint's mean over the points first (the authors do not).
    """

    n_neighbors: int = 100
    min_dist: float = 0.0
    metric: str = "cosine"
    seed: int = 42
    n_epochs: int | None = None
    centred: bool = False


def project(
    checkpoints: Sequence[PointActivations],
    followed: FollowedSets,
    fit: Fit,
    settings: Projection,
) -> pd.DataFrame:
    """Lay out the residuals of some features' datapoints at some checkpoints.

    Args:
        checkpoints: of which only `x` is used.
        followed: some features and their datapoints.
        fit: `joint`, all checkpoints in one plane, or `separate`, as in the paper.
        settings: of UMAP. There are never more neighbours than other points.

    Returns:
        One row per checkpoint, feature and datapoint: `fit`, `checkpoint_index`, `lm_step`,
        `feature`, `datapoint` (0 is the strongest), `u`, `v`.
    """
    inside = followed.points >= 0
    points = torch.from_numpy(followed.points[inside])
    stacks = []
    for checkpoint in checkpoints:
        x = checkpoint.x[points.to(checkpoint.x.device)].float().cpu()
        stacks.append((x - x.mean(dim=0) if settings.centred else x).numpy())
    if fit == "joint":
        planes = np.split(_layout(np.concatenate(stacks), settings), len(stacks))
    else:
        planes = [_layout(stack, settings) for stack in stacks]
    of_set, datapoint = np.nonzero(inside)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "fit": fit,
                    "checkpoint_index": checkpoint.checkpoint_index,
                    "lm_step": checkpoint.lm_step,
                    "feature": followed.features[of_set],
                    "datapoint": datapoint,
                    "u": plane[:, 0],
                    "v": plane[:, 1],
                }
            )
            for checkpoint, plane in zip(checkpoints, planes, strict=True)
        ],
        ignore_index=True,
    )


def _layout(x: Float[ndarray, "points d_in"], settings: Projection) -> Float[ndarray, "points 2"]:
    # Compiles for some ten seconds in every process that uses it.
    from umap import UMAP

    neighbours = min(settings.n_neighbors, len(x) - 1)
    # One thread: with a seed there can be no more, and UMAP would say so.
    umap = UMAP(
        n_neighbors=neighbours,
        min_dist=settings.min_dist,
        metric=settings.metric,
        n_epochs=settings.n_epochs,
        random_state=settings.seed,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        # Two tight clusters are not connected: the picture shows it.
        warnings.filterwarnings("ignore", message=".*not fully connected.*")
        return np.asarray(umap.fit_transform(x), dtype=np.float32)
