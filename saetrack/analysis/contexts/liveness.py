"""Which features the analyses are about: dead and ultra-low ones are left out (appendix E)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from saetrack.analysis.contexts.top_contexts import Contexts


@dataclass(frozen=True)
class Liveness:
    """Thresholds; the paper states none.

    Attributes:
        min_density: a feature that fires on a smaller share of tokens is ultra-low. 1e-5 is what
            the authors' training logs as rare.
        min_max_act: so is one whose largest activation is smaller, in the residual's units.
        min_relative_max_act: and one whose largest activation is a smaller share of the median
            of those that fire: the threshold that fits every checkpoint and LM.
    """

    min_density: float = 1e-5
    min_max_act: float = 0.0
    min_relative_max_act: float = 0.0


def feature_status(contexts: Contexts, liveness: Liveness) -> pd.DataFrame:
    """Decide for each feature whether it is analysed.

    Returns:
        One row per feature, in order: `feature`, `fires` (tokens), `feature_density`, `max_act`,
        `contexts` (datapoints found), `status`: `dead` (fires on no token), `ultra_low` (fires too
        rarely or too weakly), else `live`.
    """
    max_acts = contexts.max_acts
    firing = contexts.fires > 0
    typical = float(np.median(max_acts[firing])) if firing.any() else 0.0
    min_act = max(liveness.min_max_act, liveness.min_relative_max_act * typical)
    low = (contexts.feature_density < liveness.min_density) | (max_acts < min_act)
    return pd.DataFrame(
        {
            "feature": np.arange(len(firing)),
            "fires": contexts.fires,
            "feature_density": contexts.feature_density,
            "max_act": max_acts,
            "contexts": contexts.counts,
            "status": np.select([~firing, low], ["dead", "ultra_low"], "live"),
        }
    )
