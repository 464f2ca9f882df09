"""Which random directions are explained beside features, and where: a control of the whole run.

A direction means nothing, so that what an explainer says of it, and how often that holds, is what
contexts alone give away. Contexts of rare tokens are easier to tell apart than those of common
ones: a direction stands beside a feature that fires as often as it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from saetrack.analysis.explanations.targets import Target

if TYPE_CHECKING:
    from saetrack.analysis.life_store.reader import LifeStore

TINY = 1e-12  # a direction that does not fire at a link is taken last there


def paired_directions(
    explained: Sequence[Target], features: LifeStore, directions: LifeStore, count: int
) -> dict[Target, Target]:
    """Directions to be explained at each place, each beside a feature that is explained there.

    The features are spread evenly over the densities of those that are explained. Densities are as
    near as they can be: the sum of the distances of their logarithms is the smallest.

    Args:
        explained: features, and where.
        features: the store of the features.
        directions: that of the directions.
        count: at each place; fewer where there are not so many features, or directions.

    Returns:
        By direction its feature; both at the feature's link.
    """
    found = {}
    for place in dict.fromkeys(target.place for target in explained):
        of_place = [target for target in explained if target.place == place]
        of_place.sort(key=lambda target: density_of(features, target))
        wanted = min(count, len(of_place), directions.manifest.d_sae)
        chosen = [
            of_place[at] for at in np.linspace(0, len(of_place) - 1, wanted).round().astype(int)
        ]
        own = np.array([density_of(features, target) for target in chosen])
        theirs = np.array(
            [directions.column(target.link, "feature_density") for target in chosen], float
        )
        logs = np.log(np.maximum(theirs, TINY)) - np.log(np.maximum(own, TINY))[:, None]
        for at, direction in zip(*linear_sum_assignment(np.abs(logs)), strict=True):
            target = chosen[at]
            found[Target(place, int(direction), target.link)] = target
    return found


def density_of(store: LifeStore, target: Target) -> float:
    """Share of the tokens on which a feature, or a direction, fires where it is explained."""
    return float(store.column(target.link, "feature_density")[target.feature])
