"""Contexts of chosen features at chosen checkpoints, to be read (figure 2, left)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from saetrack.analysis.contexts.datapoints import Decode, read_windows
from saetrack.analysis.contexts.top_contexts import Contexts

if TYPE_CHECKING:
    from jaxtyping import Int
    from numpy import ndarray

# Pattern and final label: the rows of the paper's table, and tokens that join.
KINDS = (
    ("maintaining", "token"),
    ("grouping", "concept"),
    ("grouping", "weak_concept"),
    ("grouping", "several_tokens"),
    ("grouping", "token"),
    ("shifting", "concept"),
    ("shifting", "weak_concept"),
    ("shifting", "token"),
    ("merging", "several_tokens"),
)


class CheckpointContexts(NamedTuple):
    """One checkpoint's top contexts and labels.

    Attributes:
        lm_step: of the checkpoint.
        checkpoint_index: of the same in the LM's list.
        contexts: of all features.
        labels: as `saetrack.analysis.meaning.labels.classify` gives it.
    """

    lm_step: int
    checkpoint_index: int
    contexts: Contexts
    labels: pd.DataFrame


def choose_examples(patterns: pd.DataFrame, per_kind: int, seed: int) -> Int[ndarray, " chosen"]:
    """Random features of each kind in the paper's table, in its order; fewer if there are few."""
    generator = np.random.default_rng(seed)
    chosen = []
    for pattern, final_label in KINDS:
        kind = (patterns["pattern"] == pattern) & (patterns["final_label"] == final_label)
        features = patterns.loc[kind, "feature"].to_numpy()
        chosen.append(features[generator.permutation(len(features))[:per_kind]])
    return np.concatenate(chosen).astype(np.int64)


def context_table(
    features: Int[ndarray, " chosen"],
    checkpoints: Sequence[CheckpointContexts],
    token_rows: Int[ndarray, "rows context"],
    decode: Decode,
    per_cell: int = 6,
) -> pd.DataFrame:
    """The strongest contexts of some features at some checkpoints.

    Returns:
        One row per context: `feature`, `checkpoint_index`, `lm_step`, `label`, `rank` (1 is the
        strongest), `feature_act`, `text` with the datapoint's token marked. To be laid out as the
        paper does: `table.pivot(index=["feature", "rank"], columns="lm_step", values="text")`.
    """
    parts = []
    for checkpoint in checkpoints:
        contexts = checkpoint.contexts
        rows = contexts.rows[features, :per_cell].reshape(-1)
        positions = contexts.positions[features, :per_cell].reshape(-1)
        ranks = np.tile(np.arange(1, len(rows) // max(len(features), 1) + 1), len(features))
        of_row = np.repeat(features, len(rows) // max(len(features), 1))
        table = pd.DataFrame(
            {
                "feature": of_row,
                "checkpoint_index": checkpoint.checkpoint_index,
                "lm_step": checkpoint.lm_step,
                "label": checkpoint.labels["label"].to_numpy()[of_row],
                "rank": ranks,
                "feature_act": contexts.feature_acts[features, :per_cell].reshape(-1),
                "text": read_windows(token_rows, rows, positions, decode),
            }
        )
        parts.append(table[rows >= 0])
    return pd.concat(parts, ignore_index=True)
