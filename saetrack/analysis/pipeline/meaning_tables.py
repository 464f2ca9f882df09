"""Tables of what features mean along a chain (section 3, appendix G)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.contexts.examples import CheckpointContexts, choose_examples, context_table
from saetrack.analysis.contexts.liveness import live_features
from saetrack.analysis.meaning.labels import Meanings, label_counts, paper_counts
from saetrack.analysis.meaning.patterns import (
    paper_pattern_counts,
    pattern_counts,
    trace_patterns,
)
from saetrack.analysis.meaning.polysemy import polysemy_loss

if TYPE_CHECKING:
    from jaxtyping import Int

    from saetrack.analysis.pipeline.analysis_text import AnalysisText
    from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult

SHOWN_PER_KIND = 2
SHOWN_CHECKPOINTS = 4


@dataclass(frozen=True)
class Meaning:
    """What features mean along the chain (section 3).

    Attributes:
        labels: of each feature at the final checkpoint, indexed by feature.
        tables: `label_counts`, `paper_label_counts`, `patterns`, `pattern_counts`,
            `paper_pattern_counts`, `contexts`, `labels_of_random_directions`, `concept_nulls`.
    """

    labels: pd.Series[str]
    tables: dict[str, pd.DataFrame]


def meaning_tables(
    results: Sequence[CheckpointResult],
    text: AnalysisText,
    sampled: Int[np.ndarray, " sampled"],
    seed: int,
) -> Meaning:
    """Labels, patterns, formation points, and contexts to read (figure 2)."""
    final = results[-1]
    meanings = [
        Meanings(
            result.lm_step, result.checkpoint_index, result.labels, text.text_ids(result.contexts)
        )
        for result in results
    ]
    patterns = trace_patterns(meanings)
    live = live_features(final.status)
    shown = [results[index] for index in evenly_chosen(len(results), SHOWN_CHECKPOINTS)]
    contexts = context_table(
        choose_examples(patterns, SHOWN_PER_KIND, seed),
        [checkpoint_contexts(result) for result in shown],
        text.token_rows,
        text.decode,
    )
    samples = {"all live features": live, "random sample": sampled}
    tables = {
        "label_counts": label_counts(meanings),
        "paper_label_counts": paper_counts(meanings),
        "patterns": patterns,
        "pattern_counts": pattern_counts(patterns, samples),
        "paper_pattern_counts": paper_pattern_counts(patterns, samples),
        "contexts": contexts,
        "labels_of_random_directions": _shares_of_directions(results),
        "concept_nulls": _concept_nulls(results),
    }
    return Meaning(final.labels.set_index("feature")["label"], tables)


def _shares_of_directions(results: Sequence[CheckpointResult]) -> pd.DataFrame:
    """What the criteria make of random directions: `share` at the last link, `first_share`."""
    first, last = (results[end].labels_of_directions["label"] for end in (0, -1))
    shares = {
        "share": last.value_counts(normalize=True),
        "first_share": first.value_counts(normalize=True),
    }
    table = pd.DataFrame(shares).fillna(0.0).rename_axis("label").reset_index()
    return table.assign(directions=len(last)).sort_values("share", ascending=False)


def _concept_nulls(results: Sequence[CheckpointResult]) -> pd.DataFrame:
    """Concepts beside those that nulls expect, a row per checkpoint and null."""
    rows = []
    for result in results:
        table = result.nulls.copy()
        table.insert(0, "checkpoint_index", result.checkpoint_index)
        table.insert(1, "lm_step", result.lm_step)
        rows.append(table)
    return pd.concat(rows, ignore_index=True)


def polysemy_tables(
    results: Sequence[CheckpointResult], meaning: Meaning
) -> dict[str, pd.DataFrame]:
    """How far tokens decide features, and which features lost senses of their token (appendix G).

    Returns:
        `statistics`, one row per followed feature and checkpoint, and `polysemy`.
    """
    first, final = results[0].statistics, results[-1].statistics
    labels = meaning.labels[final["feature"]].to_numpy()
    statistics = [
        result.statistics.assign(lm_step=result.lm_step, label=labels) for result in results
    ]
    lost = polysemy_loss(
        meaning.tables["patterns"].set_index("feature", drop=False).loc[final["feature"]],
        (first["recall"].to_numpy(), final["recall"].to_numpy()),
        (first["coherence_other"].to_numpy(), final["coherence_other"].to_numpy()),
    )
    return {"statistics": pd.concat(statistics, ignore_index=True), "polysemy": lost}


def checkpoint_contexts(result: CheckpointResult) -> CheckpointContexts:
    """A checkpoint's contexts and labels, to be read."""
    return CheckpointContexts(
        result.lm_step, result.checkpoint_index, result.contexts, result.labels
    )


def evenly_chosen(length: int, count: int) -> list[int]:
    """Indices spread over a list, its first and last among them."""
    return sorted({round(index) for index in np.linspace(0, length - 1, count)})
