"""What features promote along a chain: tables, and columns of the life store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.logits.tables import (
    LinkLogits,
    Measured,
    logit_table,
    promoted_table,
    quantities_along,
)

if TYPE_CHECKING:
    from jaxtyping import Int

    from saetrack.analysis.pipeline.analysis_text import AnalysisText
    from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult

Along = list[tuple[LinkLogits, Mapping[str, Measured]]]

# The names that the life store has for some quantities.
COLUMN_OF = {
    "next_token_agreement": "agreement",
    "promoted_overlap": "overlap_with_final",
    "logit_kurtosis": "kurtosis",
}
EXAMPLES, SHOWN_TOKENS = 12, 5


def logits_along(results: Sequence[CheckpointResult], seed: int) -> Along:
    """What each link's features promote; empty where the LM has no direct path to its logits."""
    links = [
        LinkLogits(result.lm_step, result.checkpoint_index, result.logits)
        for result in results
        if result.logits is not None
    ]
    return list(quantities_along(links, _live(results[-1]), seed)) if links else []


def logit_tables(
    along: Along,
    results: Sequence[CheckpointResult],
    classes: pd.Series[str],
    sampled: Int[np.ndarray, " sampled"],
    text: AnalysisText,
) -> dict[str, pd.DataFrame]:
    """Over all features that are live at the end, of single ones, and a few to read.

    Returns:
        `logits`, `logits_of_features` and `promoted_examples`; nothing without logits.
    """
    if not along:
        return {}
    followed = results[-1].statistics["feature"].to_numpy()
    return {
        "logits": logit_table(along, _live(results[-1]), classes),
        "logits_of_features": promoted_table(along, followed),
        "promoted_examples": _examples(along, sampled, text, results[-1]),
    }


def logit_columns(along: Along, link: int, d_sae: int) -> dict[str, np.ndarray]:
    """The columns and arrays of a link in the life store."""
    if not along:
        return {name: np.full(d_sae, np.nan, np.float32) for name in COLUMN_OF}
    of, quantities = along[link]
    columns = {
        name: quantities[quantity].of_features.astype(np.float32)
        for name, quantity in COLUMN_OF.items()
    }
    for kind in ("promoted", "suppressed"):
        columns[f"{kind}_tokens"] = getattr(of.logits, f"{kind}_tokens").astype(np.int32)
        columns[f"{kind}_logits"] = getattr(of.logits, f"{kind}_logits").astype(np.float32)
    return columns


def _live(result: CheckpointResult) -> Int[np.ndarray, " live"]:
    return np.flatnonzero(result.status["status"] == "live")


def _examples(
    along: Along, sampled: Int[np.ndarray, " sampled"], text: AnalysisText, final: CheckpointResult
) -> pd.DataFrame:
    """Of the random sample those that agree best with next tokens at the end, at three links."""
    agreement = along[-1][1]["agreement"].of_features[sampled]
    chosen = sampled[np.argsort(-np.nan_to_num(agreement, nan=-np.inf))[:EXAMPLES]]
    tops = final.labels.set_index("feature").loc[chosen, "top_text"].tolist()
    table = pd.DataFrame({"feature": chosen, "its commonest token": tops})
    for link, _ in (along[0], along[len(along) // 2], along[-1]):
        tokens = link.logits.promoted_tokens[chosen, :SHOWN_TOKENS]
        said = [" ".join(repr(text.decode([int(token)])) for token in row) for row in tokens]
        table[f"step {link.lm_step:,}"] = said
    return table
