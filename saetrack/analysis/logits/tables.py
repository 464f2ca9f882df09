"""What features promote along a chain, beside what chance would give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from saetrack.analysis.logits.feature_logits import FeatureLogits, overlap

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray

# What each number of a feature is held against.
CONTROLS = {
    "agreement": "next tokens of another feature",
    "overlap_with_final": "tokens that another feature promotes at the end",
    "overlap_with_previous": "tokens that another feature promoted before",
    "kurtosis": "random directions",
    "entropy": "random directions",
}
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
ALL = "all"


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


@dataclass(frozen=True)
class Measured:
    """One quantity of all features at one link, and of its control.

    Attributes:
        of_features: (d_sae,); NaN where there is none.
        control: of other features or of random directions, (controls,).
    """

    of_features: Float[ndarray, " d_sae"]
    control: Float[ndarray, " controls"]

    def band(self) -> tuple[float, float]:
        """5 and 95 % of the control; NaN of an empty one."""
        return _quantile(self.control, 0.05), _quantile(self.control, 0.95)


def quantities_along(
    links: Sequence[LinkLogits], features: Int[ndarray, " chosen"], seed: int
) -> Iterator[tuple[LinkLogits, dict[str, Measured]]]:
    """Each link's quantities, by the names of `CONTROLS`.

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
        unknown = Measured(np.full(len(tokens), np.nan), np.zeros(0))
        yield (
            link,
            {
                "agreement": Measured(of.agreement, of.shuffled_agreement),
                "overlap_with_final": Measured(
                    overlap(tokens, final), overlap(tokens[order], final[other])
                ),
                "overlap_with_previous": unknown
                if before is None
                else Measured(overlap(tokens, before), overlap(tokens[order], before[other])),
                "kurtosis": Measured(of.kurtosis, of.random_kurtosis),
                "entropy": Measured(of.entropy, of.random_entropy),
            },
        )
        before = tokens


def logit_table(
    along: Sequence[tuple[LinkLogits, Mapping[str, Measured]]],
    features: Int[ndarray, " chosen"],
    classes: pd.Series[str],
) -> pd.DataFrame:
    """The distributions over features, per link.

    Args:
        along: as `quantities_along` gives them.
        features: that count.
        classes: of each feature, indexed by feature; each class gets its rows beside all.

    Returns:
        One row per quantity, class and link: `lm_step`, `checkpoint_index`, `quantity`,
        `feature_class` (`all` for all), `features` (with a number), `q05`, `q25`, `q50`, `q75`,
        `q95`; `control`, `control_q05`, `control_q50`, `control_q95`; `share_above`, of the
        features, that exceed the control's 95 %: 5 % would by chance.
    """
    labels = classes.loc[features].to_numpy()
    chosen = {ALL: features} | {str(of): features[labels == of] for of in sorted(set(labels))}
    rows: list[dict[str, Any]] = []
    for link, quantities in along:
        for quantity, measured in quantities.items():
            low, high = measured.band()
            for name, members in chosen.items():
                values = measured.of_features[members]
                values = values[~np.isnan(values)]
                rows.append(
                    {
                        "lm_step": link.lm_step,
                        "checkpoint_index": link.checkpoint_index,
                        "quantity": quantity,
                        "feature_class": name,
                        "features": len(values),
                        **{q: _quantile(values, share) for q, share in QUANTILES.items()},
                        "control": CONTROLS[quantity],
                        "control_q05": low,
                        "control_q50": _quantile(measured.control, 0.5),
                        "control_q95": high,
                        "share_above": float((values > high).mean()) if len(values) else np.nan,
                    }
                )
    return pd.DataFrame(rows)


def promoted_table(
    along: Sequence[tuple[LinkLogits, Mapping[str, Measured]]], features: Int[ndarray, " chosen"]
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
                **{name: measured.of_features[features] for name, measured in quantities.items()},
                **{name: list(getattr(link.logits, name)[features]) for name in lists},
            }
        )
        for link, quantities in along
    ]
    return pd.concat(parts, ignore_index=True)


def _quantile(values: Float[ndarray, " values"], share: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.quantile(known.astype(float), share)) if len(known) else float("nan")
