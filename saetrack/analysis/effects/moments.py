"""From which link on a feature is formed, converged, predictive and causal, and which comes first.

- `forms`: label and tokens are those of the final link (Definition 5.2);
- `converges`: the cosine to the final direction exceeds that of 95 % of the features of a noise
  control at its first link. What is still to come turns it less than a whole chain of training
  does by itself;
- `predicts`: the tokens that it promotes agree with next tokens beyond 95 % of the control;
- `causes`: its effect on the loss is larger than that of 95 % of random directions with its firing
  and norm.

Each means: at this link, and at all that follow, of which there is one at least: the last link is
like itself whatever a feature is. Any may never happen. A link at which a feature does not fire on
the rows that effects are measured on says nothing about its effect, and ends no run of links.

Intervals are those of a bootstrap over features. It draws how often each distinct outcome comes,
so that memory does not grow with the features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

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
        holds: whether it does, at each link. It must at two links or more.
        unknown: links that say nothing: they neither begin nor end it.
    """
    unknown = np.zeros_like(holds) if unknown is None else unknown
    not_broken = np.logical_and.accumulate((holds | unknown)[::-1], axis=0)[::-1]
    holds = holds & ~unknown & not_broken
    return np.where(holds.sum(axis=0) > 1, holds.argmax(axis=0), NEVER)


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


def moment_counts(moments: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How many features have each moment, and at which step half of these have it.

    Args:
        moments: as `moment_table` gives them.
        seed: of the bootstrap.

    Returns:
        `of`, `moment`, `features`, `reached`, `share` (of the features that reach it),
        `median_lm_step` (NaN if none does), and of the last two `_low` and `_high`, 95 % of the
        bootstrap.
    """
    generator, rows = np.random.default_rng(seed), []
    for (of, moment), found in moments.groupby(["of", "moment"], sort=False):
        steps, counts = np.unique(found["lm_step"].dropna(), return_counts=True)
        never = len(found) - counts.sum()
        reached = _drawn(np.append(counts, never), generator)[:, :-1]
        n_reached = reached.sum(axis=1)
        medians = np.full(len(reached), np.nan)
        if len(steps):
            some = n_reached > 0
            half = (reached.cumsum(axis=1) >= n_reached[:, None] / 2).argmax(axis=1)
            medians[some] = steps[half[some]]
        rows.append(
            {"of": of, "moment": moment, "features": len(found), "reached": int(n_reached[0])}
            | _with_interval("share", n_reached / len(found))
            | _with_interval("median_lm_step", medians)
        )
    return pd.DataFrame(rows)


def which_first(moments: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How often each moment comes first.

    Moments at the same link share their place. The control draws each moment of another feature:
    the same steps, without any tie between the moments of one feature.

    Args:
        moments: as `moment_table` gives them, of features.
        seed: of the bootstrap and of the control.

    Returns:
        A row for each moment `among` the features that have `all`, and among those that have
        `any`, where never comes after everything: `moment`, `features`, `share`, `share_low`,
        `share_high` (95 % of the bootstrap), `shuffled`: the share if the moments of a feature had
        nothing to do with each other.
    """
    wide, generator = _wide(moments), np.random.default_rng(seed)
    return pd.concat(
        [
            _firsts(wide[(wide >= 0).all(axis=1)], generator).assign(among="all"),
            _firsts(wide[(wide >= 0).any(axis=1)], generator).assign(among="any"),
        ],
        ignore_index=True,
    )


def _firsts(wide: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """The columns of `which_first` but `among`, of features that have a moment; a row each."""
    columns = ["moment", "features", "share", "share_low", "share_high", "shuffled"]
    if wide.empty:
        return pd.DataFrame(columns=columns)
    links = wide.where(wide >= 0, np.iinfo(np.int32).max).to_numpy()
    outcomes, counts = np.unique(_shares_of_first(links), axis=0, return_counts=True)
    shares = _drawn(counts, generator) @ outcomes / len(links)
    mixed = [_shares_of_first(generator.permuted(links, axis=0)).mean(axis=0) for _ in range(20)]
    rows = [
        {"moment": moment, "features": len(links), **_with_interval("share", shares[:, number])}
        for number, moment in enumerate(wide.columns)
    ]
    return pd.DataFrame(rows).assign(shuffled=np.mean(mixed, axis=0))[columns]


def pairwise_order(moments: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Which of two moments comes first, among features that have both.

    Args:
        moments: as `moment_table` gives them, of features.
        seed: of the bootstrap.

    Returns:
        `moment`, `other`, `features` (with both); `before`, `same` (the same link), `after`:
        shares; `lead` (`before` less `after`), `lead_low`, `lead_high`: 95 % of the bootstrap;
        `spearman`, `p_value`: whether a feature that is early in one is early in the other.
    """
    wide, generator = _wide(moments), np.random.default_rng(seed)
    rows = []
    for moment, other in combinations(wide.columns, 2):
        both = wide[(wide[[moment, other]] >= 0).all(axis=1)]
        row = {"moment": moment, "other": other, "features": len(both)}
        if len(both):
            order = np.sign((both[moment] - both[other]).to_numpy())
            counts = np.array([(order == sign).sum() for sign in (-1, 0, 1)])
            shares = _drawn(counts, generator) / len(both)
            row |= dict(zip(("before", "same", "after"), shares[0].tolist(), strict=True))
            row |= _with_interval("lead", shares[:, 0] - shares[:, 2])
        if len(both) > 2 and both[moment].std() > 0 < both[other].std():
            tie = stats.spearmanr(both[moment], both[other])
            row |= {"spearman": float(tie.statistic), "p_value": float(tie.pvalue)}
        rows.append(row)
    columns = ["moment", "other", "features", "before", "same", "after"]
    columns += ["lead", "lead_low", "lead_high", "spearman", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def _wide(moments: pd.DataFrame) -> pd.DataFrame:
    """Links, a row per feature and a column per moment, in the order of `MOMENTS`."""
    wide = moments.pivot_table(index="feature", columns="moment", values="link")
    return wide[[moment for moment in MOMENTS if moment in wide]].astype(int)


def _shares_of_first(links: Int[ndarray, "features moments"]) -> Float[ndarray, "features moments"]:
    """1 where a moment is a feature's first, or a share of it; never is the largest number."""
    first = links == links.min(axis=1, keepdims=True)
    shares: Float[ndarray, "features moments"] = first / first.sum(axis=1, keepdims=True)
    return shares


def _drawn(
    counts: Int[ndarray, " outcomes"], generator: np.random.Generator
) -> Int[ndarray, "draws outcomes"]:
    """How often each outcome came, and how often it does in each draw of the bootstrap."""
    total = counts.sum()
    return np.vstack([counts, generator.multinomial(total, counts / total, BOOTSTRAPS)])


def _with_interval(name: str, numbers: Float[ndarray, " draws"]) -> dict[str, float]:
    """What was found, the first of some numbers, and the interval of the others."""
    drawn = numbers[1:][~np.isnan(numbers[1:])]
    low, high = np.quantile(drawn, INTERVAL) if len(drawn) else (np.nan, np.nan)
    return {name: float(numbers[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
