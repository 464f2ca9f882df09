"""Tables of how features form along a chain (section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from saetrack.analysis.formation.phases import find_phases, phase_spans, progress_formation
from saetrack.analysis.formation.progress_measure import (
    MEASURE,
    MEASURES,
    FollowedSets,
    PointActivations,
    baseline_spread,
    class_curves,
)
from saetrack.analysis.formation.projection import project
from saetrack.analysis.meaning.classes import ABSENT, CONCEPTS, JUDGED, MEANINGFUL
from saetrack.analysis.pipeline.chosen_datapoints import BY_AUTHORS
from saetrack.analysis.pipeline.meaning_tables import Meaning, evenly_chosen

if TYPE_CHECKING:
    from jaxtyping import Int

    from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult

SHOWN_IN_PLANE = 7
SHOWN_OF_CLASS = 3
SHOWN_CHECKPOINTS = 6


def formation_tables(
    results: Sequence[CheckpointResult], meaning: Meaning
) -> dict[str, pd.DataFrame]:
    """The progress measure by class with baseline and controls, phases, formation points."""
    progress = pd.concat([result.progress for result in results], ignore_index=True)
    progress = progress[progress["chosen"] != BY_AUTHORS]  # in tables of its own
    baseline = pd.concat([result.baseline for result in results], ignore_index=True)
    final = progress[progress["chosen"] == "final"]
    return {
        "progress": final,
        "curves": class_curves(progress, {"final": meaning.labels}, MEASURES),
        "baseline": baseline_spread(baseline, MEASURES),
        "phases": find_phases(_phased(progress, results, meaning)),
        "formation": progress_formation(final, MEASURE),
    }


def _phased(
    progress: pd.DataFrame, results: Sequence[CheckpointResult], meaning: Meaning
) -> dict[str, pd.DataFrame]:
    """The curves that may have phases, of controls too: a row per feature, a column per LM step."""
    wide = progress.pivot_table(
        index=["chosen", "feature"], columns="lm_step", values=MEASURE, observed=True
    )
    of_final = wide.loc["final"]
    labels = meaning.labels.reindex(of_final.index)
    curves: dict[str, Any] = {f"{label}: progress": of_final[labels == label] for label in JUDGED}
    for chosen in wide.index.unique("chosen").drop("final"):
        curves[f"{str(chosen).replace('_', ' ')}: progress"] = wide.loc[chosen]
    curves["share of concepts"] = pd.DataFrame(
        {result.lm_step: _is_concept(result.labels) for result in results}
    )
    return {name: table for name, table in curves.items() if len(table)}


def _is_concept(labels: pd.DataFrame) -> pd.Series[float]:
    """1 for features that are weak concepts or concepts, 0 for others, NaN where there is none."""
    label = labels.set_index("feature")["label"]
    return label.isin(CONCEPTS).astype(float).mask(label.isin(ABSENT))


def projection_tables(
    results: Sequence[CheckpointResult],
    sampled: Int[np.ndarray, " sampled"],
    meaning: Meaning,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Where the contexts of a few features lie at some checkpoints (section 4.1).

    Returns:
        `projection`, without rows if no sampled feature means anything, and `projected_features`.
    """
    final = results[-1]
    features = _features_of_all_classes(sampled, meaning.labels, seed)
    k = final.sampled_features_x.shape[1]
    indices = np.searchsorted(sampled, features)[:, None] * k + np.arange(k)
    followed = FollowedSets(features, np.where(final.contexts.rows[features] >= 0, indices, -1))
    shown = [results[index] for index in evenly_chosen(len(results), SHOWN_CHECKPOINTS)]
    points = [
        PointActivations(
            result.lm_step, result.checkpoint_index, result.sampled_features_x.flatten(0, 1), None
        )
        for result in shown
    ]
    planes = [
        project(points, followed, fit, seed) for fit in ("joint", "separate") if len(features)
    ]
    patterns = meaning.tables["patterns"].set_index("feature")
    described = pd.DataFrame(
        {
            "feature": features,
            "label": meaning.labels[features].to_numpy(),
            "name": list(final.labels.set_index("feature").loc[features, "top_text"]),
            "pattern": patterns.loc[features, "pattern"].to_numpy(),
        }
    )
    projection = pd.concat([pd.DataFrame(columns=["fit"]), *planes], ignore_index=True)
    return {"projection": projection, "projected_features": described}


def _features_of_all_classes(
    sampled: Int[np.ndarray, " sampled"], labels: pd.Series[str], seed: int
) -> Int[np.ndarray, " chosen"]:
    """A few of each class, so that rare concepts are among those that are shown."""
    meaningful = [feature for feature in sampled if labels[feature] in MEANINGFUL]
    by_class = pd.Series(meaningful, dtype=int).groupby(labels[meaningful].to_numpy())
    chosen = [
        group.sample(min(SHOWN_OF_CLASS, len(group)), random_state=seed) for _, group in by_class
    ]
    features = np.concatenate([np.zeros(0, np.int64), *chosen])
    return np.sort(features.astype(np.int64))[:SHOWN_IN_PLANE]


def concept_phases(tables: Mapping[str, pd.DataFrame]) -> dict[str, tuple[float, float]]:
    """First and last LM step of each phase of the concepts' progress, for figures."""
    steps = sorted(tables["label_counts"]["lm_step"].unique())
    return phase_spans(tables["phases"], steps)
