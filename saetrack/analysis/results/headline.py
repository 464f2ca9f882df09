"""The numbers by which an analysis is told: one table that chains, replicates and claims share.

| column | meaning |
|---|---|
| `name` | what is measured, such as `pattern.grouping` |
| `control` | beside which chain or other null; "" for the number of the chain alone |
| `value` | of the chain; beside a control, the chain's less the control's |
| `low`, `high` | 95 % over features of these SAEs where it was drawn; NaN elsewhere |
| `unit` | of the value |
| `features` | over how many it was made, of two groups the smaller one; NaN where it is of all |

A number beside a control is a difference within one chain: both were read on the same rows of
tokens. So its mean over replicates is that of paired differences. Some numbers are of two chains
by nature (kappa, matched cosines, shares of noise, whether a claim about drift stands): their
`control` is the other chain, and nothing is taken away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, SupportsFloat

import numpy as np
import pandas as pd

from saetrack.analysis.meaning.patterns import PAPER_PATTERNS
from saetrack.analysis.results.claims import OF_VERDICTS
from saetrack.utils.intervals import difference_interval, share_interval

COLUMNS = ["name", "control", "value", "low", "high", "unit", "features"]
SHARE = "share of features"
COSINE = "cosine"
RANDOM_DIRECTIONS = "random directions"
CHAIN = "chain"
ROUNDING = 1e-12  # of a unit
EXCESS = ("excess", "excess_low", "excess_high")

Tables = Mapping[str, pd.DataFrame]
Row = dict[str, Any]


def headline_table(tables: Tables) -> pd.DataFrame:
    """The headline numbers of one analysis, of those of its tables that there are.

    Args:
        tables: of an analysis, by name (`saetrack.analysis.pipeline.analyze`).

    Returns:
        See the top of this file.
    """
    of_meaning = (_labels, _concept_excess, _patterns, _agreement)
    parts = (*of_meaning, _progress, _phases, _drift, _index, _matching, _rest)
    rows = [row for part in parts for row in part(tables)]
    return without_rounding(pd.DataFrame(rows, columns=COLUMNS))


def without_rounding(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers with 0 for what is left of it by rounding, such as -6e-19 as an interval's end.

    The units of all numbers (shares, cosines, nats, counts) have a scale of 1 or more.
    """
    numbers = table.select_dtypes("float")
    return table.assign(**numbers.mask(numbers.abs() < ROUNDING, 0.0))


def _row(
    name: str,
    value: float,
    unit: str,
    control: str = "",
    ends: tuple[SupportsFloat, SupportsFloat] | None = None,
    features: float = np.nan,
) -> Row:
    low, high = ends or (np.nan, np.nan)
    found = {"name": name, "control": control, "value": float(value), "unit": unit}
    return {**found, "low": float(low), "high": float(high), "features": float(features)}


def _labels(tables: Tables) -> Iterator[Row]:
    """Shares of labels at both ends, and their rise less that of controls."""
    ends = tables.get("end_labels", pd.DataFrame(columns=["chain"]))
    own = ends[ends["chain"] == CHAIN].set_index("label") if len(ends) else ends
    null = tables["labels_of_random_directions"].set_index("label")
    directions = int(null["directions"].max())
    shares = tables.get("pattern_shares", pd.DataFrame(columns=["chain", "features"]))
    live = int(shares.loc[shares["chain"] == CHAIN, "features"].sum())
    for label, row in own.iterrows():
        share = {"first": float(row["first"]), "final": float(row["final"])}
        for at, value in share.items():
            one = share_interval(value, live)
            yield _row(f"label.{label}.{at}", value, SHARE, ends=one, features=live)
        # Wider than it is: that the same features stand at both ends is not made use of.
        rise = share["final"] - share["first"]
        both = difference_interval(share["final"], live, share["first"], live)
        yield _row(f"label.{label}.rise", rise, SHARE, ends=both, features=live)
        for at, column in (("first", "first_share"), ("final", "share")):
            of_null = float(null[column].get(label, 0.0))
            more = share[at] - of_null
            both = difference_interval(share[at], live, of_null, directions)
            few = min(live, directions)
            yield _row(f"label.{label}.{at}", more, SHARE, RANDOM_DIRECTIONS, both, few)
    for _, row in ends[ends["chain"] != CHAIN].iterrows():
        rise = own.loc[row["label"], "final"] - own.loc[row["label"], "first"]
        more = rise - (row["final"] - row["first"])
        yield _row(f"label.{row['label']}.rise", more, SHARE, row["chain"])


def _concept_excess(tables: Tables) -> Iterator[Row]:
    """Concepts at the last link beyond those that each null expects, of the judged features."""
    nulls = tables.get("concept_nulls", pd.DataFrame(columns=["lm_step", "null"]))
    for _, row in nulls[nulls["lm_step"] == nulls["lm_step"].max()].iterrows():
        judged = int(row["judged"])
        value, low, high = (row[name] / max(1, judged) for name in EXCESS)
        yield _row("concept_excess.final", value, SHARE, row["null"], (low, high), judged)


def _patterns(tables: Tables) -> Iterator[Row]:
    of_paper = tables.get("paper_pattern_shares", pd.DataFrame())
    if len(of_paper):
        own = of_paper[of_paper["chain"] == CHAIN].set_index("pattern")
        share = float(own["share"].reindex(list(PAPER_PATTERNS), fill_value=0).sum())
        live = int(own["features"].sum())
        ends = share_interval(share, live)
        yield _row("patterns_of_the_paper", share, SHARE, ends=ends, features=live)
    yield from _shares("paper_pattern", of_paper)
    yield from _shares("pattern", tables.get("pattern_shares", pd.DataFrame()))


def _shares(kind: str, shares: pd.DataFrame) -> Iterator[Row]:
    if not len(shares):
        return
    live = shares.groupby("chain")["features"].sum().astype(int)
    for _, row in shares.iterrows():
        name, chain = f"{kind}.{row['pattern']}", row["chain"]
        if chain == CHAIN:
            ends = row["low"], row["high"]
            yield _row(name, row["share"], SHARE, ends=ends, features=live[chain])
        else:
            ends = row["excess_low"], row["excess_high"]
            yield _row(name, row["excess"], SHARE, chain, ends, min(live[CHAIN], live[chain]))


def _agreement(tables: Tables) -> Iterator[Row]:
    for _, row in tables.get("pattern_agreement", pd.DataFrame()).iterrows():
        ends = row["kappa_low"], row["kappa_high"]
        name = f"pattern_kappa.{row['first_label']}"
        yield _row(name, row["kappa"], "Cohen's kappa", row["other"], ends, row["pairs"])


def _progress(tables: Tables) -> Iterator[Row]:
    """Of the mean curves of the progress measure: first value, rise, and rise less a control's."""
    phases = tables["phases"].set_index("curve")
    curves = phases[phases.index.str.endswith(": progress")]
    found = {
        str(curve).removesuffix(": progress"): (
            row["first"],
            row["final"] - row["first"],
            row["features"],
        )
        for curve, row in curves.iterrows()
    }
    for curve, (first, rise, features) in found.items():
        yield _row(f"progress.{curve}.first", first, COSINE, features=features)
        yield _row(f"progress.{curve}.rise", rise, COSINE, features=features)
        if RANDOM_DIRECTIONS in found and curve != RANDOM_DIRECTIONS:
            _, of_directions, directions = found[RANDOM_DIRECTIONS]
            name, fewer = f"progress.{curve}.rise", min(features, directions)
            yield _row(name, rise - of_directions, COSINE, RANDOM_DIRECTIONS, features=fewer)


def _phases(tables: Tables) -> Iterator[Row]:
    for _, row in tables["phases"].iterrows():
        curve, features = row["curve"], row["features"]
        yield _row(f"segments.{curve}", row["segments"], "segments", features=features)
        for border in ("emergent", "convergent"):
            if not np.isnan(at := row[f"{border}_lm_step"]):
                yield _row(f"{border}_from.{curve}", at, "LM steps", features=features)


def _drift(tables: Tables) -> Iterator[Row]:
    drift = tables["drift"]
    of_all = drift[(drift["feature_class"] == "all") & (drift["quantity"] == "cosine_to_final")]
    first = of_all.sort_values("link").iloc[0]
    yield _row("cosine_to_final_at_first", first["q50"], COSINE)
    held = tables.get("drift_beside_controls")
    if held is not None:
        at_first = held[(held["quantity"] == "cosine_to_final") & (held["link"] == 0)]
        for _, row in at_first.iterrows():
            yield _row("cosine_to_final_at_first", row["difference"], COSINE, row["control"])
            if row["role"] == "noise":
                share = row["noise_share"]
                yield _row("noise_share_of_drift", share, "share of log cosine", row["control"])
    for _, row in tables.get("drift_verdicts", pd.DataFrame()).iterrows():
        yield _row(f"drift_claim.{row['claim']}", row["stands"], OF_VERDICTS, row["control"])


def _index(tables: Tables) -> Iterator[Row]:
    """Of the first link: how many features are nearest to their own index of the last one."""
    index = tables.get("own_index", pd.DataFrame(columns=["chain", "link"]))
    for _, row in index[index["link"] == 0].iterrows():
        if row["chain"] == CHAIN:
            yield _row("own_index_at_first", row["in_last"], SHARE)
            yield _row("best_cosine_at_first", row["best_cosine"], COSINE)
            more = row["best_cosine"] - row["chance"]
            yield _row("best_cosine_at_first", more, COSINE, RANDOM_DIRECTIONS)


def _matching(tables: Tables) -> Iterator[Row]:
    """How alike the features of other chains are, beyond random directions."""
    matching = tables.get("matching", pd.DataFrame())
    if not len(matching):
        return
    wide = matching[matching["by"].isin(["decoder", RANDOM_DIRECTIONS])].pivot_table(
        index="other", columns="by", values="median_cosine"
    )
    for other, row in wide.dropna().iterrows():
        yield _row("matched_cosine", row["decoder"], COSINE, str(other))
        more = row["decoder"] - row[RANDOM_DIRECTIONS]
        yield _row("matched_cosine_beyond_random_directions", more, COSINE, str(other))


def _rest(tables: Tables) -> Iterator[Row]:
    polysemy = tables["polysemy"]
    if len(polysemy):
        unit = "share of maintaining features"
        lost, gained = (polysemy[name].astype(float) for name in ("lost_senses", "gained_senses"))
        yield _row("lost_senses", lost.mean(), unit, features=len(lost))
        more = lost - gained
        # Of few features that are all alike, the rule of three says how little that tells.
        half = max(1.96 * more.std(ddof=0), 3 / np.sqrt(len(more))) / np.sqrt(len(more))
        ends = more.mean() - half, more.mean() + half
        yield _row("lost_senses", more.mean(), unit, "time reversed", ends, len(more))
    for _, row in tables["warm_starts"].iterrows():
        ends = (row["spearman_low"], row["spearman_high"])
        name = f"cost_of_warm_start_by.{row['measure']}"
        yield _row(name, row["spearman"], "rank correlation", ends=ends)
    collapse = tables["collapse"]
    yield _row("most_collapsed", collapse["raw_mean"].max(), COSINE)
