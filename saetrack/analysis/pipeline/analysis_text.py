"""The text that an analysis reads: the rows of the corpus' analysis split, and its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from saetrack.analysis.contexts.datapoints import token_ids_at
from saetrack.analysis.contexts.token_purity import VocabularyForms, mapped, vocabulary_forms
from saetrack.analysis.contexts.top_contexts import Contexts

if TYPE_CHECKING:
    from jaxtyping import Int

    from saetrack.analysis.pipeline.registered_chain import RegisteredChain


@dataclass(frozen=True)
class AnalysisText:
    """Rows of tokens, and what tokens are as text.

    Attributes:
        token_rows: of the analysis split, (rows, context_size).
        excluded_bos: id of the BOS token, whose positions are left out; None keeps them.
        tokenizer: of the LM.
    """

    token_rows: Int[np.ndarray, "rows context"]
    excluded_bos: int | None
    tokenizer: Any

    @classmethod
    def of(cls, registered: RegisteredChain, *, exclude_bos: bool) -> AnalysisText:
        """The text of a chain's corpus, in its LM's tokens."""
        corpus = registered.chain.corpus
        tokenizer, _ = registered.ready.source.tokenizer()
        return cls(corpus.rows("analysis"), corpus.bos_token_id if exclude_bos else None, tokenizer)

    def decode(self, token_ids: list[int]) -> str:
        """Tokens as text."""
        return str(self.tokenizer.decode(token_ids))

    @property
    def vocabulary(self) -> int:
        """Tokens that there are."""
        return len(self.tokenizer)

    @cached_property
    def forms(self) -> VocabularyForms:
        """Which of the LM's tokens count as the same text or stem."""
        return vocabulary_forms([self.decode([token]) for token in range(self.vocabulary)])

    def token_ids(self, contexts: Contexts) -> Int[np.ndarray, "features k"]:
        """The token of each context; -1 fills up."""
        return token_ids_at(self.token_rows, contexts.rows, contexts.positions)

    def text_ids(self, contexts: Contexts) -> Int[np.ndarray, "features k"]:
        """The normalised text of each context's token; -1 fills up."""
        return mapped(self.token_ids(contexts), self.forms.text_ids)
