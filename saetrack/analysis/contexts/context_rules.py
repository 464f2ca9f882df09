"""Which datapoints count: each text and each row once, or as the authors' search takes them.

The authors' search keeps repeated texts, several tokens of one row, and BOS. (It also fills a list
that is too short with tokens on which the feature is silent; that is not done here.) What features
mean and how alike their datapoints are is read from these lists, so the rule may change results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy import ndarray

    from saetrack.analysis.contexts.top_contexts import Contexts

# Resamples of the features of which intervals are the middle 95 %.
DRAWS = 1000


def datapoint_overlap(
    distinct: Contexts,
    authors: Contexts,
    features: Int[ndarray, " followed"],
    bos_positions: Bool[ndarray, "rows context"],
) -> pd.DataFrame:
    """How far the datapoints of some features are the same under both rules.

    Args:
        distinct: top contexts where each text and each row counts once.
        authors: those of the same features by the authors' rule.
        features: of which.
        bos_positions: where the rows that they lie in have BOS.

    Returns:
        `feature`; `overlap`: datapoints that are in both lists, over the length of the longer one;
        and of the authors' list `same_row`: the share in a row that has a stronger one, and `bos`:
        the share at BOS.
    """
    lists = [(of.rows[features], of.positions[features]) for of in (distinct, authors)]
    width = bos_positions.shape[1]
    ours, theirs = (np.where(rows >= 0, rows * width + at, -1) for rows, at in lists)
    in_both = ((ours[:, :, None] == theirs[:, None, :]) & (ours >= 0)[:, :, None]).sum(axis=(1, 2))
    longer = np.maximum(distinct.counts[features], authors.counts[features])
    rows, positions = lists[1]
    there = rows >= 0
    stronger = np.tril(rows[:, :, None] == rows[:, None, :], k=-1).any(axis=2)
    length = np.maximum(there.sum(axis=1), 1)
    return pd.DataFrame(
        {
            "feature": features,
            "overlap": in_both / np.maximum(longer, 1),
            "same_row": (stronger & there).sum(axis=1) / length,
            "bos": (bos_positions[rows, positions] & there).sum(axis=1) / length,
        }
    )


def rules_side_by_side(
    of_features: pd.DataFrame, progress: pd.DataFrame, measures: list[str], seed: int
) -> pd.DataFrame:
    """What the rule changes, in a few numbers.

    Args:
        of_features: as of `datapoint_overlap`, with `label` and `label_authors`.
        progress: at one checkpoint, with `rule`, `feature` and a column per measure.
        measures: columns of `progress`.
        seed: of the bootstrap.

    Returns:
        One row per `quantity`: its value under `distinct` and `authors`, and where features are
        paired the median `difference` (authors less distinct) with `low` and `high`, 95 % of a
        bootstrap over features; NaN where a column says nothing.
    """
    overlap = of_features["overlap"]
    found = [
        ("features that are compared", len(of_features), len(of_features)),
        ("datapoints in both lists, mean", np.nan, overlap.mean()),
        ("datapoints in both lists, least", np.nan, overlap.min()),
        ("datapoints in a row that has a stronger one", 0.0, of_features["same_row"].mean()),
        ("datapoints at BOS", np.nan, of_features["bos"].mean()),
        (
            "features with the same label",
            np.nan,
            (of_features["label"] == of_features["label_authors"]).mean(),
        ),
    ]
    labels = sorted({*of_features["label"], *of_features["label_authors"]})
    for label in labels:
        ours, theirs = ((of_features[by] == label).sum() for by in ("label", "label_authors"))
        found.append((f"features labelled {label}", ours, theirs))
    rows = [{"quantity": what, "distinct": of, "authors": beside} for what, of, beside in found]
    for measure in measures:
        pairs = progress.pivot_table(index="feature", columns="rule", values=measure).dropna()
        difference = (pairs["authors"] - pairs["distinct"]).to_numpy()
        rows.append(
            {
                "quantity": f"median {measure}",
                "distinct": pairs["distinct"].median(),
                "authors": pairs["authors"].median(),
                "difference": float(np.median(difference)),
                **_interval(difference, seed),
            }
        )
    return pd.DataFrame(rows)


def _interval(values: Float[ndarray, " features"], seed: int) -> dict[str, float]:
    """95 % of the medians of resampled values."""
    generator = np.random.default_rng(seed)
    medians = [np.median(generator.choice(values, len(values))) for _ in range(DRAWS)]
    low, high = np.quantile(medians, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}
