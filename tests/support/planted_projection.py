"""Datapoints of features that lie apart more and more; their projection in a process of its own.

`python -m tests.support.planted_projection` projects them into the folder where it runs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.formation import projection
from saetrack.analysis.formation.progress_measure import FollowedSets, PointActivations
from saetrack.analysis.formation.projection import project


def planted_points() -> tuple[list[PointActivations], FollowedSets, pd.DataFrame]:
    """Seven features that lie apart more and more: the first two from the start."""
    generator = np.random.default_rng(0)
    directions = np.linalg.qr(generator.normal(size=(16, 16)))[0][:7]
    checkpoints = []
    for index, step in enumerate((0, 64, 2048)):
        apart = np.where(np.arange(7) < 2, 1.0, index / 2)[:, None, None]
        x = 2 * apart * directions[:, None] + generator.normal(size=(7, 25, 16)) * 0.2
        x = torch.from_numpy(x.reshape(-1, 16)).float()
        checkpoints.append(PointActivations(step, index, x, None))
    features = pd.DataFrame(
        {
            "feature": np.arange(7) * 3,
            "label": ["token", "token", *["concept"] * 3, "weak_concept", "contextual"],
            "name": ["while", "up", "emotions", "sports", "places", "utilize-", "?"],
        }
    )
    return checkpoints, FollowedSets(np.arange(7) * 3, np.arange(175).reshape(7, 25)), features


def planted_layout(fit: str) -> pd.DataFrame:
    """A table as `project` gives it: features as clouds that draw together."""
    checkpoints, followed, _ = planted_points()
    directions = torch.randn(16, 2, generator=torch.Generator().manual_seed(3))
    of_set, datapoint = np.nonzero(followed.points >= 0)
    parts = [
        pd.DataFrame(
            {"fit": fit, "checkpoint_index": point.checkpoint_index, "lm_step": point.lm_step}
            | {"feature": followed.features[of_set], "datapoint": datapoint}
            | dict(zip("uv", (point.x @ directions).numpy().T, strict=True))
        )
        for point in checkpoints
    ]
    return pd.concat(parts, ignore_index=True)


def projected() -> None:
    """In a process of its own, without the compiler, which takes longer than the layout."""
    checkpoints, followed, _ = planted_points()
    few = FollowedSets(followed.features, np.where(np.arange(25) < 6, followed.points, -1))
    projection.UMAP_SETTINGS |= {"n_neighbors": 5, "n_epochs": 30}
    for fit in ("separate", "joint"):
        project([checkpoints[0], checkpoints[2]], few, fit, 42).to_csv(f"{fit}.csv")
    project(checkpoints[:1], few, "separate", 42).to_csv("again.csv")


if __name__ == "__main__":
    projected()
