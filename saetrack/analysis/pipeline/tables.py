"""What the answers of all checkpoints add up to: the tables behind the paper's figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.contexts.examples import CheckpointContexts, choose_examples, context_table
from saetrack.analysis.drift.controls import Control, drift_after_formation, hold_against
from saetrack.analysis.drift.histograms import histogram_table
from saetrack.analysis.drift.measure import Drift, feature_table, measure_drift, quantile_table
from saetrack.analysis.drift.trajectories import choose_features, collect_rows, trajectory_table
from saetrack.analysis.drift.verdicts import verdicts
from saetrack.analysis.formation.phases import find_phases, phase_spans, progress_formation
from saetrack.analysis.formation.progress_measure import (
    MEASURE,
    FollowedSets,
    PointActivations,
    baseline_spread,
    class_curves,
)
from saetrack.analysis.formation.projection import Projection, project
from saetrack.analysis.geometry.collapse import collapse_table
from saetrack.analysis.geometry.continuity import (
    continuity_table,
    warm_start_correlations,
    with_warm_starts,
)
from saetrack.analysis.geometry.inputs import DecoderChain, Residuals
from saetrack.analysis.meaning.labels import MEANINGFUL, Meanings, concept_share, label_counts
from saetrack.analysis.meaning.patterns import pattern_counts, trace_patterns
from saetrack.analysis.meaning.polysemy import PolysemyCriteria, polysemy_loss

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

    from saetrack.analysis.contexts.datapoints import Decode
    from saetrack.analysis.drift.controls import Role
    from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult
    from saetrack.analysis.pipeline.study import Study
    from saetrack.lm.catalog.learning_rate import LearningRate

MEASURES = (
    "activation_cosine",
    MEASURE,
    "feature_cosine",
    "feature_cosine_centred",
    "feature_jaccard",
    "feature_weighted_jaccard",
)
CORRELATED = (
    "activations",
    "shuffled tokens",
)  # ways of matching, `saetrack.analysis.pipeline.match_chains`
COLLAPSE_TOKENS = 100  # per draw, as in the paper
SHOWN_TRAJECTORIES = 6
SHOWN_PER_KIND = 2
SHOWN_IN_PLANE = 7


@dataclass(frozen=True)
class Meaning:
    """What features mean along the chain (section 3).

    Attributes:
        labels: of each feature at the final checkpoint, indexed by feature.
        tables: `label_counts`, `patterns`, `pattern_counts`, `contexts`.
    """

    labels: pd.Series[str]
    tables: dict[str, pd.DataFrame]


def find_meaning(
    study: Study, answers: Sequence[CheckpointResult], decode: Decode, seed: int
) -> Meaning:
    """Labels, patterns, formation points, and contexts to read (Fig 2)."""
    control = study.directions_labels["label"].value_counts(normalize=True)
    meanings = [Meanings(*_place(one), one.labels, study.text_ids(one.contexts)) for one in answers]
    patterns = trace_patterns(meanings)
    labels = answers[-1].labels.set_index("feature")["label"]
    live = np.flatnonzero(answers[-1].status["status"] == "live")
    counted = pattern_counts(
        patterns, {"all live features": live, "random sample": study.chosen.features}
    )
    shown = [answers[place] for place in _spread(len(answers), 4)]
    contexts = context_table(
        choose_examples(patterns, SHOWN_PER_KIND, seed),
        [CheckpointContexts(*_place(one), one.contexts, one.labels) for one in shown],
        study.token_rows,
        decode,
    )
    tables = {
        "label_counts": label_counts(meanings),
        "patterns": patterns,
        "pattern_counts": counted,
        "contexts": contexts,
        "labels_of_random_directions": control.rename_axis("label").reset_index(name="share"),
    }
    return Meaning(labels, tables)


def find_polysemy(answers: Sequence[CheckpointResult], meaning: Meaning) -> dict[str, pd.DataFrame]:
    """How far tokens decide features, and which features lost senses of their token (appendix G).

    Returns:
        `statistics`, one row per followed feature and checkpoint, and `polysemy`.
    """
    first, final = answers[0].statistics, answers[-1].statistics
    labels = meaning.labels[final["feature"]].to_numpy()
    statistics = [
        one.statistics.assign(lm_step=one.link.checkpoint.lm_step, label=labels) for one in answers
    ]
    lost = polysemy_loss(
        meaning.tables["patterns"].set_index("feature", drop=False).loc[final["feature"]],
        (first["recall"].to_numpy(), final["recall"].to_numpy()),
        (first["coherence_other"].to_numpy(), final["coherence_other"].to_numpy()),
        PolysemyCriteria(),
    )
    return {"statistics": pd.concat(statistics, ignore_index=True), "polysemy": lost}


def find_formation(
    answers: Sequence[CheckpointResult], meaning: Meaning
) -> dict[str, pd.DataFrame]:
    """The progress measure by class with baseline and controls, phases, formation points."""
    progress = pd.concat([one.progress for one in answers], ignore_index=True)
    baseline = pd.concat([one.baseline for one in answers], ignore_index=True)
    curves = class_curves(progress, {"final": meaning.labels}, MEASURES)
    medians = curves[(curves["chosen"] == "final") & (curves["measure"] == MEASURE)]
    by_curve = {
        f"{label!s}: progress": rows.set_index("lm_step")["q0.5"].sort_index()
        for label, rows in medians.groupby("class")
        if label in MEANINGFUL
    }
    by_curve["share of concepts"] = concept_share(meaning.tables["label_counts"])
    return {
        "progress": progress[progress["chosen"] == "final"],
        "curves": curves,
        "baseline": baseline_spread(baseline, MEASURES),
        "phases": find_phases(by_curve),
        "formation": progress_formation(progress[progress["chosen"] == "final"], MEASURE),
    }


def find_geometry(
    answers: Sequence[CheckpointResult],
    links: pd.DataFrame,
    moved: Mapping[int, float],
    learning_rate: LearningRate | None,
) -> dict[str, pd.DataFrame]:
    """Collapse (appendix L) and continuity (appendix C) on the sampled tokens.

    Args:
        answers: ascending by LM step.
        links: the chain's table, as `Registry.table` gives it.
        moved: displacement of the LM's weights, by the LM step that a move ends at.
        learning_rate: of the LM's training, if it is known.
    """
    steps = [one.link.checkpoint.lm_step for one in answers]
    summed = {
        after: learning_rate.summed(before, after)
        for before, after in pairwise(steps)
        if learning_rate is not None
    }
    residuals = [Residuals(*_place(one), one.sample) for one in answers]
    joined = with_warm_starts(continuity_table(residuals, moved, summed), links[links["link"] > 0])
    return {
        "collapse": collapse_table(residuals, min(COLLAPSE_TOKENS, len(answers[0].sample) // 2)),
        "continuity": joined,
        "warm_starts": warm_start_correlations(joined),
    }


def find_drift(
    decoders: Mapping[str, DecoderChain],
    roles: Mapping[str, Role],
    meaning: Meaning,
    seed: int,
) -> tuple[dict[str, pd.DataFrame], list[Control]]:
    """How far directions travel, beside what training alone does (section 5).

    Args:
        decoders: of the chain under `chain`, of the controls by name.
        roles: of the controls.
        meaning: gives classes and formation points.
        seed: of the features shown.
    """
    chain = decoders["chain"]
    drift = _drift(chain)
    claim = quantile_table(drift, list(meaning.labels.sort_index()))
    histograms, controls = [histogram_table(drift).assign(chain="chain")], []
    for name, role in roles.items():
        of_control = _drift(decoders[name])
        controls.append(Control(name, role, quantile_table(of_control, chain=name)))
        if role == "noise":
            histograms.append(histogram_table(of_control).assign(chain=name))
    formed = _formation_links(meaning, drift)
    tables = {"drift": claim, "drift_histograms": pd.concat(histograms, ignore_index=True)}
    if controls:
        noise = next((one.quantiles for one in controls if one.role == "noise"), None)
        held = hold_against(claim, controls)
        after = drift_after_formation(drift, formed, noise)
        tables |= {
            "drift_beside_controls": held,
            "drift_after_formation": after,
            "drift_verdicts": verdicts(held, after_formation=after if noise is not None else None),
        }
    shown = choose_features(drift.always_alive, SHOWN_TRAJECTORIES, seed)
    tables["drift_of_features"] = feature_table(drift, list(shown))
    rows = collect_rows(chain, shown)
    place = drift.lm_steps, drift.checkpoint_indices
    tables["trajectories"] = trajectory_table(rows, shown, *place, formed[shown])
    return tables, controls


def find_projection(
    answers: Sequence[CheckpointResult],
    sampled: Int[np.ndarray, " sampled"],
    meaning: Meaning,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Where the contexts of a few features lie at some checkpoints (section 4.1).

    Args:
        answers: ascending by LM step.
        sampled: the features whose residuals were kept.
        meaning: gives classes.
        seed: of the choice and of UMAP.
    """
    patterns = meaning.tables["patterns"].set_index("feature")
    judged = [feature for feature in sampled if meaning.labels[feature] in MEANINGFUL]
    by_class = pd.Series(judged, dtype=int).groupby(meaning.labels[judged].to_numpy())
    # As many of each class as there is room for, so that rare concepts are among the seven.
    chosen = by_class.apply(lambda group: group.sample(min(3, len(group)), random_state=seed))
    features = np.sort(chosen.to_numpy(np.int64))[:SHOWN_IN_PLANE]
    k = answers[-1].sampled_features_x.shape[1]
    places = np.searchsorted(sampled, features)[:, None] * k + np.arange(k)
    shown = [answers[place] for place in _spread(len(answers), 6)]
    points = [
        PointActivations(*_place(one), one.sampled_features_x.flatten(0, 1), None) for one in shown
    ]
    followed = FollowedSets(features, np.where(_filled(answers[-1], features), places, -1))
    planes = [
        project(points, followed, fit, Projection(seed=seed)) for fit in ("joint", "separate")
    ]
    names = answers[-1].labels.set_index("feature").loc[features, "top_text"]
    described = pd.DataFrame(
        {"feature": features, "label": meaning.labels[features].to_numpy(), "name": list(names)}
    )
    described["pattern"] = patterns.loc[features, "pattern"].to_numpy()
    return {"projection": pd.concat(planes, ignore_index=True), "projected_features": described}


def _filled(
    final: CheckpointResult, features: Int[np.ndarray, " chosen"]
) -> Bool[np.ndarray, "chosen k"]:
    filled: Bool[np.ndarray, "chosen k"] = final.contexts.rows[features] >= 0
    return filled


def spans(tables: Mapping[str, pd.DataFrame]) -> dict[str, tuple[float, float]]:
    """The phases for figures: those of the share of concepts."""
    steps = sorted(tables["label_counts"]["lm_step"].unique())
    return phase_spans(tables["phases"], "share of concepts", steps)


def _drift(links: DecoderChain) -> Drift:
    return measure_drift(links, links.final)


def _formation_links(meaning: Meaning, drift: Drift) -> np.ndarray:
    """The place in the chain from which on each feature is formed; -1 for never."""
    place = {index: number for number, index in enumerate(drift.checkpoint_indices)}
    formed = meaning.tables["patterns"].sort_values("feature")["formed_checkpoint_index"]
    links = formed.map(place).fillna(-1)
    return np.asarray(links, np.int64)


def _place(one: CheckpointResult) -> tuple[int, int]:
    checkpoint = one.link.checkpoint
    return checkpoint.lm_step, checkpoint.checkpoint_index


def _spread(length: int, count: int) -> list[int]:
    """Places spread over a list, first and last among them."""
    return sorted({round(place) for place in np.linspace(0, length - 1, count)})


def headline(tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Numbers to compare runs by, under names that MLflow takes."""
    return {re.sub(r"[^\w.]+", "_", name): value for name, value in _numbers(tables)}


def _numbers(tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, float]]:
    counts = tables["label_counts"]
    for step, name in ((counts["lm_step"].min(), "first"), (counts["lm_step"].max(), "final")):
        for _, row in counts[counts["lm_step"] == step].iterrows():
            yield f"{row['label']}.{name}", float(row["features"])
    for _, row in tables["labels_of_random_directions"].iterrows():
        yield f"{row['label']}.share_of_random_directions", float(row["share"])
    for _, row in tables["phases"].iterrows():
        yield f"{row['curve']}.rise", row["final"] - row["first"]
    polysemy = tables["polysemy"]
    for change in ("lost_senses", "gained_senses"):
        yield f"polysemy.{change}", float(polysemy[change].mean())
    drift = tables["drift"]
    whole = drift[(drift["feature_class"] == "all") & (drift["quantity"] == "cosine_to_final")]
    yield "cosine_to_final.first_link_median", float(whole.sort_values("link")["q50"].iloc[0])
    for _, row in tables.get("drift_verdicts", pd.DataFrame()).iterrows():
        yield f"stands.{row['claim']}.{row['control']}", float(bool(row["stands"]))
    for _, row in tables.get("matching", pd.DataFrame()).iterrows():
        measure = "median_correlation" if row["by"] in CORRELATED else "median_cosine"
        yield f"matched.{row['other']}.{row['by']}.median", float(row[measure])
