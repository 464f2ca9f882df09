"""A chain's checkpoints under the same questions: what is asked of all, and each one's answers.

Which datapoints are followed is decided at the final and at the first checkpoint; then every
checkpoint is read once, for all features together. Its answers are kept in the cache under all that
determines them: an analysis that was broken off goes on with the checkpoints it lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.coherence import (
    MatchedNull,
    coherence,
    matched_null,
    window_embedder,
)
from saetrack.analysis.contexts import Contexts, TopContexts
from saetrack.analysis.continuity import parameter_displacement
from saetrack.analysis.datapoints import (
    Datapoints,
    random_contexts,
    random_directions,
    token_ids_at,
    unite,
)
from saetrack.analysis.formation import FollowedSets, measure_progress
from saetrack.analysis.liveness import Liveness, feature_status
from saetrack.analysis.purity import VocabularyForms, mapped, vocabulary_forms
from saetrack.analysis.regions import RegionSample, region_table
from saetrack.analysis.semantics import Criteria, classify, sample_features
from saetrack.config import AnalyzeConfig
from saetrack.corpus import Corpus
from saetrack.files import digest, whole_folder
from saetrack.observe import Observer
from saetrack.plan import Link
from saetrack.sae.files import load_tensors, save_tensors

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.analysis.coherence import Embedder

# Raise when what is asked of a checkpoint changes, so that old answers are not taken for new ones.
QUESTIONS_VERSION = 2

# A concept is more coherent than this share of random directions: their strongest contexts are
# alike too, far beyond random contexts, and a fixed threshold would call most of them concepts.
CONCEPT_QUANTILE = 0.95

# Opens a link's checkpoint and SAE.
Open = Callable[[Link], Observer]


@dataclass(frozen=True)
class Answers:
    """What one checkpoint says.

    Attributes:
        link: of the chain.
        contexts: top contexts of its SAE's features.
        status: which features are live (`saetrack.analysis.liveness`).
        labels: what they mean (`saetrack.analysis.semantics`).
        progress: of the followed sets (`saetrack.analysis.formation`).
        baseline: of the random contexts.
        sample: residuals of the sampled tokens, (tokens, d_in).
        sampled_features_x: residuals at the final top contexts of the sampled features, (sampled,
            k, d_in); zero where a list is shorter.
    """

    link: Link
    contexts: Contexts
    status: pd.DataFrame
    labels: pd.DataFrame
    progress: pd.DataFrame
    baseline: pd.DataFrame
    sample: Float[Tensor, "tokens d_in"]
    sampled_features_x: Float[Tensor, "sampled k d_in"]

    TABLES = ("status", "labels", "progress", "baseline")

    def save(self, folder: Path) -> None:
        """Write tables as parquet, arrays as npz, the sample as safetensors."""
        for name in self.TABLES:
            getattr(self, name).to_parquet(folder / f"{name}.parquet")
        np.savez(folder / "contexts.npz", **vars(self.contexts))
        residuals = {"sample": self.sample, "sampled_features_x": self.sampled_features_x}
        save_tensors(folder / "residuals.safetensors", residuals)

    @classmethod
    def load(cls, folder: Path, link: Link) -> Answers:
        """Read what `save` wrote."""
        found: dict[str, Any] = {
            name: pd.read_parquet(folder / f"{name}.parquet") for name in cls.TABLES
        }
        with np.load(folder / "contexts.npz", allow_pickle=False) as arrays:
            contexts = Contexts(**{**arrays, "tokens": int(arrays["tokens"])})
        found |= load_tensors(folder / "residuals.safetensors")
        return cls(link=link, contexts=contexts, **found)


@dataclass(frozen=True)
class Chosen:
    """What is followed through all checkpoints.

    Attributes:
        points: the union of all datapoints.
        followed: features and their datapoints by how they were chosen (`formation`).
        features: the paper's random sample of live features, ascending, (sampled,).
        regions: datapoints of the sampled features by activation strength.
        of_directions: top contexts of random directions at the final checkpoint.
    """

    points: Datapoints
    followed: dict[str, FollowedSets]
    features: Int[np.ndarray, " sampled"]
    regions: RegionSample
    of_directions: Contexts


class Study:
    """The links of one chain, ascending by LM step, under one set of questions."""

    def __init__(
        self,
        config: AnalyzeConfig,
        links: list[Link],
        corpus: Corpus,
        tokens: list[str],
        open_link: Open,
        cache_dir: Path,
    ) -> None:
        """Reads nothing yet.

        Args:
            config: the questions.
            links: ascending by LM step.
            corpus: whose analysis split is read.
            tokens: the text of each token id.
            open_link: loads a checkpoint's LM and the link's SAE.
            cache_dir: keeps answers.
        """
        self.links = links
        self.token_rows = corpus.rows("analysis")
        self.liveness = Liveness(least_density=config.least_density)
        self._config = config
        self._tokens = tokens
        self._open = open_link
        self._bos = corpus.bos_token_id if config.exclude_bos else None
        self._cache_dir = cache_dir
        self._questions = digest(
            [
                QUESTIONS_VERSION,
                config.choices(),
                corpus.sha256,
                links[0].identity,
                links[-1].identity,
            ]
        )

    def identity(self, link: Link) -> str:
        """Hash of all that determines a checkpoint's answers."""
        return digest([self._questions, link.identity])

    def answers(self, link: Link) -> Answers:
        """Of one checkpoint, from the cache if they are there."""
        folder = self._cache_dir / "answers" / self.identity(link)[:32]
        if not folder.exists():
            answers = self._ask(link)
            with whole_folder(folder) as draft:
                answers.save(draft)
        return Answers.load(folder, link)

    @cached_property
    def forms(self) -> VocabularyForms:
        """What of the LM's tokens counts as the same text or stem."""
        return vocabulary_forms(self._tokens)

    @cached_property
    def chosen(self) -> Chosen:
        """Three passes: what is strongest at the final and at the first checkpoint."""
        config = self._config
        final, observer = self._contexts(self.links[-1], with_directions=True)
        of_directions = final.pop("random_directions")
        first = self._contexts(self.links[0])[0]["features"]
        status = feature_status(final["features"], self.liveness)
        live = np.flatnonzero(status["status"] == "live")
        followed = sample_features(live, config.followed_features, config.seed)
        sampled = sample_features(live, config.sampled_features, config.seed)
        regions = RegionSample(
            sampled, final["features"].max_acts[sampled], config.seed, exclude_bos=self._bos
        )
        observer.top_contexts([regions])
        fires_at_first = followed[first.counts[followed] >= 2]
        lists = regions.result()
        rows = self.token_rows
        points = unite(
            {
                "final": _places(final["features"], followed),
                "random_directions": _places(of_directions, np.arange(config.random_directions)),
                "first": _places(first, fires_at_first),
                "sampled": _places(final["features"], sampled),
                "regions": (lists.rows, lists.positions),
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
        members = {
            "final": followed,
            "random_directions": np.arange(config.random_directions),
            "first": fires_at_first,
        }
        sets = {name: FollowedSets(of, points.sets[name]) for name, of in members.items()}
        return Chosen(points, sets, sampled, regions, of_directions)

    def parameter_displacements(self) -> dict[int, float]:
        """How far the LM's weights below the hook moved, by the LM step that a move ends at."""
        moved = {}
        before: dict[str, Tensor] | None = None
        for link in self.links:
            weights = self._open(link).lm.weights_below()
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

    @cached_property
    def regions(self) -> pd.DataFrame:
        """Of the sampled features at the final checkpoint (figure 3, left); one pass."""
        points = self.chosen.points
        lists = self.chosen.regions.result()
        token_ids = token_ids_at(self.token_rows, lists.rows, lists.positions)
        return region_table(
            self.chosen.regions,
            self._open(self.links[-1]).at(points),
            points.sets["regions"],
            points.sets["baseline"],
            token_ids,
            self.forms.text_ids,
        )

    @cached_property
    def _embedding(self) -> tuple[Embedder, MatchedNull]:
        """The yardstick of coherence: the final LM's input embedding, for all checkpoints."""
        vocabulary = len(self._tokens)
        embeddings = self._open(self.links[-1]).lm.token_embeddings()[:vocabulary].cpu()
        embedder = window_embedder(embeddings, self.token_rows, skip=self._bos)
        null = matched_null(
            embedder,
            self.token_rows,
            vocabulary,
            self._config.contexts,
            self._config.seed,
            exclude_bos=self._bos,
        )
        return embedder, null

    def _contexts(
        self, link: Link, *, with_directions: bool = False
    ) -> tuple[dict[str, Contexts], Observer]:
        observer = self._open(link)
        config = self._config
        d_in, d_sae = observer.sae.d_in, observer.sae.d_sae
        of_features = self._top_contexts(d_sae)
        if not with_directions:
            observer.top_contexts([of_features])
            return {"features": of_features.result()}, observer
        of_directions = self._top_contexts(config.random_directions)
        vectors = random_directions(config.random_directions, d_in, config.seed)
        observer.top_contexts([of_features], (vectors, of_directions))
        found = {"features": of_features.result(), "random_directions": of_directions.result()}
        return found, observer

    def _top_contexts(self, features: int) -> TopContexts:
        return TopContexts(features, self._config.contexts, exclude_bos=self._bos)

    def _ask(self, link: Link) -> Answers:
        observer = self._open(link)
        collector = self._top_contexts(observer.sae.d_sae)
        points = self.chosen.points
        activations = observer.at(points, [collector])
        contexts = collector.result()
        status = feature_status(contexts, self.liveness)
        progress, baseline = measure_progress(
            activations, self.chosen.followed, points.sets["baseline"]
        )
        places = torch.from_numpy(points.sets["sampled"])
        return Answers(
            link,
            contexts,
            status,
            self._labels(contexts, status),
            progress,
            baseline,
            sample=activations.x[torch.from_numpy(points.sets["sample"][0])],
            sampled_features_x=activations.x[places] * (places >= 0)[..., None],
        )

    @cached_property
    def criteria(self) -> Criteria:
        """Where the labels part; for concepts, above what random directions reach."""
        _, of_directions = self._coherence(self.chosen.of_directions)
        reached = of_directions["coherence_z"].quantile(CONCEPT_QUANTILE)
        criteria = Criteria(contexts=self._config.contexts)
        return replace(criteria, coherence_z=max(criteria.coherence_z, float(reached)))

    def _labels(self, contexts: Contexts, status: pd.DataFrame) -> pd.DataFrame:
        token_ids, coherent = self._coherence(contexts)
        return classify(token_ids, self.forms, status["status"], coherent, self.criteria)

    def _coherence(self, contexts: Contexts) -> tuple[Int[np.ndarray, "features k"], pd.DataFrame]:
        embedder, null = self._embedding
        token_ids = token_ids_at(self.token_rows, contexts.rows, contexts.positions)
        place = contexts.rows, contexts.positions
        return token_ids, coherence(embedder, *place, token_ids, null)

    def text_ids(self, contexts: Contexts) -> Int[np.ndarray, "features k"]:
        """Normalised texts of the contexts' tokens; -1 fills up."""
        token_ids = token_ids_at(self.token_rows, contexts.rows, contexts.positions)
        return mapped(token_ids, self.forms.text_ids)


def _places(
    contexts: Contexts, features: Int[np.ndarray, " chosen"]
) -> tuple[Int[np.ndarray, "chosen k"], Int[np.ndarray, "chosen k"]]:
    return contexts.rows[features], contexts.positions[features]
