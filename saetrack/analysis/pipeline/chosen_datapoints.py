"""Which datapoints are followed through all checkpoints: chosen at the final and the first one.

Three passes choose: the top contexts of features and of random directions at the final checkpoint;
a sample of the final features' regions, for which their largest activations must be known; and the
top contexts at the first checkpoint, a control.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saetrack.analysis.contexts.datapoints import (
    Datapoints,
    random_contexts,
    random_directions,
    unite,
)
from saetrack.analysis.contexts.liveness import feature_status, live_features
from saetrack.analysis.contexts.token_purity import purity
from saetrack.analysis.contexts.top_contexts import Contexts, TopContexts
from saetrack.analysis.formation.progress_measure import FollowedSets
from saetrack.analysis.formation.regions import RegionSample
from saetrack.analysis.meaning.directions import DirectionReader
from saetrack.analysis.meaning.labels import sample_features
from saetrack.analysis.pipeline.analysis_text import AnalysisText
from saetrack.analysis.pipeline.checkpoint_result import load_contexts, readable, save_contexts
from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.analysis.pipeline.feature_pass import FeaturePass
from saetrack.data.exclusion import Excluded
from saetrack.utils.errors import UserError
from saetrack.utils.files import whole_folder

if TYPE_CHECKING:
    from jaxtyping import Int

    # Rows and positions of sets of datapoints, by name.
    Points = dict[str, tuple[Int[np.ndarray, "..."], Int[np.ndarray, "..."]]]


# Of what is chosen by the authors' rule beside that of the analysis.
BY_AUTHORS = "by_authors"


@dataclass(frozen=True)
class ChosenDatapoints:
    """What is followed through all checkpoints.

    Attributes:
        points: the union of all datapoints.
        followed: features and their datapoints by how they were chosen
            (`saetrack.analysis.formation.progress_measure`).
        sampled: the paper's random sample of live features, ascending, (sampled,).
        texts: of each followed feature the commonest text among its final contexts, (followed,).
        regions: datapoints of the sampled features by activation strength.
        final: top contexts of all features at the final checkpoint.
        first: the same at the first one.
        by_authors: top contexts at the final checkpoint by the authors' rule, where both rules are
            compared; else None.
    """

    points: Datapoints
    followed: dict[str, FollowedSets]
    sampled: Int[np.ndarray, " sampled"]
    texts: Int[np.ndarray, " followed"]
    regions: Contexts
    final: Contexts
    first: Contexts
    by_authors: Contexts | None = None


def top_contexts(features: int, config: AnalyzeConfig, text: AnalysisText) -> TopContexts:
    """A collector of the contexts that an analysis looks at."""
    if config.context_rule == "authors":
        return _by_authors(features, config, text.excluded)
    return TopContexts(features, config.contexts, excluded=text.excluded)


def _by_authors(features: int, config: AnalyzeConfig, excluded: Excluded) -> TopContexts:
    return TopContexts(
        features, config.contexts, window=None, rows_count_once=False, excluded=excluded
    )


def contexts_at_final(
    final: FeaturePass, config: AnalyzeConfig, text: AnalysisText
) -> dict[str, Contexts]:
    """One pass: top contexts of features and of random directions at the final checkpoint.

    Where rules are compared, those of features by the authors' rule too.
    """
    of_features = top_contexts(final.sae.d_sae, config, text)
    of_directions = direction_reader(final.sae.d_in, config, text)
    collectors = {"features": of_features}
    if config.context_rule == "both":
        excluded = text.excluded if config.exclude_bos else text.not_trained_on
        collectors[BY_AUTHORS] = _by_authors(final.sae.d_sae, config, excluded)
    final.top_contexts(list(collectors.values()), [of_directions])
    found = {name: collector.result() for name, collector in collectors.items()}
    return found | {"random_directions": of_directions.result().contexts}


def direction_reader(d_in: int, config: AnalyzeConfig, text: AnalysisText) -> DirectionReader:
    """A reader of random directions, the same at every checkpoint of a chain."""
    vectors = random_directions(config.random_directions, d_in, config.seed)
    of_directions = top_contexts(config.random_directions, config, text)
    return DirectionReader(vectors, of_directions, text.statistics, text.excluded)


def contexts_at_first(
    first: FeaturePass, config: AnalyzeConfig, text: AnalysisText
) -> dict[str, Contexts]:
    """One pass: top contexts of features at the first checkpoint."""
    of_features = top_contexts(first.sae.d_sae, config, text)
    first.top_contexts([of_features])
    return {"features": of_features.result()}


def regions_at_final(
    final: FeaturePass, of_features: Contexts, config: AnalyzeConfig, text: AnalysisText
) -> dict[str, Contexts]:
    """One pass: a sample of the datapoints of the sampled features by activation strength."""
    sampled = sample_features(
        _some_live_features(of_features, config), config.sampled_features, config.seed
    )
    regions = RegionSample(
        sampled, of_features.max_acts[sampled], config.seed, excluded=text.excluded
    )
    final.top_contexts([regions])
    return {"regions": regions.result()}


def _some_live_features(contexts: Contexts, config: AnalyzeConfig) -> Int[np.ndarray, " live"]:
    """The features that fire often enough to be analysed.

    Raises:
        UserError: there are none.
    """
    status = feature_status(contexts, config.min_density)
    live = live_features(status)
    if not len(live):
        raise UserError(
            f"min_density={config.min_density:g}: no live features: none of the "
            f"{len(status)} features fires on that share of the analysis tokens at the last "
            "checkpoint"
        )
    return live


def choose_datapoints(
    final: dict[str, Contexts],
    first: Contexts,
    regions: Contexts,
    config: AnalyzeConfig,
    text: AnalysisText,
    more: Points,
) -> ChosenDatapoints:
    """Unite all that is followed, and the points of `more`, by name."""
    of_features, of_directions = final["features"], final["random_directions"]
    live = _some_live_features(of_features, config)
    followed = sample_features(live, config.followed_features, config.seed)
    sampled = sample_features(live, config.sampled_features, config.seed)
    fires_at_first = followed[first.counts[followed] >= 2]
    directions = np.arange(config.random_directions)
    members = {
        "final": (of_features, followed),
        "random_directions": (of_directions, directions),
        "first": (first, fires_at_first),
        "sampled": (of_features, sampled),
    }
    if BY_AUTHORS in final:
        members[BY_AUTHORS] = final[BY_AUTHORS], followed
    points = unite(
        {name: (of.rows[chosen], of.positions[chosen]) for name, (of, chosen) in members.items()}
        | {"regions": (regions.rows, regions.positions)}
        | _random_points(config, text)
        | more
    )
    return ChosenDatapoints(
        points=points,
        followed={
            name: FollowedSets(members[name][1], points.sets[name])
            for name in members
            if name != "sampled"
        },
        sampled=sampled,
        texts=purity(text.text_ids(of_features)[followed]).commonest,
        regions=regions,
        final=of_features,
        first=first,
        by_authors=final.get(BY_AUTHORS),
    )


def _random_points(config: AnalyzeConfig, text: AnalysisText) -> Points:
    """Random datapoints: draws of the baseline, and the sample whose residuals are kept."""
    rows, excluded = text.token_rows, text.excluded
    eligible_rows = int(excluded.kept_in(rows).any(axis=1).sum())
    baseline_size = min(config.baseline_tokens, eligible_rows)
    sample_size = min(config.sample_tokens, eligible_rows)
    draws, seed = config.baseline_draws, config.seed
    return {
        "baseline": random_contexts(rows, draws, baseline_size, seed, excluded),
        "sample": random_contexts(rows, 1, sample_size, seed + 1, excluded),
    }


def save_choice(folder: Path, found: dict[str, Contexts]) -> None:
    """Keep what a choosing pass found."""
    with whole_folder(folder) as draft:
        for name, contexts in found.items():
            save_contexts(draft / f"{name}.npz", contexts)


def load_choice(folder: Path) -> dict[str, Contexts]:
    """Read what `save_choice` kept.

    Raises:
        UserError: it cannot be read.
    """
    with readable(folder):
        return {path.stem: load_contexts(path) for path in folder.glob("*.npz")}
