"""Features that lie apart more and more, and their projections: `python -m` writes these as CSV."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.formation.progress_measure import FollowedSets, PointActivations
from saetrack.analysis.formation.projection import Projection, project


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
            "label": ["token", "token", *["concept"] * 3, "weak_concept", "noise"],
            "name": ["while", "up", "emotions", "sports", "places", "utilize-", "?"],
        }
    )
    return checkpoints, FollowedSets(np.arange(7) * 3, np.arange(175).reshape(7, 25)), features


def write_projections() -> None:
    """Into this folder: both fits of two checkpoints, and the first checkpoint once more."""
    checkpoints, followed, _ = planted_points()
    few = FollowedSets(followed.features, np.where(np.arange(25) < 6, followed.points, -1))
    settings = Projection(n_neighbors=5, n_epochs=30)
    for fit in ("separate", "joint"):
        project([checkpoints[0], checkpoints[2]], few, fit, settings).to_csv(f"{fit}.csv")
    project(checkpoints[:1], few, "separate", settings).to_csv("again.csv")


if __name__ == "__main__":
    write_projections()
