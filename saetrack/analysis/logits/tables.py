"""What features promote along a chain, beside what chance would give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.controls.measured import Measured, MeasuredLink
from saetrack.analysis.logits.feature_logits import FeatureLogits, overlap

if TYPE_CHECKING:
    from jaxtyping import Int
    from numpy import ndarray


@dataclass(frozen=True)
class LinkLogits:
    """What the features of one link promote.

    Attributes:
        lm_step: of its checkpoint.
        checkpoint_index: likewise.
        logits: of its features.
    """

    lm_step: int
    checkpoint_index: int
    logits: FeatureLogits


def quantities_along(
    links: Sequence[LinkLogits], features: Int[ndarray, " chosen"], seed: int
) -> Iterator[MeasuredLink]:
    """Each link's `agreement`, overlaps, `kurtosis` and `entropy`.

    The overlaps are `overlap_with_final` and, from the second link on, `overlap_with_previous`.

    Args:
        links: of the chain, ascending by LM step.
        features: whose tokens stand for another feature's in the controls of overlaps.
        seed: of who stands for whom.
    """
    final = links[-1].logits.promoted_tokens
    order = np.random.default_rng(seed).permutation(features)
    other = np.roll(order, 1)
    before = None
    for link in links:
        of, tokens = link.logits, link.logits.promoted_tokens
        quantities = {
            "agreement": Measured(
                of.agreement, of.shuffled_agreement, "next tokens of another feature"
            ),
            "overlap_with_final": Measured(
                overlap(tokens, final),
                overlap(tokens[order], final[other]),
                "tokens that another feature promotes at the end",
            ),
            "kurtosis": Measured(of.kurtosis, of.random_kurtosis, "random directions"),
            "entropy": Measured(of.entropy, of.random_entropy, "random directions"),
        }
        if before is not None:
            quantities["overlap_with_previous"] = Measured(
                overlap(tokens, before),
                overlap(tokens[order], before[other]),
                "tokens that another feature promoted before",
            )
        yield MeasuredLink(link.lm_step, link.checkpoint_index, quantities)
        before = tokens


def promoted_table(
    links: Sequence[LinkLogits],
    measured: Sequence[MeasuredLink],
    features: Int[ndarray, " chosen"],
) -> pd.DataFrame:
    """What single features promote and suppress at each link.

    Returns:
        One row per link and feature: `lm_step`, `checkpoint_index`, `feature`, the quantities,
        and as lists, the strongest first, `promoted_tokens`, `promoted_logits`,
        `suppressed_tokens`, `suppressed_logits`.
    """
    lists = ("promoted_tokens", "promoted_logits", "suppressed_tokens", "suppressed_logits")
    parts = [
        pd.DataFrame(
            {
                "lm_step": link.lm_step,
                "checkpoint_index": link.checkpoint_index,
                "feature": features,
                **{name: by.of_features[features] for name, by in of.quantities.items()},
                **{name: list(getattr(link.logits, name)[features]) for name in lists},
            }
        )
        for link, of in zip(links, measured, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)
