"""Several chains (layers, LMs) in one table: the numbers in which they differ (appendix K)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from saetrack.analysis.drift.measure import ALL
from saetrack.analysis.formation.phases import PHASED
from saetrack.analysis.formation.progress_measure import MEASURE
from saetrack.analysis.meaning.classes import JUDGED

MOVE = "displacement_over_spread"


def summary_table(pages: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """One row per chain.

    Returns:
        The columns

        - `chain`, `live_features` (at the last checkpoint);
        - `X_first` and `X_final` with X a class with a meaning, or `contextual`: features;
        - `concept_rise`, `control_rise`: of the median progress (centred cosine) of concepts, and
          of random directions' contexts, from the first to the last checkpoint;
        - `emergent_lm_step`, `convergent_lm_step`: of the concepts' progress; NaN without;
        - `first_cosine_to_final`: of the median feature at the first link; `noise_cosine_to_final`:
          the lowest of the noise controls there;
        - `continuity`: rank correlation of how far residuals move with what warm starts cost;
        - `most_collapsed_lm_step`, `most_collapsed`: where random residuals are most alike, and
          their mean cosine there.

        NaN stands for what a chain's tables do not have.
    """
    return pd.DataFrame([{"chain": name, **_summary(tables)} for name, tables in pages.items()])


def _summary(tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    counts = tables["label_counts"].pivot_table(
        index="lm_step", columns="label", values="features", aggfunc="sum"
    )
    first, final = counts.iloc[0], counts.iloc[-1]
    phases = tables["phases"].set_index("curve").reindex([PHASED]).iloc[0]
    most_collapsed = tables["collapse"].sort_values("raw_mean").iloc[-1]
    continuity = tables["warm_starts"].set_index("measure")["spearman"]
    return {
        "live_features": int(final.drop(["dead", "ultra_low"], errors="ignore").sum()),
        **{f"{label}_first": int(first[label]) for label in JUDGED},
        **{f"{label}_final": int(final[label]) for label in JUDGED},
        "concept_rise": _rise(tables["curves"], "final", "concept"),
        "control_rise": _rise(tables["curves"], "random_directions", "random_directions"),
        "emergent_lm_step": float(phases["emergent_lm_step"]),
        "convergent_lm_step": float(phases["convergent_lm_step"]),
        "first_cosine_to_final": _first_median(tables["drift"]),
        "noise_cosine_to_final": _noise_at_first(tables.get("drift_beside_controls")),
        "continuity": float(continuity[MOVE]),
        "most_collapsed_lm_step": int(most_collapsed["lm_step"]),
        "most_collapsed": float(most_collapsed["raw_mean"]),
    }


def _rise(curves: pd.DataFrame, chosen: str, of_class: str) -> float:
    """Last less first median of one class's progress."""
    rows = curves[
        (curves["measure"] == MEASURE)
        & (curves["chosen"] == chosen)
        & (curves["class"] == of_class)
    ]
    medians = rows.sort_values("lm_step")["q0.5"]
    return float(medians.iloc[-1] - medians.iloc[0]) if len(medians) else np.nan


def _first_median(drift: pd.DataFrame) -> float:
    rows = drift[(drift["feature_class"] == ALL) & (drift["quantity"] == "cosine_to_final")]
    return float(rows.sort_values("link")["q50"].iloc[0])


def _noise_at_first(held: pd.DataFrame | None) -> float:
    """Of noise controls that are as long as the chain."""
    if held is None:
        return np.nan
    rows = held[(held["role"] == "noise") & (held["quantity"] == "cosine_to_final")]
    return float(rows.loc[rows["link"] == 0, "control_q50"].min())
