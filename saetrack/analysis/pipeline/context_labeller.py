"""What contexts mean: labels under thresholds that are the same for all checkpoints of a chain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from saetrack.analysis.contexts.top_contexts import Contexts
from saetrack.analysis.meaning.coherence import (
    MatchedNull,
    coherence,
    likeness,
    matched_null,
    window_embedder,
)
from saetrack.analysis.meaning.labels import COHERENCE_Z, classify
from saetrack.analysis.pipeline.analysis_text import AnalysisText
from saetrack.analysis.pipeline.config import AnalyzeConfig

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.analysis.meaning.coherence import Embedder

# A concept is more coherent than this share of random directions: their strongest contexts are
# alike too, far beyond random contexts, and a fixed threshold would call most of them concepts.
CONCEPT_QUANTILE = 0.95


@dataclass(frozen=True)
class ContextLabeller:
    """Labels features by their top contexts.

    Attributes:
        config: of the analysis.
        text: that the contexts lie in.
        token_embeddings: the final LM's input embedding, which measures coherence at every
            checkpoint, (vocabulary, width).
        of_directions: top contexts of random directions at the final checkpoint.
    """

    config: AnalyzeConfig
    text: AnalysisText
    token_embeddings: Float[Tensor, "vocabulary width"]
    of_directions: Contexts

    @cached_property
    def min_coherence_z(self) -> float:
        """Of a concept, which must lie above what random directions reach."""
        of_directions = self._coherence(self.of_directions)
        reached = of_directions["coherence_z"].quantile(CONCEPT_QUANTILE)
        return max(COHERENCE_Z, float(reached))

    def labels(self, contexts: Contexts, status: pd.DataFrame) -> pd.DataFrame:
        """What each feature means, as `saetrack.analysis.meaning.labels.classify` gives it."""
        return classify(
            self.text.token_ids(contexts),
            self.text.forms,
            status["status"],
            self._coherence(contexts),
            self.config.contexts,
            self.min_coherence_z,
        )

    def likeness_without_own_token(
        self, contexts: Contexts, features: Int[np.ndarray, " chosen"]
    ) -> Float[np.ndarray, " chosen"]:
        """How alike the contexts of some features are, their own tokens left out."""
        embedder = self._embedder(own_token=False)
        return likeness(embedder, contexts.rows[features], contexts.positions[features])

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
    def _null(self) -> MatchedNull:
        return matched_null(
            self._own_embedder,
            self.text.token_rows,
            self.text.vocabulary,
            self.config.contexts,
            self.config.seed,
            excluded=self.text.excluded,
        )
