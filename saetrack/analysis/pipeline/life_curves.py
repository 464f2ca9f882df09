"""One number per feature and link, for the life store, and the bands of controls beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from saetrack.analysis.contexts.token_purity import purity
from saetrack.analysis.drift.controls import align, noise_control
from saetrack.analysis.formation.progress_measure import MEASURE
from saetrack.analysis.life_store.manifest import ControlBand
from saetrack.analysis.meaning.classes import LABELS

if TYPE_CHECKING:
    import pandas as pd

    from saetrack.analysis.drift.controls import ControlDrift
    from saetrack.analysis.drift.measure import Drift
    from saetrack.analysis.pipeline.analysis_text import AnalysisText
    from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult

# The measures of the two progress curves, in activation and in feature space.
PROGRESS = {"progress_activation": MEASURE, "progress_feature": "feature_cosine_centred"}
COSINES = ("cosine_to_final", "cosine_to_first", "cosine_to_previous")


def link_columns(
    link: int, result: CheckpointResult, text: AnalysisText, drift: Drift
) -> dict[str, np.ndarray]:
    """The columns of a link (`saetrack.analysis.life_store.columns`).

    A feature that is dead here has no cosine, nor has one that is dead at the end one to its final
    direction: rows that get no gradient stand still.
    """
    d_sae = len(result.labels)
    of_followed = result.progress[result.progress["chosen"] == "final"]
    measured = {
        "determined_by_token": (result.labels["feature"], result.labels["determinism"]),
        **{name: (of_followed["feature"], of_followed[by]) for name, by in PROGRESS.items()},
    }
    columns = {
        "label": np.array([LABELS.index(label) for label in result.labels["label"]], np.uint8),
        "feature_density": result.status["feature_density"].to_numpy(np.float32),
        "max_act": result.status["max_act"].to_numpy(np.float32),
        "top_token": purity(text.token_ids(result.contexts)).commonest.astype(np.int32),
    }
    for name in COSINES:
        absent = (drift.excluded if name == "cosine_to_final" else drift.dead)[link]
        columns[name] = np.where(absent, np.nan, getattr(drift, name)[link]).astype(np.float32)
    for name, (features, values) in measured.items():
        columns[name] = np.full(d_sae, np.nan, np.float32)
        columns[name][features.to_numpy()] = values.to_numpy(np.float32)
    return columns


def control_bands(
    results: Sequence[CheckpointResult], of_chain: pd.DataFrame, controls: Sequence[ControlDrift]
) -> dict[str, ControlBand]:
    """Between which values controls lie, by the name of the curve.

    Cosines and density have the band of the first noise control, if there is one, link by link;
    progress has that of random directions, whose contexts are chosen as those of features are.

    Args:
        results: of all links.
        of_chain: quantiles of the chain's drift
            (`saetrack.analysis.drift.measure.quantile_table`).
        controls: those of controls.
    """
    bands = {name: _of_directions(results, by) for name, by in PROGRESS.items()}
    noise = noise_control(controls)
    if noise is not None:
        aligned = align(of_chain, noise.quantiles)
        for name in COSINES:
            rows = aligned[aligned["quantity"] == name].set_index("link")
            low, high = (rows[at].reindex(range(len(results))) for at in ("q05", "q95"))
            bands[name] = band_of(noise.name, low.to_numpy(float), high.to_numpy(float))
        at = np.full((len(results), 2), np.nan)  # links that the control lacks have none
        known = noise.density_band[: len(results)]
        at[: len(known)] = known
        bands["feature_density"] = band_of(noise.name, *at.T)
    return bands


def _of_directions(results: Sequence[CheckpointResult], measure: str) -> ControlBand:
    low, high = [], []
    for result in results:
        rows = result.progress[result.progress["chosen"] == "random_directions"]
        low.append(float(rows[measure].quantile(0.05)))
        high.append(float(rows[measure].quantile(0.95)))
    return band_of("random directions", np.array(low), np.array(high))


def band_of(control: str, low: np.ndarray, high: np.ndarray) -> ControlBand:
    """Null where there is no number, with five digits elsewhere."""
    rounded = [
        [float(f"{value:.5g}") if np.isfinite(value) else None for value in bound]
        for bound in (low, high)
    ]
    return ControlBand(title=f"{control}, 5 to 95 %", low=rounded[0], high=rounded[1])
