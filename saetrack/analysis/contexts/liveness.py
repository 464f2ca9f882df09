"""Which features the analyses are about: dead and ultra-low ones are left out (appendix E)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from jaxtyping import Int
    from numpy import ndarray

    from saetrack.analysis.contexts.top_contexts import Contexts


def feature_status(contexts: Contexts, min_density: float = 1e-5) -> pd.DataFrame:
    """Decide for each feature whether it is analysed.

    The paper states no threshold; 1e-5 is what the authors' training logs as rare.

    Returns:
        One row per feature, in order: `feature`, `fires` (tokens), `feature_density`, `max_act`,
        `contexts` (datapoints found), `status`: `dead` (fires on no token), `ultra_low` (fires on a
        smaller share of tokens than `min_density`), else `live`.
    """
    dead, low = contexts.fires == 0, contexts.feature_density < min_density
    return pd.DataFrame(
        {
            "feature": np.arange(len(dead)),
            "fires": contexts.fires,
            "feature_density": contexts.feature_density,
            "max_act": contexts.max_acts,
            "contexts": contexts.counts,
            "status": np.select([dead, low], ["dead", "ultra_low"], "live"),
        }
    )


def live_features(status: pd.DataFrame) -> Int[ndarray, " live"]:
    """The features that are analysed, ascending, of a table as `feature_status` gives it."""
    return np.flatnonzero(status["status"] == "live")
