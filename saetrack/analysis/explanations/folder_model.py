"""An LM of a folder on this machine as the one who explains and judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saetrack.analysis.explanations.model import Meter, Reply
from saetrack.analysis.explanations.questions import MAX_TOKENS, Messages, Question

if TYPE_CHECKING:
    from saetrack.lm.chat import ChatLM


class FolderModel:
    """See `saetrack.analysis.explanations.model.Model`."""

    at_once = 1
    is_rules = False

    def __init__(self, lm: ChatLM, meter: Meter) -> None:
        """Of a loaded LM; the meter counts and bounds what it is asked."""
        self._lm = lm
        self._meter = meter

    @property
    def name(self) -> str:
        """The folder's."""
        return self._lm.name

    @property
    def identity(self) -> dict[str, Any]:
        """Of its weights."""
        return {"sha256": self._lm.sha256, "max": MAX_TOKENS}

    def give_up(self) -> None:
        """See `Model`: there is nothing that could go on."""

    def answer(self, question: Question, messages: Messages) -> Reply:
        """What the LM says.

        Raises:
            UserError: the question is longer than it reads, or the budget is used up.
        """
        self._meter.begin_request()
        said = self._lm.say(messages, MAX_TOKENS[question.kind])
        self._meter.count(said.tokens_in, said.tokens_out)
        return Reply(*said)
