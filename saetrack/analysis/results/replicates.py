"""Headline numbers over chains that differ in the LM's seed, the SAE's seed or the layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from saetrack.analysis.results.claims import OF_VERDICTS
from saetrack.analysis.results.headline import without_rounding

# What may differ between replicates; each is a column of the headline numbers. In words: of one, of
# several.
AXES = {
    "lm": ("LM", "LMs"),
    "sae_seed": ("seed of SAEs", "seeds of SAEs"),
    "hook": ("hook", "hooks"),
}
ALL = "all chains"
KEY = ["name", "control"]
CONFIDENCE = 0.95
# A t-interval of fewer values is so wide that the range says more.
MIN_FOR_T = 3
# Of what an interval of one value is, unless its row says otherwise.
FEATURES = "features"


def over_replicates(headline: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval of each headline number over chains, and over each axis that they span.

    Over an axis (LM seeds, say), values that share a seed are averaged first: chains over one LM
    are no independent witnesses of what LMs do. Of three values and more the interval is Student's
    95 %; of two it is their range; of one it is the 95 % over features that its analysis drew.
    Where all chains have the latter, the interval of their mean is no narrower than these allow:
    few values that happen to lie together say no more than each of them. What is a verdict has no
    interval: how many say so is the number.

    Args:
        headline: of all chains (`saetrack.analysis.results.headline`), with `chain`, `lm`,
            `sae_seed`, `hook` beside; `interval`, of what that of a number is, where it is not of
            features.

    Returns:
        One row per axis (`over`: `all chains`, then axes with two values or more), name and
        control: `over`, `name`, `control`, `unit`, `n`, `mean`, `low`, `high`, `interval` (how the
        latter two were made: `t`, `range`, `features`, `none`), `least`, `most` (of the n values),
        `sd`, `features` (over how many each value was made, of several values the smallest).
        Numbers without a value do not count.
    """
    known = headline.dropna(subset="value")
    rows: list[dict[str, Any]] = []
    axes = [axis for axis in AXES if len(headline[axis].unique()) > 1]
    for over in (ALL, *axes):
        for (name, control), group in known.groupby(KEY, sort=False):
            values = group if over == ALL else group.groupby(over, as_index=False)["value"].mean()
            if over != ALL and len(values) < 2:
                continue
            key = {"over": over, "name": name, "control": control, "unit": group["unit"].iloc[0]}
            features = {"features": group["features"].min()}
            rows.append(key | _interval(values["value"].to_numpy(float), group) | features)
    return without_rounding(pd.DataFrame(rows))


def counted(headline: pd.DataFrame) -> str:
    """How many chains there are, and over how many LMs, seeds and hooks, in words."""
    words = {"chain": ("chain", "chains"), **AXES}
    found = {axis: headline[axis].nunique() for axis in words}
    return ", ".join(f"{n} {words[axis][n != 1]}" for axis, n in found.items())


def _interval(values: np.ndarray, group: pd.DataFrame) -> dict[str, Any]:
    """The columns of `over_replicates` from `n` on."""
    n, mean = len(values), float(values.mean())
    found: dict[str, Any] = {"n": n, "mean": mean, "least": values.min(), "most": values.max()}
    found["sd"] = float(values.std(ddof=1)) if n > 1 else np.nan
    if group["unit"].iloc[0] == OF_VERDICTS:
        return found | {"low": np.nan, "high": np.nan, "interval": "none"}
    low, high = _of_features(group)
    drawn = group["interval"].iloc[0] if "interval" in group else FEATURES
    if n == 1:
        made = "none" if np.isnan(low) else drawn
        return found | {"low": low, "high": high, "interval": made}
    between, made = (found["least"], found["most"]), "range"
    if n >= MIN_FOR_T:
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * found["sd"] / np.sqrt(n)
        between, made = (mean - half, mean + half), "t"
    if high - low > between[1] - between[0]:
        made = drawn
    low, high = np.fmin(low, between[0]), np.fmax(high, between[1])
    return found | {"low": low, "high": high, "interval": made}


def _of_features(group: pd.DataFrame) -> tuple[float, float]:
    """95 % of the mean of some chains over features of each; NaN where a chain has none."""
    below, above = (group["value"] - group["low"], group["high"] - group["value"])
    half = [float(np.sqrt((side**2).sum(skipna=False)) / len(group)) for side in (below, above)]
    mean = float(group["value"].mean())
    return mean - half[0], mean + half[1]
