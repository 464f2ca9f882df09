"""Datapoints of some features in two dimensions, by UMAP (figure 3, right).

The paper fits each checkpoint by itself: its panels cannot be laid over one another. A joint fit of
all checkpoints has one plane for all, in which a feature's datapoints can be followed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.formation.progress_measure import FollowedSets, PointActivations

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray

Fit = Literal["separate", "joint"]


# The authors' settings: of the 175 points of seven features 100 neighbours, a very global picture.
UMAP_SETTINGS: dict[str, Any] = {"n_neighbors": 100, "min_dist": 0.0, "metric": "cosine"}


def project(
    checkpoints: Sequence[PointActivations],
    followed: FollowedSets,
    fit: Fit,
    seed: int,
) -> pd.DataFrame:
    """Lay out the residuals of some features' datapoints at some checkpoints.

    Returns:
        One row per checkpoint, feature and datapoint: `fit`, `checkpoint_index`, `lm_step`,
        `feature`, `datapoint` (0 is the strongest), `u`, `v`.
    """
    inside = followed.points >= 0
    points = torch.from_numpy(followed.points[inside])
    stacks = [
        checkpoint.x[points.to(checkpoint.x.device)].float().cpu().numpy()
        for checkpoint in checkpoints
    ]
    if fit == "joint":
        planes = np.split(_layout(np.concatenate(stacks), seed), len(stacks))
    else:
        planes = [_layout(stack, seed) for stack in stacks]
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


def _layout(x: Float[ndarray, "points d_in"], seed: int) -> Float[ndarray, "points 2"]:
    # Compiles for some ten seconds in every process that uses it.
    from umap import UMAP

    settings = {**UMAP_SETTINGS, "n_neighbors": min(UMAP_SETTINGS["n_neighbors"], len(x) - 1)}
    # One thread: with a seed there can be no more, and UMAP would say so.
    umap = UMAP(**settings, random_state=seed, n_jobs=1)
    with warnings.catch_warnings():
        # Two tight clusters are not connected: the picture shows it.
        warnings.filterwarnings("ignore", message=".*not fully connected.*")
        return np.asarray(umap.fit_transform(x), dtype=np.float32)
