"""Tables of what residuals do along a chain (theorem 2.1, appendices C and L)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from saetrack.analysis.geometry.collapse import collapse_table
from saetrack.analysis.geometry.continuity import (
    continuity_table,
    warm_start_correlations,
    with_warm_starts,
)
from saetrack.analysis.geometry.inputs import Residuals
from saetrack.analysis.pipeline.learning_rates import learning_rate_sums

if TYPE_CHECKING:
    from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult
    from saetrack.analysis.pipeline.registered_chain import RegisteredChain

COLLAPSE_TOKENS = 100  # per draw, as in the paper


def geometry_tables(
    registered: RegisteredChain, results: Sequence[CheckpointResult]
) -> dict[str, pd.DataFrame]:
    """Collapse (appendix L) and continuity (appendix C) on the sampled tokens.

    Returns:
        `collapse`, `continuity`, `warm_starts`.
    """
    links = registered.ready.registry.table(registered.chain)
    if registered.standing is not None:
        links = links.assign(lm_step=links["link"])
    moved = {result.lm_step: result.parameter_displacement for result in results[1:]}
    residuals = [
        Residuals(result.lm_step, result.checkpoint_index, result.sample) for result in results
    ]
    # A chain may have several links at a checkpoint, of which the last one is analysed.
    analysed = links["link"].isin([result.link.number for result in results])
    moves = continuity_table(residuals, moved, learning_rate_sums(registered))
    joined = with_warm_starts(moves, links[analysed & (links["link"] > 0)])
    sample = min(COLLAPSE_TOKENS, len(results[0].sample) // 2)
    return {
        "collapse": collapse_table(residuals, sample),
        "continuity": joined,
        "warm_starts": warm_start_correlations(joined),
    }
