"""Loss of polysemy: a token's feature that comes to mean one of the token's senses (appendix G).

At first such a feature fires by the token alone, whatever it means; in the end only on some of its
occurrences, whose contexts are alike. Both are measured on features that stay with their token: the
share of the token's occurrences on which the feature fires falls, and the similarity of its
contexts rises, under a fixed embedder that does not see the token itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray


# A loss: of the token's occurrences the feature fires on at least this share at first, in the end
# on at most so much of that share, and the similarity of its contexts rises by at least this.
FIRST_RECALL, RECALL_RATIO, COHERENCE_RISE = 0.5, 0.7, 0.05


def polysemy_loss(
    patterns: pd.DataFrame,
    recalls: tuple[Float[ndarray, " features"], Float[ndarray, " features"]],
    coherences: tuple[Float[ndarray, " features"], Float[ndarray, " features"]],
) -> pd.DataFrame:
    """Which features that maintain one token lost senses of it.

    Returns:
        One row per such feature: `feature`, `recall_first`, `recall_final`,
        `coherence_first`, `coherence_final`, `lost_senses`, and as a control `gained_senses`: the
        same thresholds with time reversed, which chance alone would meet as often.
    """
    table = pd.DataFrame(
        {
            "feature": patterns["feature"].to_numpy(),
            "recall_first": recalls[0],
            "recall_final": recalls[1],
            "coherence_first": coherences[0],
            "coherence_final": coherences[1],
        }
    )[((patterns["pattern"] == "maintaining") & (patterns["final_label"] == "token")).to_numpy()]
    table["lost_senses"] = _lost(table, "first", "final")
    table["gained_senses"] = _lost(table, "final", "first")
    return table.reset_index(drop=True)


def _lost(table: pd.DataFrame, before: str, after: str) -> pd.Series[bool]:
    recall, rise = table[f"recall_{before}"], table[f"coherence_{after}"]
    return (
        (recall >= FIRST_RECALL)
        & (table[f"recall_{after}"] <= RECALL_RATIO * recall)
        & (rise - table[f"coherence_{before}"] >= COHERENCE_RISE)
    )
