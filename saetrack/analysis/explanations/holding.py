"""At which links explanations hold, and since when until when each does.

An explanation holds at a link where its score (the mean of detection and fuzzing) is above what
95 % of the shuffled explanations of the run reach, at any link: one threshold, which hardly depends
on how many features are explained. Where too few were judged to say what 95 % of them reach,
nothing is said to hold or not. An explanation holds since the first link of those that hold without
a break around the one where it was made; one link that fails, or that was not judged, is no break
if the next one holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from saetrack.analysis.explanations.scores import mean_of_features

QUANTILE = 0.95
# Of fewer scores of shuffled explanations, at all links together, the quantile says nothing.
MIN_SHUFFLED = 100
MEASURES = ("detection", "fuzzing", "score")
KEYS = ["feature", "explained_at"]  # of an explanation at a place


def with_held(scores: pd.DataFrame, by: pd.DataFrame | None = None) -> pd.DataFrame:
    """The scores with `threshold`, and where the explanation and the shuffled one hold.

    Args:
        scores: a row per explanation and link: `place`, `lm_step`, `score`, `shuffled_score`.
        by: scores whose shuffled ones set the threshold; None: these.

    Returns:
        The same with `threshold` (NaN: too few shuffled ones), and `holds` and `shuffled_holds`: 1,
        0, or NaN where not judged.
    """
    shuffled = (scores if by is None else by)["shuffled_score"].dropna()
    threshold = shuffled.quantile(QUANTILE) if len(shuffled) >= MIN_SHUFFLED else np.nan
    return scores.assign(
        threshold=threshold,
        **{
            f"{prefix}holds": (scores[f"{prefix}score"] > threshold)
            .astype(float)
            .where(scores[f"{prefix}score"].notna() & np.isfinite(threshold))
            for prefix in ("", "shuffled_")
        },
    )


def held_span(holds: Sequence[float], at: int) -> tuple[int, int] | None:
    """The first and the last link of those around one that hold without a break.

    Args:
        holds: 1, 0, or NaN where not judged, at each link.
        at: the link where the explanation was made; None is returned if it does not hold there.
    """
    held = [one == 1 for one in holds]
    if not held[at]:
        return None
    return at - _reach(held[at::-1]), at + _reach(held[at:])


def _reach(held: Sequence[bool]) -> int:
    """How far from the first one on there is no break."""
    last = 0
    for number in range(1, len(held)):
        if held[number]:
            last = number
        elif number - last >= 2:
            break
    return last


def spans(scores: pd.DataFrame) -> pd.DataFrame:
    """Since when and until when each explanation holds, and as many links it does.

    Args:
        scores: as `with_held` gives it.

    Returns:
        One row per explanation: `feature`, `explained_at`, `place`, `since`, `until` (LM steps; NaN
        if it does not hold where it was made), `links_held` (NaN if that was not judged), and
        `shuffled_links_held` likewise.
    """
    rows = []
    for (place, feature, at), of_one in scores.groupby(["place", "feature", "explained_at"]):
        ordered = of_one.sort_values("link")
        lm_steps = ordered["lm_step"].tolist()
        row = {"feature": feature, "explained_at": at, "place": place}
        for prefix in ("", "shuffled_"):
            holds, made_at = ordered[f"{prefix}holds"].tolist(), lm_steps.index(at)
            span = held_span(holds, made_at)
            if not prefix:
                row["since"], row["until"] = (
                    (lm_steps[span[0]], lm_steps[span[1]]) if span else (np.nan, np.nan)
                )
            not_held = np.nan if np.isnan(holds[made_at]) else 0
            row[f"{prefix}links_held"] = span[1] - span[0] + 1 if span else not_held
        rows.append(row)
    return pd.DataFrame(rows)


def curves(scores: pd.DataFrame, seed: int, directions: pd.DataFrame | None = None) -> pd.DataFrame:
    """Means over features at each link, beside those of shuffled explanations and of directions.

    Args:
        scores: as `with_held` gives it.
        seed: of the bootstrap.
        directions: the same of random directions; None if there are none.

    Returns:
        One row per place, measure (`detection`, `fuzzing`, `score`, `holds`) and link: `lm_step`,
        `mean`, `low`, `high`, `features` (judged), `shuffled_mean`, `_low`, `_high`; and of
        directions `direction_mean`, `_low`, `_high` (NaN where there are none), `directions`
        (judged).
    """
    parts = []
    for place, of_place in scores.groupby("place"):
        lm_steps = np.sort(of_place["lm_step"].unique())
        theirs = scores[:0] if directions is None else directions[directions["place"] == place]
        for measure in (*MEASURES, "holds"):
            part: dict[str, object] = {"place": place, "measure": measure, "lm_step": lm_steps}
            for prefix, rows, column, judged in (
                ("", of_place, measure, "features"),
                ("shuffled_", of_place, f"shuffled_{measure}", None),
                ("direction_", theirs, measure, "directions"),
            ):
                by_link = rows.set_index([*KEYS, "lm_step"])[column]
                wide = by_link.unstack("lm_step")  # noqa: PD010  (each once)
                values = wide.reindex(columns=lm_steps).to_numpy(float)
                names = (f"{prefix}{of}" for of in ("mean", "low", "high"))
                part |= dict(zip(names, mean_of_features(values, seed), strict=True))
                if judged:
                    part[judged] = np.isfinite(values).sum(axis=0)
            parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)
