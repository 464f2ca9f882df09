"""What follows once several chains of one config were analysed: one page, and one mean."""

from __future__ import annotations

from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis
from saetrack.analysis.pipeline.replicates import are_joined, join_replicates
from saetrack.analysis.pipeline.side_by_side import is_side_by_side, lay_side_by_side


def lines_of_several(analyses: list[ChainAnalysis], replicates: list[ChainAnalysis]) -> list[str]:
    """Lay finished analyses side by side, and average replicates, if there are several.

    The hooks of one track are both; what stands `beside` a chain is laid beside it alone.

    Returns:
        What was done, a line for either.
    """
    lines = [lay_side_by_side(analyses)] if len(analyses) > 1 else []
    joined = _joined(analyses, replicates)
    return [*lines, join_replicates(joined)] if joined else lines


def are_whole(analyses: list[ChainAnalysis], replicates: list[ChainAnalysis]) -> bool:
    """Whether the registry holds all of them, and what `lines_of_several` makes of them."""
    if not all(analysis.is_finished() for analysis in [*analyses, *replicates]):
        return False
    if len(analyses) > 1 and not is_side_by_side(analyses):
        return False
    joined = _joined(analyses, replicates)
    return not joined or are_joined(joined)


def _joined(analyses: list[ChainAnalysis], replicates: list[ChainAnalysis]) -> list[ChainAnalysis]:
    """Those that are averaged; none where chains are only laid side by side, or there is one."""
    several = [*analyses, *replicates]
    return several if len(several) > 1 and not analyses[0].config.beside else []
