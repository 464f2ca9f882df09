"""Tables of patterns beside the patterns of controls, and of how far single features' hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.contexts.liveness import live_features
from saetrack.analysis.meaning.patterns import NO_PATTERN, PAPER_PATTERNS, PATTERNS
from saetrack.analysis.results.pattern_shares import (
    CHAIN,
    PatternsOf,
    end_labels,
    kappa_of_features,
    pattern_agreement,
    pattern_shares,
)

if TYPE_CHECKING:
    from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis
    from saetrack.analysis.pipeline.control_ends import ControlEnds
    from saetrack.analysis.pipeline.control_matching import ControlMatching

KAPPA = "pattern_kappa"


def pattern_tables(
    analysis: ChainAnalysis,
    tables: dict[str, pd.DataFrame],
    ends: Sequence[ControlEnds],
    matchings: Sequence[ControlMatching],
) -> dict[str, pd.DataFrame]:
    """The patterns of the chain beside those of its controls.

    Args:
        analysis: of the chain.
        tables: those that are made: `patterns`, `contexts`, `status` (of the last link), `pairs`.
        ends: of the controls.
        matchings: of the chain with its controls.

    Returns:
        `pattern_shares`, the same by the paper's classes, `end_labels` and `pattern_agreement`
        (`saetrack.analysis.results.pattern_shares`), and `patterns` and `contexts` with a column
        `pattern_kappa`: of each feature's pattern in a replicate.
    """
    patterns, seed = tables["patterns"], analysis.config.seed
    chains = {CHAIN: PatternsOf(CHAIN, patterns, live_features(tables["status"]))}
    for control in ends:
        found = control.patterns()
        role = analysis.config.controls[control.name].role
        chains[control.name] = PatternsOf(role, found, np.flatnonzero(found["live"]))
    pairs = tables["pairs"]
    if len(pairs):
        at_ends = [matching.name for matching in matchings if matching.is_at_both_ends]
        pairs = pairs[(pairs["by"] == "decoder") & pairs["other"].isin(at_ends)]
    agreement = pattern_agreement(chains, pairs, seed)
    kappa = pd.Series(
        kappa_of_features(agreement, patterns["first_label"]), index=patterns["feature"]
    )
    return {
        "pattern_shares": pattern_shares(chains, PATTERNS),
        "paper_pattern_shares": pattern_shares(
            _by_the_paper(chains), (*PAPER_PATTERNS, NO_PATTERN)
        ),
        "end_labels": end_labels(chains),
        "pattern_agreement": agreement,
        "patterns": patterns.assign(**{KAPPA: kappa.to_numpy()}),
        "contexts": tables["contexts"].assign(
            **{KAPPA: tables["contexts"]["feature"].map(kappa).astype(float)}
        ),
    }


def _by_the_paper(chains: dict[str, PatternsOf]) -> dict[str, PatternsOf]:
    """The patterns by the paper's classes."""
    return {
        name: of._replace(
            patterns=of.patterns.assign(pattern=of.patterns["paper_pattern"].fillna(NO_PATTERN))
        )
        for name, of in chains.items()
    }
