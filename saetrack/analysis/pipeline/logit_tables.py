"""What features promote along a chain: tables, and columns of the life store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.contexts.liveness import live_features
from saetrack.analysis.controls.measured import MeasuredLink, quantile_table
from saetrack.analysis.life_store.layout import PROMOTED
from saetrack.analysis.logits.tables import LinkLogits, promoted_table, quantities_along

if TYPE_CHECKING:
    from jaxtyping import Int

    from saetrack.analysis.pipeline.analysis_text import AnalysisText
    from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult

# The names that the life store has for some quantities.
COLUMN_OF = {
    "next_token_agreement": "agreement",
    "promoted_overlap": "overlap_with_final",
    "logit_kurtosis": "kurtosis",
}
EXAMPLES, SHOWN_TOKENS = 12, 5


@dataclass(frozen=True)
class ChainLogits:
    """What the features of a chain promote; empty where its LM has no direct path to its logits.

    Attributes:
        links: of the chain.
        measured: at each of them.
    """

    links: list[LinkLogits]
    measured: list[MeasuredLink]


def chain_logits(results: Sequence[CheckpointResult], seed: int) -> ChainLogits:
    """What was found at each checkpoint, beside controls."""
    links = [
        LinkLogits(result.lm_step, result.checkpoint_index, result.logits)
        for result in results
        if result.logits is not None
    ]
    live = live_features(results[-1].status)
    return ChainLogits(links, list(quantities_along(links, live, seed)) if links else [])


def logit_tables(
    logits: ChainLogits,
    results: Sequence[CheckpointResult],
    classes: pd.Series[str],
    sampled: Int[np.ndarray, " sampled"],
    text: AnalysisText,
) -> dict[str, pd.DataFrame]:
    """Over all features that are live at the end, of single ones, and a few to read.

    Returns:
        `logits`, `logits_of_features` and `promoted_examples`; nothing without logits.
    """
    if not logits.links:
        return {}
    followed = results[-1].statistics["feature"].to_numpy()
    return {
        "logits": quantile_table(logits.measured, live_features(results[-1].status), classes),
        "logits_of_features": promoted_table(logits.links, logits.measured, followed),
        "promoted_examples": _examples(logits, sampled, text, results[-1]),
    }


def logit_columns(logits: ChainLogits, link: int, d_sae: int) -> dict[str, np.ndarray]:
    """The columns and arrays of a link in the life store."""
    if not logits.links:
        return {name: np.full(d_sae, np.nan, np.float32) for name in COLUMN_OF}
    measured, of = logits.measured[link].quantities, logits.links[link].logits
    columns = {
        name: measured[quantity].of_features.astype(np.float32)
        for name, quantity in COLUMN_OF.items()
    }
    for kind in PROMOTED:
        columns[f"{kind}_tokens"] = getattr(of, f"{kind}_tokens").astype(np.int32)
        columns[f"{kind}_logits"] = getattr(of, f"{kind}_logits").astype(np.float32)
    return columns


def _examples(
    logits: ChainLogits,
    sampled: Int[np.ndarray, " sampled"],
    text: AnalysisText,
    final: CheckpointResult,
) -> pd.DataFrame:
    """Of the random sample those that agree best with next tokens at the end, at three links."""
    links = logits.links
    agreement = links[-1].logits.agreement[sampled]
    chosen = sampled[np.argsort(-np.nan_to_num(agreement, nan=-np.inf))[:EXAMPLES]]
    tops = final.labels.set_index("feature").loc[chosen, "top_text"].tolist()
    table = pd.DataFrame({"feature": chosen, "its commonest token": tops})
    for link in (links[0], links[len(links) // 2], links[-1]):
        tokens = link.logits.promoted_tokens[chosen, :SHOWN_TOKENS]
        said = [" ".join(repr(text.decode([int(token)])) for token in row) for row in tokens]
        table[f"step {link.lm_step:,}"] = said
    return table
