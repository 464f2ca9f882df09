"""A chain's checkpoints under the same questions: what is asked of all, and each one's answers.

Which datapoints are followed is decided at the final and at the first checkpoint; then every
checkpoint is read once, for all features together. What a pass found is kept in the cache under all
that determines it: an analysis that was broken off goes on with the passes it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError

from saetrack.analysis.contexts.datapoints import (
    Datapoints,
    random_contexts,
    random_directions,
    token_ids_at,
    unite,
)
from saetrack.analysis.contexts.liveness import Liveness, feature_status
from saetrack.analysis.contexts.token_purity import (
    VocabularyForms,
    mapped,
    purity,
    vocabulary_forms,
)
from saetrack.analysis.contexts.top_contexts import Contexts, TopContexts
from saetrack.analysis.formation.progress_measure import (
    FollowedSets,
    PointActivations,
    measure_progress,
)
from saetrack.analysis.formation.regions import RegionSample, region_table
from saetrack.analysis.geometry.continuity import parameter_displacement
from saetrack.analysis.meaning.coherence import (
    MatchedNull,
    coherence,
    likeness,
    matched_null,
    window_embedder,
)
from saetrack.analysis.meaning.determinism import TokenStatistics
from saetrack.analysis.meaning.labels import Criteria, classify, sample_features
from saetrack.analysis.pipeline.checkpoint_result import (
    CheckpointResult,
    load_contexts,
    save_contexts,
)
from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.analysis.pipeline.feature_pass import FeaturePass
from saetrack.chain.plan import Link
from saetrack.data.corpus import Corpus
from saetrack.lm.hooked import HookedLM
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash, whole_folder

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from saetrack.analysis.meaning.coherence import Embedder

# Raise when what is asked of a checkpoint changes, so that old answers are not taken for new ones.
QUESTIONS_VERSION = 3

# A concept is more coherent than this share of random directions: their strongest contexts are
# alike too, far beyond random contexts, and a fixed threshold would call most of them concepts.
CONCEPT_QUANTILE = 0.95


class Opener(Protocol):
    """Opens a chain's checkpoints."""

    def lm(self, link: Link) -> HookedLM:
        """A link's LM, without the blocks above the hook."""

    def open(self, link: Link) -> FeaturePass:
        """The same with the link's SAE."""


@dataclass(frozen=True)
class Chosen:
    """What is followed through all checkpoints.

    Attributes:
        points: the union of all datapoints.
        followed: features and their datapoints by how they were chosen (`formation`).
        features: the paper's random sample of live features, ascending, (sampled,).
        texts: of each followed feature the commonest text among its final contexts, (followed,).
        regions: datapoints of the sampled features by activation strength.
        of_directions: top contexts of random directions at the final checkpoint.
    """

    points: Datapoints
    followed: dict[str, FollowedSets]
    features: Int[np.ndarray, " sampled"]
    texts: Int[np.ndarray, " followed"]
    regions: Contexts
    of_directions: Contexts


class Study:
    """The links of one chain, ascending by LM step, under one set of questions."""

    def __init__(
        self,
        config: AnalyzeConfig,
        links: list[Link],
        corpus: Corpus,
        tokens: list[str],
        opener: Opener,
        cache_dir: Path,
    ) -> None:
        """Reads nothing yet.

        Args:
            config: the questions.
            links: ascending by LM step.
            corpus: whose analysis split is read.
            tokens: the text of each token id.
            opener: loads a checkpoint's LM and the link's SAE.
            cache_dir: keeps answers.
        """
        self.links = links
        self.token_rows = corpus.rows("analysis")
        self.liveness = Liveness(min_density=config.min_density)
        self._config = config
        self._tokens = tokens
        self._opener = opener
        self._bos = corpus.bos_token_id if config.exclude_bos else None
        self._cache_dir = cache_dir
        self._questions = content_hash(
            [
                QUESTIONS_VERSION,
                config.choices(),
                corpus.sha256,
                links[0].identity,
                links[-1].identity,
            ]
        )

    def answers(self, link: Link) -> CheckpointResult:
        """Of one checkpoint, from the cache if they are there."""
        folder = self._folder(link, "answers")
        if not folder.exists():
            answers = self._ask(link)
            with whole_folder(folder) as draft:
                answers.save(draft)
        try:
            return CheckpointResult.load(folder, link)
        except (OSError, ValueError, KeyError, TypeError, BadZipFile, SafetensorError) as error:
            raise UserError(
                f"{folder}: cached answers that cannot be read ({type(error).__name__}); "
                "delete the folder and run again"
            ) from None

    @cached_property
    def forms(self) -> VocabularyForms:
        """What of the LM's tokens counts as the same text or stem."""
        return vocabulary_forms(self._tokens)

    @cached_property
    def chosen(self) -> Chosen:
        """What is strongest at the final and at the first checkpoint; at most three passes."""
        config, rows = self._config, self.token_rows
        final, first = self._ends["features"], self._first["features"]
        live = self._live
        followed = sample_features(live, config.followed_features, config.seed)
        sampled = sample_features(live, config.sampled_features, config.seed)
        fires_at_first = followed[first.counts[followed] >= 2]
        directions = np.arange(config.random_directions)
        regions = self._region_lists["regions"]
        points = unite(
            {
                "final": _places(final, followed),
                "random_directions": _places(self._ends["random_directions"], directions),
                "first": _places(first, fires_at_first),
                "sampled": _places(final, sampled),
                "regions": (regions.rows, regions.positions),
                "baseline": random_contexts(
                    rows,
                    config.baseline_draws,
                    min(config.baseline_tokens, len(rows)),
                    config.seed,
                    self._bos,
                ),
                "sample": random_contexts(
                    rows, 1, min(config.sample_tokens, len(rows)), config.seed + 1, self._bos
                ),
            }
        )
        members = {"final": followed, "random_directions": directions, "first": fires_at_first}
        sets = {name: FollowedSets(of, points.sets[name]) for name, of in members.items()}
        texts = purity(self.text_ids(final)[followed]).commonest
        of_directions = self._ends["random_directions"]
        return Chosen(points, sets, sampled, texts, regions, of_directions)

    def parameter_displacements(self) -> dict[int, float]:
        """How far the LM's weights below the hook moved, by the LM step that a move ends at."""
        moved = {}
        before: dict[str, Tensor] | None = None
        for link in self.links:
            weights = self._opener.lm(link).weights_below()
            if before is not None:
                moved[link.checkpoint.lm_step] = parameter_displacement(before, weights)
            before = weights
        return moved

    @cached_property
    def directions_labels(self) -> pd.DataFrame:
        """What the criteria make of random directions' contexts at the final checkpoint.

        A control: a class into which many of them fall says little about features.
        """
        contexts = self.chosen.of_directions
        return self._labels(contexts, feature_status(contexts, self.liveness))

    # The passes that choose

    @cached_property
    def _ends(self) -> dict[str, Contexts]:
        """Top contexts of features and of random directions at the final checkpoint."""
        return self._kept(self.links[-1], "chosen", self._read_final)

    @cached_property
    def _first(self) -> dict[str, Contexts]:
        return self._kept(self.links[0], "chosen_first", self._read_first)

    @cached_property
    def _region_lists(self) -> dict[str, Contexts]:
        return self._kept(self.links[-1], "chosen_regions", self._read_regions)

    @cached_property
    def _live(self) -> Int[np.ndarray, " live"]:
        status = feature_status(self._ends["features"], self.liveness)
        return np.flatnonzero(status["status"] == "live")

    def _read_final(self) -> dict[str, Contexts]:
        feature_pass = self._opener.open(self.links[-1])
        config = self._config
        of_features = self._top_contexts(feature_pass.sae.d_sae)
        of_directions = self._top_contexts(config.random_directions)
        vectors = random_directions(config.random_directions, feature_pass.sae.d_in, config.seed)
        feature_pass.top_contexts([of_features], (vectors, of_directions))
        return {"features": of_features.result(), "random_directions": of_directions.result()}

    def _read_first(self) -> dict[str, Contexts]:
        feature_pass = self._opener.open(self.links[0])
        of_features = self._top_contexts(feature_pass.sae.d_sae)
        feature_pass.top_contexts([of_features])
        return {"features": of_features.result()}

    def _read_regions(self) -> dict[str, Contexts]:
        sampled = sample_features(self._live, self._config.sampled_features, self._config.seed)
        largest = self._ends["features"].max_acts[sampled]
        regions = RegionSample(sampled, largest, self._config.seed, exclude_bos=self._bos)
        self._opener.open(self.links[-1]).top_contexts([regions])
        return {"regions": regions.result()}

    def _kept(
        self, link: Link, what: str, read: Callable[[], Mapping[str, Contexts]]
    ) -> dict[str, Contexts]:
        folder = self._folder(link, what)
        if not folder.exists():
            found = read()
            with whole_folder(folder) as draft:
                for name, contexts in found.items():
                    save_contexts(draft / f"{name}.npz", contexts)
        return {path.stem: load_contexts(path) for path in folder.glob("*.npz")}

    def _folder(self, link: Link, what: str) -> Path:
        """Named by all that determines what a checkpoint says."""
        return (
            self._cache_dir / "answers" / content_hash([self._questions, what, link.identity])[:32]
        )

    # One checkpoint

    def _ask(self, link: Link) -> CheckpointResult:
        chosen = self.chosen
        points, followed = chosen.points, chosen.followed["final"].features
        feature_pass = self._opener.open(link)
        collector = self._top_contexts(feature_pass.sae.d_sae)
        by_token = TokenStatistics(followed, len(self._tokens), self._bos)
        activations = feature_pass.at(points, [collector, by_token])
        contexts = collector.result()
        status = feature_status(contexts, self.liveness)
        progress, baseline = measure_progress(activations, chosen.followed, points.sets["baseline"])
        statistics = by_token.determinism().assign(
            recall=by_token.recall(chosen.texts, self.forms.text_ids),
            coherence_other=likeness(self._embedder_of_others, *_places(contexts, followed)),
        )
        places = torch.from_numpy(points.sets["sampled"])
        return CheckpointResult(
            link,
            contexts,
            status,
            self._labels(contexts, status),
            progress,
            baseline,
            statistics,
            regions=self._regions(activations) if link is self.links[-1] else pd.DataFrame(),
            sample=activations.x[torch.from_numpy(points.sets["sample"][0])],
            sampled_features_x=activations.x[places] * (places >= 0)[..., None],
        )

    def _regions(self, activations: PointActivations) -> pd.DataFrame:
        """Of the sampled features at the final checkpoint (figure 3, left)."""
        chosen = self.chosen
        return region_table(
            chosen.features,
            chosen.regions,
            activations,
            chosen.points.sets["regions"],
            chosen.points.sets["baseline"],
            self.text_ids(chosen.regions),
        )

    def _top_contexts(self, features: int) -> TopContexts:
        return TopContexts(features, self._config.contexts, exclude_bos=self._bos)

    # What contexts mean

    @cached_property
    def criteria(self) -> Criteria:
        """Where the labels part; for concepts, above what random directions reach."""
        _, of_directions = self._coherence(self.chosen.of_directions)
        reached = of_directions["coherence_z"].quantile(CONCEPT_QUANTILE)
        criteria = Criteria(contexts=self._config.contexts)
        return replace(criteria, coherence_z=max(criteria.coherence_z, float(reached)))

    def text_ids(self, contexts: Contexts) -> Int[np.ndarray, "features k"]:
        """Normalised texts of the contexts' tokens; -1 fills up."""
        token_ids = token_ids_at(self.token_rows, contexts.rows, contexts.positions)
        return mapped(token_ids, self.forms.text_ids)

    def _labels(self, contexts: Contexts, status: pd.DataFrame) -> pd.DataFrame:
        token_ids, coherent = self._coherence(contexts)
        return classify(token_ids, self.forms, status["status"], coherent, self.criteria)

    def _coherence(self, contexts: Contexts) -> tuple[Int[np.ndarray, "features k"], pd.DataFrame]:
        token_ids = token_ids_at(self.token_rows, contexts.rows, contexts.positions)
        place = contexts.rows, contexts.positions
        return token_ids, coherence(self._embedder, *place, token_ids, self._null)

    @cached_property
    def _token_embeddings(self) -> Tensor:
        """The yardstick of coherence: the final LM's input embedding, for all checkpoints."""
        return self._opener.lm(self.links[-1]).token_embeddings()[: len(self._tokens)].cpu()

    @cached_property
    def _embedder(self) -> Embedder:
        return window_embedder(self._token_embeddings, self.token_rows, skip=self._bos)

    @cached_property
    def _embedder_of_others(self) -> Embedder:
        """That does not see the datapoint's own token."""
        return window_embedder(
            self._token_embeddings, self.token_rows, own_token=False, skip=self._bos
        )

    @cached_property
    def _null(self) -> MatchedNull:
        return matched_null(
            self._embedder,
            self.token_rows,
            len(self._tokens),
            self._config.contexts,
            self._config.seed,
            exclude_bos=self._bos,
        )


def _places(
    contexts: Contexts, features: Int[np.ndarray, " chosen"]
) -> tuple[Int[np.ndarray, "chosen k"], Int[np.ndarray, "chosen k"]]:
    return contexts.rows[features], contexts.positions[features]
