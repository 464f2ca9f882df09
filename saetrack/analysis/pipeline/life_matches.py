"""Matched features of control chains, for the life store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from saetrack.analysis.life_store.layout import match_arrays
from saetrack.analysis.life_store.manifest import MatchedChain
from saetrack.analysis.matching.matching import SIMILAR

if TYPE_CHECKING:
    from saetrack.analysis.pipeline.config import AnalyzeConfig
    from saetrack.analysis.pipeline.control_matching import ControlMatching

# Of what chance reaches, a match must be above this share.
CHANCE_QUANTILE = 0.95


def matched_chains(
    matchings: Sequence[ControlMatching], config: AnalyzeConfig
) -> list[MatchedChain]:
    """The chains whose features are matched, and how, in words."""
    return [
        MatchedChain(
            chain=matching.chains[1].chain.name,
            name=matching.name,
            role=config.controls[matching.name].role,
            lm_step=matching.links[1].checkpoint.lm_step,
            text="Matched one to one by the correlation of activations. A match is poor where the "
            f"correlation is below {SIMILAR:g} or within {100 * CHANCE_QUANTILE:g} % of what "
            "shuffled tokens reach, or where one of the two has a better partner.",
        )
        for matching in matchings
    ]


def match_columns(d_sae: int, matchings: Sequence[ControlMatching]) -> dict[str, np.ndarray]:
    """The partner of each feature in each chain (`saetrack.analysis.life_store.layout`)."""
    arrays = {
        name: np.full(shape, 0 if dtype == "u1" else -1 if dtype == "i4" else np.nan, dtype)
        for name, (dtype, shape) in match_arrays(d_sae, len(matchings)).items()
    }
    for number, matching in enumerate(matchings):
        pairs = matching.tables()["pairs"]
        found = pairs[pairs["by"] == "activations"]
        shuffled = pairs[pairs["by"] == "shuffled tokens"].set_index("left")["score"]
        by_chance = shuffled.quantile(CHANCE_QUANTILE) if len(shuffled) else 0.0
        is_good = (found["score"] >= max(SIMILAR, by_chance)) & found["mutual_best"]
        of_pairs = {
            "match_features": found["right"],
            "match_cosines": found["decoder_cosine"],
            "match_correlations": found["score"],
            "match_chances": found["left"].map(shuffled),
            "match_poor": ~is_good,
        }
        for name, values in of_pairs.items():
            arrays[name][found["left"].to_numpy(), number] = values.to_numpy()
    return arrays
