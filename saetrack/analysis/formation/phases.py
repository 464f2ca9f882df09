"""When features are formed (Definition 5.2), and the three phases of training (section 3).

The paper reads the phases off its figures. Here they are where a curve leaves its first value and
where it has all but reached its last: warm-up until a tenth of the change is made, emergent until
nine tenths, convergent from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from jaxtyping import Bool, Int
    from numpy import ndarray


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
    curves: Mapping[str, pd.Series[float]],
    emergent: float = 0.1,
    convergent: float = 0.9,
    min_change: float = 0.02,
) -> pd.DataFrame:
    """The phases of some curves, side by side: do they agree?

    A phase begins at the first checkpoint from which on the curve stays beyond its share of the
    change from first to final value, so that a dent (a collapse) begins none. Falling curves, such
    as the share of noise, count alike.

    Args:
        curves: by name, values indexed by `lm_step`.
        emergent: share of the change at which the emergent phase begins.
        convergent: the same of the convergent phase.
        min_change: a curve that changes by less has no phases: NaN.

    Returns:
        One row per curve: `curve`, `first`, `final`, `emergent_lm_step`, `convergent_lm_step`.
    """
    rows = []
    for name, curve in curves.items():
        values = curve.dropna().sort_index()
        change = values.iloc[-1] - values.iloc[0] if len(values) else 0.0
        row = {
            "curve": name,
            "first": values.iloc[0] if len(values) else np.nan,
            "final": values.iloc[-1] if len(values) else np.nan,
            "emergent_lm_step": np.nan,
            "convergent_lm_step": np.nan,
        }
        if abs(change) >= min_change:
            made = ((values - values.iloc[0]) / change).to_numpy(float)[None]
            for phase, share in (("emergent", emergent), ("convergent", convergent)):
                row[f"{phase}_lm_step"] = float(values.index[formed_from(made > share)[0]])
        rows.append(row)
    return pd.DataFrame(rows)


def phase_spans(
    phases: pd.DataFrame, curve: str, lm_steps: Sequence[int]
) -> dict[str, tuple[float, float]]:
    """First and last LM step of each phase, for figures; empty if the curve has no phases."""
    row = phases[phases["curve"] == curve].iloc[0]
    emergent, convergent = float(row["emergent_lm_step"]), float(row["convergent_lm_step"])
    if np.isnan(emergent):
        return {}
    first, last = float(min(lm_steps)), float(max(lm_steps))
    spans = {
        "warm-up": (first, emergent),
        "emergent": (emergent, convergent),
        "convergent": (convergent, last),
    }
    return {name: span for name, span in spans.items() if span[1] > span[0]}
