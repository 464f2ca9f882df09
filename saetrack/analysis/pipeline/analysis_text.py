"""The text that an analysis reads: the rows of the corpus' analysis split, and its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from saetrack.analysis.contexts.datapoints import token_ids_at
from saetrack.analysis.contexts.token_purity import VocabularyForms, mapped, vocabulary_forms
from saetrack.analysis.contexts.top_contexts import Contexts
from saetrack.analysis.life_store.records import Text
from saetrack.analysis.meaning.determinism import TokenStatistics
from saetrack.data.exclusion import NOTHING, Excluded
from saetrack.lm.token_texts import text_of, texts_alone

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

    from saetrack.analysis.pipeline.config import AnalyzeConfig
    from saetrack.analysis.pipeline.registered_chain import RegisteredChain

# That the page names.
SHOWN_TOKENS = 5


def left_out(registered: RegisteredChain, config: AnalyzeConfig) -> Excluded:
    """What an analysis leaves out: what training did, and BOS if asked."""
    chain = registered.chain
    exclude_bos = config.leaves_bos_out or chain.config.corpus.exclude_bos
    return chain.corpus.left_out(exclude_bos=exclude_bos)


@dataclass(frozen=True)
class AnalysisText:
    """Rows of tokens, and what tokens are as text.

    Attributes:
        token_rows: of the analysis split, (rows, context_size).
        excluded: positions that are left out.
        tokenizer: of the LM.
        not_trained_on: positions that are left out because no SAE was trained on them.
        bos_token_id: of the LM.
    """

    token_rows: Int[np.ndarray, "rows context"]
    excluded: Excluded
    tokenizer: Any
    not_trained_on: Excluded = NOTHING
    bos_token_id: int | None = None

    @classmethod
    def of(cls, registered: RegisteredChain, config: AnalyzeConfig) -> AnalysisText:
        """The text of a chain's corpus, in its LM's tokens."""
        rows = registered.chain.corpus.rows("analysis")
        tokenizer, _ = registered.ready.source.tokenizer()
        corpus = registered.chain.corpus
        not_trained_on = corpus.left_out(exclude_bos=registered.chain.config.corpus.exclude_bos)
        excluded = left_out(registered, config)
        return cls(rows, excluded, tokenizer, not_trained_on, corpus.bos_token_id)

    @property
    def is_bos(self) -> Bool[np.ndarray, "rows context"]:
        """Where the rows have BOS."""
        return np.asarray(self.token_rows == self.bos_token_id)

    def left_out_line(self) -> str:
        """Which positions of the rows take no part, a sentence behind a blank; or nothing."""
        excluded = self.excluded
        what = [repr(self.decode([token])) for token in excluded.token_ids[:SHOWN_TOKENS]]
        if (more := len(excluded.token_ids) - SHOWN_TOKENS) > 0:
            what.append(f"{more} more tokens")
        if excluded.first_positions:
            what.append(f"the first {excluded.first_positions} of each row")
        if not what:
            return ""
        share = 1 - float(excluded.kept_in(self.token_rows).mean())
        return f" Positions left out: {100 * share:.1f} % ({', '.join(what)})."

    def decode(self, token_ids: list[int]) -> str:
        """Tokens as text."""
        return text_of(self.tokenizer, token_ids)

    @cached_property
    def texts(self) -> list[str]:
        """Each of the LM's tokens alone as text, as pages show it."""
        return texts_alone(self.tokenizer, range(self.vocabulary))

    @property
    def vocabulary(self) -> int:
        """Tokens that there are."""
        return len(self.tokenizer)

    @cached_property
    def forms(self) -> VocabularyForms:
        """Which of the LM's tokens count as the same text or stem."""
        return vocabulary_forms(self.texts)

    @cached_property
    def of_store(self) -> Text:
        """What life stores are made from."""
        return Text(self.token_rows, self.excluded, self.vocabulary)

    @cached_property
    def statistics(self) -> TokenStatistics:
        """What tokens explain of features on this text."""
        return TokenStatistics(self.token_rows, self.vocabulary, self.excluded)

    def token_ids(self, contexts: Contexts) -> Int[np.ndarray, "features k"]:
        """The token of each context; -1 fills up."""
        return token_ids_at(self.token_rows, contexts.rows, contexts.positions)

    def text_ids(self, contexts: Contexts) -> Int[np.ndarray, "features k"]:
        """The normalised text of each context's token; -1 fills up."""
        return mapped(self.token_ids(contexts), self.forms.text_ids)
