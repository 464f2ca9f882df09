"""When features are formed (Definition 5.2), and the three phases of training (section 3).

The paper reads the phases off its figures. Here a curve has phases if it has two or three segments
beyond what random walks have (`saetrack.analysis.formation.segments`), and if the steepest of them
goes the way that the whole curve goes: that one is the emergent phase, what is before it the
warm-up, what is after it the convergent phase. The answer may be: none. How sure the borders are is
told by curves of features that are drawn anew, each with all its checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from saetrack.analysis.formation.segments import SegmentFits

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy import ndarray

DRAWS = 500
# The interval of a border: quantiles over draws.
INTERVAL = (0.025, 0.975)
# A curve that changes by less, or is of fewer features, has no phases.
MIN_CHANGE = 0.02
MIN_FEATURES = 20
# The curve whose phases shade figures: mean progress of features that are concepts at the end.
PHASED = "concept: progress"
BORDERS = ("emergent", "convergent")


def formed_from(stable: Bool[ndarray, "features checkpoints"]) -> Int[ndarray, " features"]:
    """The index of the first checkpoint from which on everything is stable; -1 if there is none.

    Args:
        stable: whether a feature is at a checkpoint what it is at the final one.
    """
    to_the_end = np.logical_and.accumulate(stable[:, ::-1], axis=1).sum(axis=1)
    return np.where(to_the_end > 0, stable.shape[1] - to_the_end, -1)


def progress_formation(
    progress: pd.DataFrame,
    measure: str,
    share: float = 0.9,
    min_final: float = 0.1,
) -> pd.DataFrame:
    """Where each feature's progress measure is formed: near its final value, and stays there.

    The geometric counterpart of the point found from meanings (`patterns.trace_patterns`).

    Args:
        progress: rows of one kind of set (`chosen`), see
            `saetrack.analysis.formation.progress_measure`.
        measure: its column.
        share: of the final value, that must be there at the formation point and ever after.
        min_final: a feature whose final value is smaller is never formed.

    Returns:
        One row per feature: `feature`, `first`, `final` (values), `formed_checkpoint_index`,
        `formed_lm_step` (NaN if never).
    """
    order = ["checkpoint_index", "lm_step"]
    wide = progress.pivot_table(index="feature", columns=order, values=measure)
    wide = wide.sort_index(axis=1, level="lm_step")
    values = wide.to_numpy(float)
    stable = (values >= share * values[:, -1:]) & (values[:, -1:] >= min_final)
    return pd.DataFrame(
        {
            "feature": wide.index,
            "first": values[:, 0],
            "final": values[:, -1],
            **formed_columns(stable, wide.columns.to_frame(index=False)),
        }
    )


def formed_columns(
    stable: Bool[ndarray, "features checkpoints"], checkpoints: pd.DataFrame
) -> dict[str, Any]:
    """`formed_from` as columns `formed_checkpoint_index` and `formed_lm_step`; NaN if never."""
    index = formed_from(stable)
    return {
        f"formed_{name}": np.where(index >= 0, checkpoints[name].to_numpy(float)[index], np.nan)
        for name in ("checkpoint_index", "lm_step")
    }


def find_phases(
    curves: Mapping[str, pd.DataFrame], draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """The phases of some curves, side by side: do they agree, and do controls have them too?

    Args:
        curves: by name, a row per feature and a column per LM step, ascending; a curve is the mean
            over features. NaN where a feature has no value.
        draws: of features, with replacement.
        seed: of the draws.

    Returns:
        One row per curve, with the columns

        - `curve`, `features`, `first`, `final`;
        - `segments`: 1 (a line or a walk: no phases), 2 or 3;
        - `agreeing`: share of draws with as many segments; NaN if no phases were looked for;
        - `joint_1`, `joint_2`: LM steps where segments meet; `joint_1_low` and the like: 95 %
          of the draws, fitted with as many segments, lie between; NaN where there is none;
        - `emergent_lm_step`, `convergent_lm_step`: the joints that are borders of the emergent
          phase; NaN where it has none at that side, and both NaN without phases.
    """
    generator = np.random.default_rng(seed)
    fits: dict[tuple[float, ...], SegmentFits] = {}
    rows = []
    for name, table in curves.items():
        values = table.dropna(axis=1, how="all")
        steps = tuple(float(step) for step in values.columns)
        if steps not in fits:
            fits[steps] = SegmentFits(steps)
        row = {"curve": name, "features": int(values.notna().any(axis=1).sum())}
        rows.append(row | _phases(values.to_numpy(float), fits[steps], draws, generator))
    return pd.DataFrame(rows)


def _phases(
    values: Float[ndarray, "features checkpoints"],
    fits: SegmentFits,
    draws: int,
    generator: np.random.Generator,
) -> dict[str, float]:
    """The columns of `find_phases` from `first` on."""
    names = [f"joint_{number}{end}" for number in (1, 2) for end in ("", "_low", "_high")]
    row: dict[str, float] = {"first": np.nan, "final": np.nan, "segments": 1, "agreeing": np.nan}
    row |= dict.fromkeys([*names, *(f"{border}_lm_step" for border in BORDERS)], np.nan)
    if not values.size:
        return row
    curve = np.nanmean(values, axis=0)
    row |= {"first": float(curve[0]), "final": float(curve[-1])}
    if len(values) < MIN_FEATURES or np.ptp(curve) < MIN_CHANGE:
        return row
    segments = int(fits.count(curve[None])[0])
    drawn = _drawn_curves(values, draws, generator)
    row |= {"segments": segments, "agreeing": float((fits.count(drawn) == segments).mean())}
    joints = fits.joints[segments][int(fits.best(curve[None], segments)[1][0])]
    of_draws = np.array(fits.joints[segments])[fits.best(drawn, segments)[1]]
    for number, at in enumerate(joints):
        low, high = np.quantile(of_draws[:, number], INTERVAL, method="nearest")
        places = {"": at, "_low": low, "_high": high}
        row |= {
            f"joint_{number + 1}{end}": float(fits.lm_steps[place]) for end, place in places.items()
        }
    slopes = fits.slopes(curve, joints) * np.sign(curve[-1] - curve[0])
    steepest = int(np.abs(slopes).argmax())
    # Of three segments the middle one must be the steepest.
    if segments > 1 and slopes[steepest] > 0 and (segments == 2 or steepest == 1):
        if steepest > 0:
            row["emergent_lm_step"] = float(fits.lm_steps[joints[steepest - 1]])
        if steepest < len(joints):
            row["convergent_lm_step"] = float(fits.lm_steps[joints[steepest]])
    return row


def _drawn_curves(
    values: Float[ndarray, "features checkpoints"], draws: int, generator: np.random.Generator
) -> Float[ndarray, "draws checkpoints"]:
    """Mean curves of features that are drawn with replacement, without gaps."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    features = len(values)
    means = []
    for _ in range(draws):
        weights = np.bincount(generator.integers(features, size=features), minlength=features)
        count = weights @ known
        if count.min() > 0:
            means.append(weights @ filled / count)
    return np.array(means) if means else np.nanmean(values, axis=0)[None]


def phase_spans(
    phases: pd.DataFrame, lm_steps: Sequence[int], curve: str = PHASED
) -> dict[str, tuple[float, float]]:
    """First and last LM step of each phase, for figures; empty if the curve has no phases."""
    borders = phase_borders(phases, curve)
    first, last = float(min(lm_steps)), float(max(lm_steps))
    begins = borders["emergent"][0] if "emergent" in borders else first
    ends = borders["convergent"][0] if "convergent" in borders else last
    spans = {"warm-up": (first, begins), "emergent": (begins, ends), "convergent": (ends, last)}
    return {name: span for name, span in spans.items() if borders and span[1] > span[0]}


def phase_borders(
    phases: pd.DataFrame, curve: str = PHASED
) -> dict[str, tuple[float, float, float]]:
    """LM steps at which phases of a curve begin, each with the ends of its interval."""
    found = phases[phases["curve"] == curve]
    borders = {}
    for _, row in found.iterrows():
        for joint, phase in product(("joint_1", "joint_2"), BORDERS):
            if row[joint] == row[f"{phase}_lm_step"]:
                low, high = row[f"{joint}_low"], row[f"{joint}_high"]
                borders[phase] = float(row[joint]), float(low), float(high)
    return borders
