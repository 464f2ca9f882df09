"""Tables of a chain's probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from saetrack.analysis.probes.tables import best_feature_table, curve_table, onset_table

if TYPE_CHECKING:
    from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult


def probe_tables(
    results: Sequence[CheckpointResult], about: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Every probe at every link, and what is made of them.

    Args:
        results: of all links.
        about: of all tasks (`saetrack.analysis.pipeline.chain_probes.ChainProbes`).

    Returns:
        `probe_tasks`, `probes`, `probe_curves`, `probe_onsets`, `probe_features`; the first alone,
        or nothing, where no task can be asked about.
    """
    if about.empty:
        return {}
    found = {"probe_tasks": about}
    if (about["left_out"] == "").any():
        probes = pd.concat([result.probes for result in results], ignore_index=True)
        curves = curve_table(probes)
        found |= {"probes": probes, "probe_curves": curves, "probe_onsets": onset_table(curves)}
        found["probe_features"] = best_feature_table(probes)
    return found
