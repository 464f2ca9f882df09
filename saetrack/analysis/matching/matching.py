"""Features of two SAEs matched one to one, and how clear the matches are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from saetrack.analysis.matching.assignment import CANDIDATES, assign
from saetrack.analysis.matching.scores import DENSE_PAIRS

if TYPE_CHECKING:
    from jaxtyping import Int

    from saetrack.analysis.matching.scores import Scores

# Scores from which on a pair is called similar, and nearly the same.
SIMILAR, NEARLY_SAME = 0.7, 0.9


class Side(NamedTuple):
    """One SAE.

    Attributes:
        live: the features that take part, ascending, (live,).
        d_sae: how many features there are in all.
    """

    live: Int[np.ndarray, " live"]
    d_sae: int


@dataclass(frozen=True)
class Matching:
    """Pairs of features, one to one, with the largest summed score.

    As many pairs as the side with fewer live features has. With unequal sides the features of the
    other that are left over stay unmatched.

    Attributes:
        pairs: one row per pair: `left`, `right` (feature indices, the left ones ascending),
            `score`; `margin`: the score less the best that either could have had with another,
            negative where the assignment gave one of the two not its favourite; `mutual_best`:
            each is the other's favourite; `outside`: the pair is no candidate of either feature
            (`saetrack.analysis.matching.assignment`).
        left: one SAE.
        right: the other.
    """

    pairs: pd.DataFrame
    left: Side
    right: Side

    def scalars(self, score: str = "cosine") -> dict[str, float]:
        """The summary by name; shares are OF THE MATCHED PAIRS, and NaN if there are none."""
        pairs, found = self.pairs, len(self.pairs)
        return {
            "pairs": found,
            f"median_{score}": float(pairs["score"].median()),
            "share_above_0.7": _share(pairs["score"] > SIMILAR),
            "share_above_0.9": _share(pairs["score"] > NEARLY_SAME),
            "share_mutual_best": _share(pairs["mutual_best"]),
            "left_live": len(self.left.live),
            "left_dead": self.left.d_sae - len(self.left.live),
            "right_live": len(self.right.live),
            "right_dead": self.right.d_sae - len(self.right.live),
            "left_unmatched": len(self.left.live) - found,
            "right_unmatched": len(self.right.live) - found,
            "share_outside_candidates": _share(pairs["outside"]),
        }


def _share(holds: pd.Series[bool]) -> float:
    return float(holds.mean()) if len(holds) else np.nan


def match(
    scores: Scores,
    left: Side,
    right: Side,
    candidates: int = CANDIDATES,
    dense_pairs: int = DENSE_PAIRS,
) -> Matching:
    """Match live features.

    Args:
        scores: of the live features of both sides.
        left: its rows.
        right: its columns.
        candidates: see `saetrack.analysis.matching.assignment.assign`.
        dense_pairs: see there.
    """
    found = assign(scores, candidates, dense_pairs)
    pairs = {
        "left": left.live[found.rows],
        "right": right.live[found.columns],
        "score": found.score,
        "margin": found.score - found.runner_up,
        "mutual_best": found.score >= found.runner_up,
        "outside": found.outside,
    }
    return Matching(pd.DataFrame(pairs), left, right)
