"""What a run will cost, before anything is sent."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from saetrack.analysis.explanations.model import Budget, Prices, estimated_tokens
from saetrack.analysis.explanations.questions import Explanation, Question
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from saetrack.analysis.explanations.asking import Asker
    from saetrack.analysis.explanations.run import ExplanationRun

# What stands for an explanation that is not there yet, and the tokens of one, and of a verdict.
UNKNOWN = Explanation("x" * 200, "contextual")
TOKENS_OF_EXPLANATION, TOKENS_OF_VERDICT, TOKENS_AROUND = 60, 3, 10


@dataclass(frozen=True)
class Cost:
    """What is still to be sent.

    Attributes:
        explanations: questions for one.
        judgements: questions about one.
        kept: questions whose answers are in the cache already.
        tokens_in: estimate of what is sent.
        tokens_out: estimate of what comes back.
    """

    explanations: int
    judgements: int
    kept: int
    tokens_in: int
    tokens_out: int

    def __add__(self, other: Cost) -> Cost:
        """Of two parts of a run."""
        return Cost(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def requests(self) -> int:
        """That are sent if none has to be repeated."""
        return self.explanations + self.judgements

    def require_within(self, budget: Budget, prices: Prices) -> None:
        """Refuse what is too much, before any of it is sent.

        Raises:
            UserError: which limit, and what would be needed.
        """
        money = prices.money(self.tokens_in, self.tokens_out)
        over = budget.excess(self.requests, self.tokens_in + self.tokens_out, money)
        if over is not None:
            raise UserError(f"{over} would be needed; explain fewer features, or raise the budget")

    def lines(self, prices: Prices, *, is_priced: bool = True) -> list[str]:
        """As a person reads it.

        Args:
            prices: of tokens.
            is_priced: whether somebody may ask for money: no LM of this machine does.
        """
        found = [
            f"requests: {self.requests:,} ({self._parts})",
            f"answered before: {self.kept:,}",
            f"tokens: about {self.tokens_in:,} in and {self.tokens_out:,} out",
        ]
        money = prices.money(self.tokens_in, self.tokens_out)
        if money is not None:
            found.append(
                f"money: about {money:,.2f}, at {prices.tokens_in:g} and {prices.tokens_out:g} a "
                "million"
            )
        elif is_priced:
            found.append("money: give the prices of a million tokens (--price-in, --price-out)")
        return found

    def line_of_rules(self) -> str:
        """The same where rules answer: nothing is sent, and nothing is kept."""
        return f"questions: {self.requests:,} ({self._parts}); rules answer them, nothing is sent"

    @property
    def _parts(self) -> str:
        parts = f"{self.explanations:,} to explain, {self.judgements:,} to judge at every link"
        return f"{parts}, controls included"


def cost_of(run: ExplanationRun, asker: Asker) -> Cost:
    """Count all questions of a run that the cache does not answer."""
    said = {
        target: asker.ask(question).explanation
        for target, question in run.explaining.items()
        if asker.is_kept(question)
    }
    known = {target: one for target, one in said.items() if one is not None}
    all_of_them = {
        target: known.get(target, UNKNOWN) for target in run.explaining if said.get(target, 1)
    }
    unasked = [one for target, one in run.explaining.items() if target not in said]
    judging = (
        question
        for one in run.with_others(all_of_them)
        for link in range(len(run.store.manifest.links))
        for question in run.judging(one, link, run.judged(one, link))
    )
    explaining = _counted(unasked, asker)
    judged = _counted(judging, asker)
    return Cost(
        explaining[0],
        judged[0],
        len(said) + judged[1],
        explaining[2] + judged[2],
        explaining[3] + judged[3],
    )


def _counted(questions: Iterable[Question], asker: Asker) -> tuple[int, int, int, int]:
    """Questions that are to be asked and that are answered, tokens in and out of the former."""
    to_ask = kept = tokens_in = tokens_out = 0
    for question in questions:
        if question.explanation != UNKNOWN.text and asker.is_kept(question):
            kept += 1
            continue
        to_ask += 1
        tokens_in += estimated_tokens(asker.messages_of(question))
        tokens_out += TOKENS_AROUND + (
            TOKENS_OF_EXPLANATION
            if question.kind == "explain"
            else TOKENS_OF_VERDICT * len(question.texts)
        )
    return to_ask, kept, tokens_in, tokens_out
