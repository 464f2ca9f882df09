"""Datapoints of some features in two dimensions, by UMAP (figure 3, right).

The paper fits each checkpoint by itself: its panels cannot be laid over one another. A joint fit of
all checkpoints has one plane for all, in which a feature's datapoints can be followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.formation.progress_measure import FollowedSets, PointActivations
from saetrack.analysis.geometry.plane import umap_plane

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
        planes = np.split(umap_plane(np.concatenate(stacks), UMAP_SETTINGS, seed), len(stacks))
    else:
        planes = [umap_plane(stack, UMAP_SETTINGS, seed) for stack in stacks]
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
