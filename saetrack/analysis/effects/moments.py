"""From which link on a feature is formed, converged, predictive and causal, and which comes first.

- `forms`: label and tokens are those of the final link (Definition 5.2);
- `converges`: the cosine to the final direction is not below what a noise control reaches as many
  links before its end (its 5 % quantile);
- `predicts`: the tokens that it promotes agree with next tokens beyond 95 % of the control;
- `causes`: its effect on the loss is larger than that of 95 % of random directions with its firing
  and norm.

Each means: at this link, and at all that follow. That the last link is like itself makes `forms`
and `converges` happen at the latest there, for any feature that has a meaning; the other two may
never happen. A link at which a feature does not fire on the rows that effects are measured on says
nothing about its effect, and ends no run of links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy import ndarray

MOMENTS = ("forms", "converges", "predicts", "causes")
NEVER = -1
BOOTSTRAPS = 1000
INTERVAL = (0.025, 0.975)


def first_for_good(
    holds: Bool[ndarray, "links features"], unknown: Bool[ndarray, "links features"] | None = None
) -> Int[ndarray, " features"]:
    """The first link at which something holds that then holds to the end; -1 for never.

    Args:
        holds: whether it does, at each link.
        unknown: links that say nothing: they neither begin nor end it.
    """
    unknown = np.zeros_like(holds) if unknown is None else unknown
    not_broken = np.logical_and.accumulate((holds | unknown)[::-1], axis=0)[::-1]
    begins = holds & ~unknown & not_broken
    return np.where(begins.any(axis=0), begins.argmax(axis=0), NEVER)


def moment_table(
    found: Mapping[str, Int[ndarray, " features"]],
    features: Int[ndarray, " features"],
    lm_steps: Sequence[int],
    of: str = "features",
) -> pd.DataFrame:
    """One row per feature and moment.

    Args:
        found: the link of each moment that was measured, -1 for never.
        features: whose they are.
        lm_steps: of the links.
        of: `features`, or what stands for them as a control.

    Returns:
        `of`, `feature`, `moment`, `link`, `lm_step` (NaN for never), `reached`.
    """
    steps = np.array(lm_steps, float)
    parts = [
        pd.DataFrame(
            {
                "of": of,
                "feature": features,
                "moment": moment,
                "link": links,
                "lm_step": np.where(links >= 0, steps[links], np.nan),
                "reached": links >= 0,
            }
        )
        for moment, links in found.items()
    ]
    return pd.concat(parts, ignore_index=True)


def moment_counts(moments: pd.DataFrame) -> pd.DataFrame:
    """How many features have each moment.

    Returns:
        `of`, `moment`, `features`, `reached`, `share`, `median_lm_step` (of those that reach it).
    """
    grouped = moments.groupby(["of", "moment"], sort=False)
    table = grouped.agg(
        features=("feature", "size"),
        reached=("reached", "sum"),
        median_lm_step=("lm_step", "median"),
    )
    table["share"] = table["reached"] / table["features"]
    return table.reset_index()


def which_first(moments: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How often each moment comes first, among features that have all that were measured.

    Moments at the same link share their place. The control draws each moment of another feature:
    the same steps, without any tie between the moments of one feature.

    Args:
        moments: as `moment_table` gives them, of features.
        seed: of the bootstrap and of the control.

    Returns:
        `moment`, `features`, `share`, `low`, `high` (95 % of a bootstrap over features),
        `shuffled`: the share if the moments of a feature had nothing to do with each other.
    """
    wide = _wide(moments)
    wide = wide[(wide >= 0).all(axis=1)]
    links, generator = wide.to_numpy(), np.random.default_rng(seed)
    if not len(links):
        return pd.DataFrame(columns=["moment", "features", "share", "low", "high", "shuffled"])
    shares = _shares_of_first(links)
    low, high = _interval(shares, generator)
    mixed = [_shares_of_first(generator.permuted(links, axis=0)).mean(axis=0) for _ in range(20)]
    return pd.DataFrame(
        {
            "moment": wide.columns,
            "features": len(links),
            "share": shares.mean(axis=0),
            "low": low,
            "high": high,
            "shuffled": np.mean(mixed, axis=0),
        }
    )


def pairwise_order(moments: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Which of two moments comes first, among features that have both.

    Args:
        moments: as `moment_table` gives them, of features.
        seed: of the bootstrap.

    Returns:
        `moment`, `other`, `features` (with both); `before`, `same` (the same link), `after`:
        shares; `low`, `high`: 95 % of a bootstrap over features of `before` less `after`.
    """
    wide, generator = _wide(moments), np.random.default_rng(seed)
    rows = []
    for moment, other in combinations(wide.columns, 2):
        both = wide[(wide[[moment, other]] >= 0).all(axis=1)]
        order = np.sign((both[moment] - both[other]).to_numpy())
        row = {"moment": moment, "other": other, "features": len(both)}
        if len(both):
            shares = {"before": order < 0, "same": order == 0, "after": order > 0}
            low, high = _interval(-order[:, None].astype(float), generator)
            row |= {name: float(is_so.mean()) for name, is_so in shares.items()}
            row |= {"low": float(low[0]), "high": float(high[0])}
        rows.append(row)
    columns = ["moment", "other", "features", "before", "same", "after", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _wide(moments: pd.DataFrame) -> pd.DataFrame:
    """Links, a row per feature and a column per moment, in the order of `MOMENTS`."""
    wide = moments.pivot_table(index="feature", columns="moment", values="link")
    return wide[[moment for moment in MOMENTS if moment in wide]].astype(int)


def _shares_of_first(links: Int[ndarray, "features moments"]) -> Float[ndarray, "features moments"]:
    """1 where a moment is a feature's first, or a share of it."""
    first = links == links.min(axis=1, keepdims=True)
    shares: Float[ndarray, "features moments"] = first / first.sum(axis=1, keepdims=True)
    return shares


def _interval(
    numbers: Float[ndarray, "features columns"], generator: np.random.Generator
) -> tuple[Float[ndarray, " columns"], Float[ndarray, " columns"]]:
    """Of the means, over bootstrap draws of features."""
    weights = generator.multinomial(len(numbers), [1 / len(numbers)] * len(numbers), BOOTSTRAPS)
    low, high = np.quantile(weights @ numbers / len(numbers), INTERVAL, axis=0)
    return low, high
