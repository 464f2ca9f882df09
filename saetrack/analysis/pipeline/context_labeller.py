"""What contexts mean: labels under a threshold that each checkpoint's own null sets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.contexts.liveness import feature_status
from saetrack.analysis.contexts.top_contexts import Contexts
from saetrack.analysis.meaning.coherence import (
    MatchedNull,
    coherence,
    likeness,
    matched_null,
    window_embedder,
)
from saetrack.analysis.meaning.directions import ReadDirections
from saetrack.analysis.meaning.labels import classify, may_be_concepts, sample_features
from saetrack.analysis.meaning.nulls import against_nulls, calibrate
from saetrack.analysis.meaning.same_tokens import Occurrences, share_that_passes
from saetrack.analysis.pipeline.analysis_text import AnalysisText
from saetrack.analysis.pipeline.config import AnalyzeConfig

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.analysis.meaning.coherence import Embedder

# Random occurrences of the same tokens: draws of each feature, and features at a checkpoint.
SAME_TOKEN_DRAWS, SAME_TOKEN_FEATURES = 19, 4096


@dataclass(frozen=True)
class ReadMeanings:
    """What features, and directions, mean at a checkpoint.

    Attributes:
        labels: of features (`saetrack.analysis.meaning.labels.classify`).
        labels_of_directions: of directions, under the same thresholds.
        nulls: concepts beside those that nulls expect (`saetrack.analysis.meaning.nulls`).
    """

    labels: pd.DataFrame
    labels_of_directions: pd.DataFrame
    nulls: pd.DataFrame


@dataclass(frozen=True)
class ContextLabeller:
    """Labels features by their top contexts.

    Attributes:
        config: of the analysis.
        text: that the contexts lie in.
        token_embeddings: the final LM's input embedding, which measures coherence at every
            checkpoint, (vocabulary, width).
    """

    config: AnalyzeConfig
    text: AnalysisText
    token_embeddings: Float[Tensor, "vocabulary width"]

    def read(
        self,
        contexts: Contexts,
        status: pd.DataFrame,
        determinism: Float[np.ndarray, " features"],
        directions: ReadDirections,
    ) -> ReadMeanings:
        """What each feature means at a checkpoint, beside directions there."""
        their_status = feature_status(directions.contexts, self.config.min_density)

        def labels_of_directions(min_coherence_z: float) -> pd.DataFrame:
            read = directions.contexts, their_status, directions.determinism
            return self.labels(*read, min_coherence_z)

        threshold = calibrate(labels_of_directions(np.inf))
        min_coherence_z = threshold.min_coherence_z
        labels = self.labels(contexts, status, determinism, min_coherence_z)
        their_labels = labels_of_directions(min_coherence_z)
        by_tokens = self._by_tokens(contexts, labels, min_coherence_z)
        nulls = against_nulls(labels, their_labels, threshold, by_tokens, self.config.seed)
        return ReadMeanings(labels, their_labels, nulls)

    def likeness_without_own_token(
        self, contexts: Contexts, features: Int[np.ndarray, " chosen"]
    ) -> Float[np.ndarray, " chosen"]:
        """How alike the contexts of some features are, their own tokens left out."""
        embedder = self._embedder(own_token=False)
        return likeness(embedder, contexts.rows[features], contexts.positions[features])

    def labels(
        self,
        contexts: Contexts,
        status: pd.DataFrame,
        determinism: Float[np.ndarray, " features"],
        min_coherence_z: float,
    ) -> pd.DataFrame:
        """What contexts mean under a threshold (`saetrack.analysis.meaning.labels.classify`)."""
        return classify(
            self.text.token_ids(contexts),
            self.text.forms,
            status["status"],
            determinism,
            self._coherence(contexts),
            self.config.contexts,
            min_coherence_z,
        )

    def _by_tokens(
        self, contexts: Contexts, labels: pd.DataFrame, min_coherence_z: float
    ) -> pd.Series[float]:
        """How often features that may be concepts, or are the paper's, pass by tokens alone."""
        asked = may_be_concepts(labels) | (labels["paper_label"] == "concept").to_numpy()
        chosen = sample_features(np.flatnonzero(asked), SAME_TOKEN_FEATURES, self.config.seed)
        token_ids = self.text.token_ids(contexts)[chosen]
        generator = np.random.default_rng(self.config.seed)
        found = np.empty((len(chosen), SAME_TOKEN_DRAWS))
        for number in range(SAME_TOKEN_DRAWS):
            drawn = self._occurrences.draw(token_ids, generator)
            found[:, number] = likeness(self._own_embedder, *drawn)
        mean, spread = labels.loc[chosen, ["coherence_random", "coherence_spread"]].to_numpy().T
        return pd.Series(share_that_passes(found, mean, spread, min_coherence_z), chosen)

    def _coherence(self, contexts: Contexts) -> pd.DataFrame:
        token_ids = self.text.token_ids(contexts)
        return coherence(
            self._own_embedder, contexts.rows, contexts.positions, token_ids, self._null
        )

    def _embedder(self, *, own_token: bool) -> Embedder:
        return window_embedder(
            self.token_embeddings[: self.text.vocabulary],
            self.text.token_rows,
            own_token=own_token,
            skip=self.text.excluded.token_ids,
        )

    @cached_property
    def _own_embedder(self) -> Embedder:
        return self._embedder(own_token=True)

    @cached_property
    def _occurrences(self) -> Occurrences:
        text, distinct = self.text, self.config.context_rule != "authors"
        return Occurrences(
            text.token_rows, text.vocabulary, self.config.seed, text.excluded, distinct=distinct
        )

    @cached_property
    def _null(self) -> MatchedNull:
        return matched_null(
            self._own_embedder,
            self.text.token_rows,
            self.text.vocabulary,
            self.config.contexts,
            self.config.seed,
            excluded=self.text.excluded,
        )
