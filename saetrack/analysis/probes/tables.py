"""Probes along a chain: curves with their spread, since when a task is read, and by which feature.

A task counts as *read* by a probe from a link on if from there to the end its worst split beats the
best split of every control of the same task and test: random features and shuffled labels.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from saetrack.analysis.formation.phases import formed_from
from saetrack.analysis.probes.sparse_probes import (
    FEATURES,
    MAJORITY,
    RANDOM,
    RESIDUAL,
    SHUFFLED,
)

CONTROLS = (RANDOM, SHUFFLED, MAJORITY)
# A curve is near its end where so much of the way from one half, which chance gives, is behind it.
NEAR_END = 0.9
CHANCE = 0.5
OF = ["task", "tested_on"]


def curve_table(probes: pd.DataFrame) -> pd.DataFrame:
    """Means over splits, and their spread.

    Args:
        probes: of all links (`saetrack.analysis.probes.sparse_probes.probe_table`).

    Returns:
        A row per `task`, `tested_on`, `probe`, `k`, `lm_step`: `accuracy`, `lowest`, `highest` (of
        accuracy), `auc`, `n_train`, `n_test` (means).
    """
    keys = [*OF, "probe", "k", "lm_step"]
    grouped = probes.groupby(keys, sort=True)
    return grouped.agg(
        accuracy=("accuracy", "mean"),
        lowest=("accuracy", "min"),
        highest=("accuracy", "max"),
        auc=("auc", "mean"),
        n_train=("n_train", "mean"),
        n_test=("n_test", "mean"),
    ).reset_index()


def onset_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Since when each task is read, by the features and by the LM's activations.

    Args:
        curves: of `curve_table`.

    Returns:
        A row per `task`, `tested_on`, `probe`, `k`: `read_since` and `near_end_since`, the LM steps
        from which on, for good, the task is read, and its accuracy is near that at the end (missing
        if never); `at_first` and `at_end`, accuracy at the first and last link.
    """
    rows = []
    for of, found in curves.groupby(OF, sort=False):
        controls = found[found["probe"].isin(CONTROLS)].groupby("lm_step")["highest"].max()
        asked = found[found["probe"].isin((FEATURES, RESIDUAL))]
        for probe, curve in asked.groupby(["probe", "k"], sort=True):
            by_step = curve.set_index("lm_step").sort_index()
            accuracy = by_step["accuracy"]
            at_end = accuracy.iloc[-1]
            read = by_step["lowest"] > controls[by_step.index]
            near = accuracy - CHANCE >= NEAR_END * (at_end - CHANCE)
            since = since_for_good(read), since_for_good(near & read)
            rows.append((*of, *probe, *since, accuracy.iloc[0], at_end))
    columns = [*OF, "probe", "k", "read_since", "near_end_since", "at_first", "at_end"]
    steps = {"read_since": "Int64", "near_end_since": "Int64"}
    return pd.DataFrame(rows, columns=columns).astype(steps)


def best_feature_table(probes: pd.DataFrame) -> pd.DataFrame:
    """Which single feature reads each task at each link.

    Returns:
        A row per `task`, `lm_step`: `feature`, that which most splits choose, of equals the lower
        index; `splits` of `of_splits` that do; `is_of_final` and `is_of_before`, whether the final
        link and the link before have the same; `final_in_five`, whether that of the final link is
        among the five that most splits choose it into.
    """
    one = probes[probes["probe"] == FEATURES]
    one = one.drop_duplicates(["task", "lm_step", "seed", "k"])
    rows: list[dict[str, Any]] = []
    for task, of_task in one.groupby("task", sort=False):
        best = {
            step: _commonest(found.loc[found["k"] == 1, "features"])
            for step, found in of_task.groupby("lm_step", sort=True)
        }
        final, before = list(best.values())[-1][0], None
        for step, (feature, splits, of_splits) in best.items():
            fives = of_task.loc[(of_task["lm_step"] == step) & (of_task["k"] == 5), "features"]
            within = fives.map(lambda of, final=final: str(final) in of.split())
            rows.append(
                {"task": task, "lm_step": step, "feature": feature}
                | {"splits": splits, "of_splits": of_splits}
                | {"is_of_final": feature == final, "is_of_before": feature == before}
                | {"final_in_five": bool(2 * within.sum() > len(within))}
            )
            before = feature
    return pd.DataFrame(rows)


def since_for_good(holds: pd.Series[bool]) -> int | None:
    """The first index from which on all values are true; None if the last one is not."""
    first = formed_from(holds.to_numpy(bool)[None])[0]
    return int(holds.index[first]) if first >= 0 else None


def _commonest(features: pd.Series[str]) -> tuple[int, int, int]:
    counts = features.astype(int).value_counts()
    most = counts[counts == counts.max()]
    return int(most.index.min()), int(counts.max()), len(features)
