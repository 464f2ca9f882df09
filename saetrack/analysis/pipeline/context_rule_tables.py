"""Tables of what the rule by which datapoints are chosen changes."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from saetrack.analysis.contexts.context_rules import datapoint_overlap, rules_side_by_side
from saetrack.analysis.formation.progress_measure import MEASURES
from saetrack.analysis.pipeline.analysis_text import AnalysisText
from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult
from saetrack.analysis.pipeline.chosen_datapoints import BY_AUTHORS, ChosenDatapoints

RULES = {"final": "distinct", BY_AUTHORS: "authors"}


def context_rule_tables(
    results: Sequence[CheckpointResult],
    chosen: ChosenDatapoints,
    text: AnalysisText,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Both rules beside each other, for the features that are followed; nothing unless asked for.

    Returns:
        `context_rules`, a few numbers at the last checkpoint
        (`saetrack.analysis.contexts.context_rules`); `context_rules_of_features`, a row per
        feature; `context_rules_progress`: `lm_step`, `rule`, `label` (under that rule, at the end),
        `features`, and the median of each measure of progress.
    """
    if chosen.by_authors is None:
        return {}
    final = results[-1]
    followed = chosen.followed["final"].features
    of_features = datapoint_overlap(chosen.final, chosen.by_authors, followed, text.is_bos)
    columns = {"label": final.labels, "label_authors": final.labels_by_authors}
    of_features = of_features.assign(
        **{
            name: table.set_index("feature")["label"][followed].to_numpy()
            for name, table in columns.items()
        }
    )
    progress = pd.concat([result.progress for result in results], ignore_index=True)
    progress = progress[progress["chosen"].isin(RULES)]
    progress = progress.assign(rule=progress["chosen"].map(RULES))
    at_end = progress[progress["lm_step"] == final.lm_step]
    labels = of_features.set_index("feature")
    by_rule = (
        progress["feature"]
        .map(labels["label"])
        .where(progress["rule"] == "distinct", progress["feature"].map(labels["label_authors"]))
    )
    grouped = progress.assign(label=by_rule).groupby(["lm_step", "rule", "label"])
    medians = grouped[list(MEASURES)].median()
    medians.insert(0, "features", grouped["feature"].nunique())
    return {
        "context_rules": rules_side_by_side(of_features, at_end, list(MEASURES), seed),
        "context_rules_of_features": of_features,
        "context_rules_progress": medians.reset_index(),
    }
