"""When a crosscoder's features emerge, and whether a chain says the same of them.

A feature's *share* at a checkpoint is the norm of its decoder row there over the largest that it
has at any checkpoint. It *emerges* at the first checkpoint from which on its share is above a half
to the end. A feature whose share is a half or less at the last checkpoint is *lost* and does not
emerge: it belongs to an earlier LM.

Agreement is Spearman's rank correlation over features that are matched one to one. Both sides have
few distinct steps, so ties are many, and it is computed from the table of how often each two steps
meet. Intervals are those of a bootstrap over features; the control gives each feature the step of
another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.formation.phases import formed_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int
    from numpy import ndarray

# What is compared.
CHAIN, BESIDE, CROSSCODER = "chain", "chain of these checkpoints", "crosscoder"
HALF = 0.5
DRAWS = 1000
INTERVAL = (0.025, 0.975)
# A correlation over fewer pairs says nothing.
MIN_PAIRS = 10


def emergence_table(
    norms: Float[ndarray, "checkpoints d_sae"],
    density: Float[ndarray, " d_sae"],
    lm_steps: Sequence[int],
) -> pd.DataFrame:
    """When each live feature of a crosscoder emerges.

    Args:
        norms: of decoder rows.
        density: share of held-out tokens on which each feature fires; 0 is dead and left out.
        lm_steps: of the checkpoints, ascending.

    Returns:
        One row per live feature: `feature`, `lm_step` (at which it emerges; NaN if it is lost),
        `first_share`, `last_share`, `largest_lm_step` (where its norm is the largest).
    """
    live = np.flatnonzero(density)
    of_live = norms[:, live]
    shares = of_live / np.maximum(of_live.max(axis=0), np.finfo(float).tiny)
    steps = np.array(lm_steps, dtype=float)
    emerged = formed_from((shares > HALF).T)
    return pd.DataFrame(
        {
            "feature": live,
            "lm_step": np.where(emerged >= 0, steps[emerged], np.nan),
            "first_share": shares[0],
            "last_share": shares[-1],
            "largest_lm_step": steps[shares.argmax(axis=0)],
        }
    )


def emergence_counts(emergence: pd.DataFrame, lm_steps: Sequence[int]) -> pd.DataFrame:
    """How many features emerge at each checkpoint: `lm_step` (NaN: lost), `features`, `share`."""
    found = emergence["lm_step"]
    counts = [int((found == step).sum()) for step in lm_steps] + [int(found.isna().sum())]
    table = pd.DataFrame({"lm_step": [*map(float, lm_steps), np.nan], "features": counts})
    return table.assign(share=table["features"] / max(len(found), 1))


def agreement(
    left: Float[ndarray, " pairs"], right: Float[ndarray, " pairs"], seed: int
) -> dict[str, float]:
    """Whether features that are early on one side are early on the other.

    Args:
        left: LM step of each pair's left feature; NaN if it has none, and the pair is left out.
        right: of its right feature.
        seed: of the bootstrap and of the control.

    Returns:
        `pairs` that have both steps; `spearman`, `low` and `high` (95 % of the bootstrap),
        `shuffled_low` and `shuffled_high` (95 % of the control); NaN of fewer than ten pairs, and
        where one side has one step only.
    """
    both = ~np.isnan(left) & ~np.isnan(right)
    row: dict[str, float] = {"pairs": int(both.sum())}
    names = ("spearman", "low", "high", "shuffled_low", "shuffled_high")
    row |= dict.fromkeys(names, np.nan)
    if row["pairs"] < MIN_PAIRS:
        return row
    rows, columns = (np.unique(of[both], return_inverse=True)[1] for of in (left, right))
    generator = np.random.default_rng(seed)
    counts = _met(rows, columns)
    drawn = generator.multinomial(len(rows), counts.ravel() / len(rows), DRAWS)
    mixed = np.stack([_met(rows, generator.permutation(columns)) for _ in range(DRAWS)])
    row["spearman"] = float(spearman(counts[None])[0])
    row["low"], row["high"] = _interval(spearman(drawn.reshape(DRAWS, *counts.shape)))
    row["shuffled_low"], row["shuffled_high"] = _interval(spearman(mixed))
    return row


def spearman(counts: Int[ndarray, "draws rows columns"]) -> Float[ndarray, " draws"]:
    """Rank correlation from how often each two values meet, ties at their mean rank."""
    ranks = []
    for axis in (2, 1):
        marginal = counts.sum(axis=axis)
        middle = marginal.cumsum(axis=1) - marginal + (marginal + 1) / 2
        ranks.append((marginal, middle - (marginal.sum(axis=1, keepdims=True) + 1) / 2))
    (of_rows, row), (of_columns, column) = ranks
    covariance = np.einsum("dij,di,dj->d", counts, row, column)
    variance = (of_rows * row**2).sum(axis=1) * (of_columns * column**2).sum(axis=1)
    result = np.full(len(counts), np.nan)
    np.divide(covariance, np.sqrt(variance), out=result, where=variance > 0)
    return result


def _met(rows: Int[ndarray, " pairs"], columns: Int[ndarray, " pairs"]) -> Int[ndarray, "r c"]:
    """How often each row meets each column."""
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    counts = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
    return counts.reshape(shape)


def _interval(values: Float[ndarray, " draws"]) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, INTERVAL) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


QUALITY = ("explained_variance", "explained_variance_at_l0", "ce_loss_recovered", "l0", "dead")
COSTS = ("tokens", "lm_tokens", "train_s")


def rivals_summary(quality: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """One row per rival: means over checkpoints and seeds, and the range of the seeds.

    Args:
        quality: one row per `rival`, `seed` and checkpoint, with the columns of `QUALITY`.
        costs: one row per `rival` and `seed`, with the columns of `COSTS`.

    Returns:
        `rival`, `seeds`, and of each column X `X_mean`, `X_min`, `X_max` over seeds.
    """
    by_seed = quality.groupby(["rival", "seed"], sort=False)[list(QUALITY)].mean().reset_index()
    both = by_seed.merge(costs, on=["rival", "seed"])
    rows = []
    for rival, of_rival in both.groupby("rival", sort=False):
        row: dict[str, object] = {"rival": rival, "seeds": len(of_rival)}
        for column in (*QUALITY, *COSTS):
            for statistic in ("mean", "min", "max"):
                row[f"{column}_{statistic}"] = float(of_rival[column].agg(statistic))
        rows.append(row)
    return pd.DataFrame(rows)
