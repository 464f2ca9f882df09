"""How clear a match is: each pair beside the best that its two members could have had instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.matching.scores import Scores, blocks

if TYPE_CHECKING:
    from saetrack.analysis.matching.assignment import Assignment


@torch.no_grad()
def match_quality(scores: Scores, assignment: Assignment) -> pd.DataFrame:
    """How clear each match is, from one more pass over all scores.

    Returns:
        One row per pair: `row`, `column`, `score`; `row_runner_up`: the row's best score with any
        other column, `column_runner_up`: the column's with any other row (NaN if there is no
        other); `margin`: the score less the larger of both, negative where the assignment gave one
        of the two not its favourite; `mutual_best`: each is the other's favourite.
    """
    n_rows, n_columns = scores.shape
    if not n_rows or not n_columns:
        names = [*("row", "column", "score", "row_runner_up"), "column_runner_up", "margin"]
        return pd.DataFrame(columns=[*names, "mutual_best"])
    partner = torch.full((n_rows,), -1)
    partner[torch.from_numpy(assignment.rows)] = torch.from_numpy(assignment.columns)
    by_row = np.full(n_rows, -np.inf)
    by_column = np.full(n_columns, -np.inf)
    for block, values in blocks(scores):
        others = values.clone()
        here = partner[block]
        at = (here >= 0).nonzero().squeeze(1)
        others[at.to(values.device), here[at].to(values.device)] = -torch.inf
        by_row[block] = others.amax(dim=1).cpu().numpy()
        by_column = np.maximum(by_column, others.amax(dim=0).cpu().numpy())
    table = pd.DataFrame(
        {
            "row": assignment.rows,
            "column": assignment.columns,
            "score": assignment.score,
            "row_runner_up": by_row[assignment.rows],
            "column_runner_up": by_column[assignment.columns],
        }
    )
    best_other = table[["row_runner_up", "column_runner_up"]].max(axis=1)
    return table.assign(
        margin=table["score"] - best_other, mutual_best=table["score"] >= best_other
    ).replace(-np.inf, np.nan)
