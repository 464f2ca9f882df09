"""Numbers of all features at a link beside a control's, and their quantiles along a chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
ALL = "all"


@dataclass(frozen=True)
class Measured:
    """One quantity of all features at one link, and of its control.

    Attributes:
        of_features: (d_sae,); NaN where there is none.
        control: of other features or of random directions, (controls,).
        name: of the control, in words.
    """

    of_features: Float[ndarray, " d_sae"]
    control: Float[ndarray, " controls"]
    name: str

    def band(self) -> tuple[float, float]:
        """5 and 95 % of the control; NaN of an empty one."""
        return quantile(self.control, 0.05), quantile(self.control, 0.95)


@dataclass(frozen=True)
class MeasuredLink:
    """All quantities of one link.

    Attributes:
        lm_step: of its checkpoint.
        checkpoint_index: likewise.
        quantities: by name.
    """

    lm_step: int
    checkpoint_index: int
    quantities: Mapping[str, Measured]


def quantile_table(
    links: Iterable[MeasuredLink], features: Int[ndarray, " chosen"], classes: pd.Series[str]
) -> pd.DataFrame:
    """The distributions over features, per link.

    Args:
        links: along the chain.
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
    for link in links:
        at = {"lm_step": link.lm_step, "checkpoint_index": link.checkpoint_index}
        for quantity, measured in link.quantities.items():
            for name, members in chosen.items():
                of_class = {"quantity": quantity, "feature_class": name}
                rows.append(at | of_class | _distribution(measured, members))
    return pd.DataFrame(rows)


def _distribution(measured: Measured, members: Int[ndarray, " members"]) -> dict[str, Any]:
    """The columns of `quantile_table` from `features` on."""
    low, high = measured.band()
    numbers = measured.of_features[members]
    numbers = numbers[~np.isnan(numbers)]
    return {
        "features": len(numbers),
        **{q: quantile(numbers, share) for q, share in QUANTILES.items()},
        "control": measured.name,
        "control_q05": low,
        "control_q50": quantile(measured.control, 0.5),
        "control_q95": high,
        "share_above": float((numbers > high).mean()) if len(numbers) else np.nan,
    }


def quantile(numbers: Float[ndarray, " numbers"], share: float) -> float:
    """Of those that are no NaN; NaN if there are none."""
    known = numbers[~np.isnan(numbers)]
    return float(np.quantile(known.astype(float), share)) if len(known) else float("nan")
