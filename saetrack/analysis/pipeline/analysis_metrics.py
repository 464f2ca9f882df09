"""The numbers of an analysis by which runs are compared in the registry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pandas as pd

# Ways of matching that are measured by correlation (`saetrack.analysis.pipeline.match_chains`).
CORRELATED = ("activations", "shuffled tokens")


def analysis_metrics(tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Numbers to compare analyses by, under names that MLflow takes."""
    return {re.sub(r"[^\w.]+", "_", name): value for name, value in _numbers(tables)}


def _numbers(tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, float]]:
    counts = tables["label_counts"]
    for step, name in ((counts["lm_step"].min(), "first"), (counts["lm_step"].max(), "final")):
        for _, row in counts[counts["lm_step"] == step].iterrows():
            yield f"{row['label']}.{name}", float(row["features"])
    for _, row in tables["labels_of_random_directions"].iterrows():
        yield f"{row['label']}.share_of_random_directions", float(row["share"])
    yield from _concepts(tables["concept_nulls"])
    for _, row in tables["phases"].iterrows():
        yield f"{row['curve']}.rise", row["final"] - row["first"]
    polysemy = tables["polysemy"]
    for change in ("lost_senses", "gained_senses"):
        yield f"polysemy.{change}", float(polysemy[change].mean())
    drift = tables["drift"]
    of_all = drift[(drift["feature_class"] == "all") & (drift["quantity"] == "cosine_to_final")]
    yield "cosine_to_final.first_link_median", float(of_all.sort_values("link")["q50"].iloc[0])
    for _, row in tables.get("drift_verdicts", pd.DataFrame()).iterrows():
        yield f"stands.{row['claim']}.{row['control']}", float(bool(row["stands"]))
    for _, row in tables.get("matching", pd.DataFrame()).iterrows():
        measure = "median_correlation" if row["by"] in CORRELATED else "median_cosine"
        yield f"matched.{row['other']}.{row['by']}.median", float(row[measure])


def _concepts(nulls: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """What concepts there are at the last checkpoint beyond those that nulls expect."""
    for _, row in nulls[nulls["lm_step"] == nulls["lm_step"].max()].iterrows():
        for name in ("excess", "false_discovery_rate"):
            if pd.notna(row[name]):
                yield f"concept.{name}.{row['null']}", float(row[name])
