"""The tables of a run that explains features, and what is said of them in a line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from saetrack.analysis.explanations.directions import density_of
from saetrack.analysis.explanations.holding import MIN_SHUFFLED, spans
from saetrack.analysis.explanations.questions import NOTHING_FOUND
from saetrack.analysis.meaning.labelling import agreement
from saetrack.utils.intervals import share_interval

if TYPE_CHECKING:
    from saetrack.analysis.explanations.run import Explained
    from saetrack.analysis.explanations.targets import Target
    from saetrack.analysis.life_store.reader import LifeStore

SAID = 8  # explanations that are told when a run ends
# Where explanations were made, in words; any other place is an LM step.
WHERE = {"last": "at the last link", "formed": "where each feature is formed"}


def explanation_table(
    explained: Sequence[Explained], scores: pd.DataFrame, store: LifeStore, explainer: str
) -> pd.DataFrame:
    """A row per explanation, with since when until when it holds.

    Args:
        explained: features, or directions.
        scores: of them, as `with_held` gives them.
        store: theirs.
        explainer: its name.
    """
    manifest = store.manifest
    table = pd.DataFrame(
        {
            "place": one.target.place,
            "feature": one.target.feature,
            "explained_at": manifest.links[one.target.link].lm_step,
            "explanation": one.explanation.text,
            "label": one.explanation.label,
            "automatic_label": _automatic_label(one.target, store),
            "explainer": explainer,
            "texts": one.texts,
        }
        for one in explained
    )
    return table.merge(spans(scores), on=["place", "feature", "explained_at"])


def direction_table(
    table: pd.DataFrame,
    features: Mapping[Target, Target],
    store: LifeStore,
    store_of_features: LifeStore,
) -> pd.DataFrame:
    """The table of directions: each with the feature that it stands beside, and both densities.

    Args:
        table: as `explanation_table` gives it.
        features: by direction its feature (`saetrack.analysis.explanations.directions`).
        store: of the directions.
        store_of_features: of the features.
    """
    beside = pd.DataFrame(
        {
            "place": direction.place,
            "feature": direction.feature,
            "explained_at": store.manifest.links[direction.link].lm_step,
            "paired_feature": feature.feature,
            "density": density_of(store, direction),
            "paired_density": density_of(store_of_features, feature),
        }
        for direction, feature in features.items()
    )
    found = table.merge(beside, on=["place", "feature", "explained_at"])
    return found.rename(columns={"feature": "direction"})


def _automatic_label(target: Target, store: LifeStore) -> str:
    return store.manifest.labels[int(store.column(target.link, "label")[target.feature])]


def agreement_table(table: pd.DataFrame, by_hand: pd.Series[str] | None) -> pd.DataFrame:
    """How the explainer's labels agree with others, one row per place and kind of label.

    Where the explainer found nothing it gave no class: these features are counted and left out.

    Returns:
        `place`, `beside` (`automatic`, `by_hand`), `kappa` (NaN where both know one label),
        `agreement`, `features`, `nothing_found` (features that are left out).
    """
    rows = []
    for place, of_place in table.groupby("place"):
        by_feature = of_place.set_index("feature")
        others = {"automatic": by_feature["automatic_label"]}
        if by_hand is not None:
            others["by_hand"] = by_hand[by_hand != ""]
        for beside, labels in others.items():
            both = by_feature.loc[by_feature.index.intersection(labels.index), "label"]
            said = both[both != NOTHING_FOUND]
            kappa, share = math.nan, math.nan
            if len(said):
                kappa, share = agreement(said, labels)[:2]
            if len(both):
                rows.append((place, beside, kappa, share, len(said), len(both) - len(said)))
    columns = ["place", "beside", "kappa", "agreement", "features", "nothing_found"]
    return pd.DataFrame(rows, columns=columns)


def explanation_metrics(tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Where explanations were made: mean scores, and the share that holds; of directions too."""
    found = {}
    for prefix, explanations, of_them in (
        ("", "explanations", "explanation_scores"),
        ("directions.", "direction_explanations", "direction_scores"),
    ):
        if of_them not in tables:
            continue
        scores = tables[of_them]
        own = scores[scores["lm_step"] == scores["explained_at"]]
        for measure in ("detection", "fuzzing", "shuffled_detection", "shuffled_fuzzing"):
            found[f"{prefix}{measure}.where_explained"] = float(own[measure].mean())
        found[f"{prefix}holds.where_explained"] = holding_share(tables[explanations])
    found |= {
        f"kappa.{row['beside']}": float(row["kappa"])
        for row in tables["explanation_agreement"].to_dict("records")
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def holding_share(table: pd.DataFrame) -> float:
    """Of the explanations that were judged where they were made, those that hold there."""
    held, judged = _held(table)
    return held / judged if judged else math.nan


def _held(table: pd.DataFrame) -> tuple[int, int]:
    """How many explanations hold where they were made, of how many that were judged there."""
    judged = table["links_held"].notna()
    return int(table.loc[judged, "since"].notna().sum()), int(judged.sum())


def some_of(explanations: pd.DataFrame) -> Iterator[str]:
    """The first explanations, a line each, and since when each holds."""
    for row in explanations.head(SAID).to_dict("records"):
        held = "not judged" if pd.isna(row["links_held"]) else "does not hold there"
        if not pd.isna(row["since"]):
            held = f"holds from step {row['since']:,.0f} to {row['until']:,.0f}"
        yield f"feature {row['feature']}: {row['explanation']} ({held})"
    if len(explanations) > SAID:
        yield f"and {len(explanations) - SAID:,} more, in its run and the explorer"


def said_of(tables: Mapping[str, pd.DataFrame]) -> str:
    """What came of it, in a few sentences: how many hold where they were made, place by place.

    Shares have Wilson intervals of 95 %. Where those of features and of random directions overlap,
    it is said that this shows nothing about features.
    """
    table = tables["explanations"]
    directions = tables.get("direction_explanations", table[:0])
    parts = [f"{len(table)} explanations"]
    judged = [(place, rows) for place, rows in table.groupby("place", sort=False) if _held(rows)[1]]
    for place, of_place in judged:
        parts += _said_of_place(str(place), of_place, directions[directions["place"] == place])
    if not judged:
        there_are = int(tables["explanation_scores"]["shuffled_score"].notna().sum())
        parts.append(
            "Whether they hold was not judged: of the scores of shuffled explanations, one for "
            f"each explanation and link, there were {there_are:,}, and {MIN_SHUFFLED:,} are "
            "needed; more --features give more"
        )
    return ". ".join(parts)


def _said_of_place(place: str, table: pd.DataFrame, directions: pd.DataFrame) -> Iterator[str]:
    """Sentences on the explanations that were made at one place."""
    where = WHERE.get(place, f"at LM step {place}")
    share, (low, _) = _share_that_holds(table)
    yield f"Of {_held(table)[1]} explanations of features made {where}, {share} hold there"
    links = table.loc[table["since"].notna(), "links_held"]
    if len(links):
        median = f"{links.median():g} link{'' if links.median() == 1 else 's'}"
        yield f"Half of those that hold do so at {median} in a row or more"
    if not _held(directions)[1]:
        return
    theirs, (_, high) = _share_that_holds(directions)
    yield f"Of {_held(directions)[1]} explanations of random directions {theirs} hold"
    if high >= low:
        yield (
            "That is as often as features, as far as these intervals tell: that explanations hold "
            "here shows nothing about features"
        )


def _share_that_holds(table: pd.DataFrame) -> tuple[str, tuple[float, float]]:
    """The share in words with its 95 % interval, and the interval."""
    held, judged = _held(table)
    low, high = map(float, share_interval(held / judged, judged))
    return f"{100 * held / judged:.0f} % ({100 * low:.0f} to {100 * high:.0f})", (low, high)
