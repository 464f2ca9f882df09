"""`explanations.json`: what was explained of a chain's features, and at which links it is true.

Explanations come after an analysis, in runs of their own (`saetrack explain`), so they are no part
of a life store. They are few: the page reads all of a chain at once, shows those of a feature and
searches them. Each row says of which run it is: runs judge by thresholds of their own.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from saetrack.explorer.home import iso_time
from saetrack.utils.errors import UserError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from saetrack.analysis.life_store.manifest import Manifest
    from saetrack.registry.explanations import ExplanationRuns, RunFacts

# New ones are on the pages after so long.
LOOKED_S = 10.0
NEWEST_RUNS = 20  # that are shown of a chain
CURVES = {"detection": "detection", "fuzzing": "fuzzing", "shuffled": "shuffled_score"}
KEYS = ["place", "feature", "explained_at"]

Rows = list[dict[str, Any]]


class FoundExplanations:
    """The explanations of a registry's chains; threads may ask at the same time."""

    def __init__(self, runs: ExplanationRuns) -> None:
        """Asks nobody yet."""
        self._runs = runs
        self._lock = threading.Lock()
        self._of_run: dict[tuple[str, tuple[int, ...]], Rows] = {}
        self._runs_of: dict[str, tuple[float, dict[str, RunFacts]]] = {}

    def of(self, manifest: Manifest, analysis_run: str | None) -> Rows:
        """The explanations of an analysed chain (`by_run`); none where there are none.

        Args:
            manifest: of the chain's life store.
            analysis_run: id of the analysis that made the store; None if that is not known.

        Raises:
            UserError: a run's tables cannot be had, or are not what such tables are.
        """
        lm_steps = tuple(link.lm_step for link in manifest.links)
        with self._lock:
            looked_s, runs = self._runs_of.get(manifest.name, (-LOOKED_S, {}))
            if time.monotonic() - looked_s > LOOKED_S:
                runs = dict(list(self._runs.of_chain(manifest.name).items())[:NEWEST_RUNS])
                self._runs_of[manifest.name] = time.monotonic(), runs
            for run_id in runs:
                if (run_id, lm_steps) not in self._of_run:
                    with self._runs.tables(run_id) as folder:
                        self._of_run[run_id, lm_steps] = rows_of(folder, manifest, run_id)
            return by_run(
                {run_id: self._of_run[run_id, lm_steps] for run_id in runs}, runs, analysis_run
            )


def rows_of(folder: Path, manifest: Manifest, run_id: str) -> Rows:
    """The explanations of one run.

    Args:
        folder: of its tables.
        manifest: of the chain's life store, whose links those of the tables are found among.
        run_id: for messages.

    Returns:
        Of each `feature`, `text`, `label`, `explainer`, `place`, `at` (index of the link; None if
        the store has no such link), `since`, `until` (likewise; None if it does not hold),
        `is_judged` (whether anything is said to hold),
        `detection`, `fuzzing`, `shuffled` at each link, `directions_hold` (of random directions
        that were explained at the same place), and `threshold` (what the mean of detection and
        fuzzing must exceed), percent; None where not judged.

    Raises:
        UserError: the tables are not what such tables are.
    """
    try:
        explanations = pd.read_parquet(folder / "explanations.parquet")
        scores = pd.read_parquet(folder / "explanation_scores.parquet")
        curves = pd.read_parquet(folder / "explanation_curves.parquet")
        return list(_rows(explanations, scores, curves, manifest))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"run {run_id}: its explanations cannot be read: {first_line(error)}"
        ) from None


def _rows(
    explanations: pd.DataFrame, scores: pd.DataFrame, means: pd.DataFrame, manifest: Manifest
) -> Iterable[Any]:
    link_of = {link.lm_step: number for number, link in enumerate(manifest.links)}
    of_directions = _directions_hold(means, link_of)
    threshold = _threshold(scores)
    nothing: list[int | None] = [None] * len(link_of)
    scores = scores[scores["lm_step"].isin(list(link_of))]
    percent = (100 * scores[list(CURVES.values())].astype(float)).round()
    links = scores["lm_step"].map(link_of).to_numpy()
    parts = scores.groupby(KEYS).indices
    for row in explanations.to_dict("records"):
        feature, at = int(row["feature"]), link_of.get(int(row["explained_at"]))
        if not 0 <= feature < manifest.d_sae:
            continue
        chosen = parts.get((row["place"], row["feature"], row["explained_at"]), np.zeros(0, int))
        curves = {}
        for name, column in CURVES.items():
            values: list[int | None] = [None] * len(link_of)
            for link, value in zip(links[chosen], percent[column].to_numpy()[chosen], strict=True):
                values[link] = int(value) if np.isfinite(value) else None
            curves[name] = values
        yield {
            "feature": feature,
            "text": str(row["explanation"]),
            "label": str(row["label"]),
            "explainer": str(row["explainer"]),
            "place": str(row["place"]),
            "at": at,
            **{name: link_of.get(_step(row[name])) for name in ("since", "until")},
            "is_judged": bool(pd.notna(row["links_held"])),
            **curves,
            "directions_hold": of_directions.get(row["place"], nothing),
            "threshold": threshold,
        }


def _threshold(scores: pd.DataFrame) -> float | None:
    """That of the run, percent; None of an earlier release, and where it cannot be told."""
    known = scores["threshold"].dropna() if "threshold" in scores else pd.Series(dtype=float)
    return None if known.empty else round(100 * float(known.iloc[0]), 1)


def _directions_hold(means: pd.DataFrame, link_of: dict[int, int]) -> dict[str, list[int | None]]:
    """Of random directions' explanations, how many hold at each link, by place; percent."""
    if "direction_mean" not in means:  # of an earlier release, or there were none
        return {}
    found: dict[str, list[int | None]] = {}
    of_holds = means[(means["measure"] == "holds") & means["lm_step"].isin(list(link_of))]
    for row in of_holds.dropna(subset="direction_mean").to_dict("records"):
        values = found.setdefault(row["place"], [None] * len(link_of))
        values[link_of[int(row["lm_step"])]] = round(100 * row["direction_mean"])
    return found


def by_run(
    rows: Mapping[str, Rows], runs: Mapping[str, RunFacts], analysis_run: str | None
) -> Rows:
    """The explanations of all runs, each with the `run` that it is of.

    First those of the run with the most explanations, since what holds is told from all of them; of
    equally many the newest run comes first. Of a run they lie by feature and link.

    Args:
        rows: of each run by its id, the newest first.
        runs: their facts.
        analysis_run: id of the analysis that the pages show; None if that is not known.

    Returns:
        The rows with `run`: `id`, `begun`, `explained` (how many explanations it has), and
        `is_of_shown` (whether it stands on that analysis; None if that is not known).
    """
    found: Rows = []
    for run_id, of_run in sorted(rows.items(), key=lambda one: -len(one[1])):
        facts = runs[run_id]
        is_known = None not in {facts.analysis_run, analysis_run}
        run = {
            "id": run_id,
            "begun": iso_time(facts.begun_ms),
            "explained": len(of_run),
            "is_of_shown": facts.analysis_run == analysis_run if is_known else None,
        }
        ordered = sorted(of_run, key=_place_of)
        found += [{**row, "run": run} for row in ordered]
    return found


def _place_of(row: Mapping[str, Any]) -> tuple[int, int]:
    """Feature and link, by which rows are ordered; those of links that are gone come first."""
    return row["feature"], -1 if row["at"] is None else row["at"]


def _step(value: Any) -> int:
    return int(value) if pd.notna(value) else -1
