"""Whoever explains and judges: an endpoint, an LM in a folder, or rules."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Protocol

from saetrack.analysis.explanations.questions import Messages, Question
from saetrack.utils.errors import UserError

# Bytes of a token, at the least: an estimate that is rather too high than too low.
BYTES_PER_TOKEN = 3


@dataclass(frozen=True)
class Reply:
    """What was said to a question.

    Attributes:
        text: of it.
        tokens_in: of the question, as the endpoint counts them, or estimated.
        tokens_out: of the reply.
    """

    text: str
    tokens_in: int
    tokens_out: int


class Model(Protocol):
    """Answers questions.

    Attributes:
        name: as tables and figures show it.
        identity: of it, from which a cached answer is found again; without secrets.
        at_once: how many questions it takes at the same time.
        is_rules: it asks nobody: answers cost nothing and are not kept.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def identity(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def at_once(self) -> int: ...  # noqa: D102
    @property
    def is_rules(self) -> bool: ...  # noqa: D102

    def answer(self, question: Question, messages: Messages) -> Reply:
        """The answer to a question, whatever its form.

        Raises:
            UserError: in one line: there is none to be had, or the budget is used up.
        """

    def give_up(self) -> None:
        """Ask nothing more, in no thread: the run that wanted the answers has ended."""


@dataclass(frozen=True)
class Prices:
    """Money for a million tokens, in any currency; None: not known."""

    tokens_in: float | None = None
    tokens_out: float | None = None

    def money(self, tokens_in: int, tokens_out: int) -> float | None:
        """What tokens cost."""
        if self.tokens_in is None or self.tokens_out is None:
            return None
        return (tokens_in * self.tokens_in + tokens_out * self.tokens_out) / 1e6


@dataclass(frozen=True)
class Budget:
    """What a run may cost; None: no limit."""

    requests: int | None = None
    tokens: int | None = None
    money: float | None = None

    def excess(self, requests: int, tokens: int, money: float | None) -> str | None:
        """What is over, as a beginning of a line; None if nothing is."""
        for name, value, limit in (
            ("budget_requests", requests, self.requests),
            ("budget_tokens", tokens, self.tokens),
            ("budget_money", money, self.money),
        ):
            if limit is not None and value is not None and value > limit:
                shown = f"{value:,.2f}" if name == "budget_money" else f"{value:,}"
                return f"{name}={limit:,}: {shown}"
        return None


@dataclass
class Meter:
    """What was sent and received so far; several threads count.

    Attributes:
        budget: that bounds it.
        prices: of tokens.
        requests: that were sent, repeated ones among them.
        tokens_in: that were sent.
        tokens_out: that came back.
    """

    budget: Budget = field(default_factory=Budget)
    prices: Prices = field(default_factory=Prices)
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def __post_init__(self) -> None:
        """Its lock."""
        self._lock = threading.Lock()

    @property
    def money(self) -> float | None:
        """What it cost; None without prices."""
        return self.prices.money(self.tokens_in, self.tokens_out)

    def begin_request(self) -> None:
        """Count a request before it is sent.

        Raises:
            UserError: the budget does not allow it.
        """
        with self._lock:
            tokens = self.tokens_in + self.tokens_out
            over = self.budget.excess(self.requests + 1, tokens, self.money)
            if over is not None:
                raise UserError(
                    f"{over} were used, with requests that had to be repeated; answers are kept, "
                    "and the same command with a larger budget goes on from them"
                )
            self.requests += 1

    def count(self, tokens_in: int, tokens_out: int) -> None:
        """Count the tokens of a request that was answered."""
        with self._lock:
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out


def estimated_tokens(messages: Messages) -> int:
    """Tokens of a question, rather too many than too few."""
    size = sum(len(message["content"].encode()) for message in messages)
    return -(-size // BYTES_PER_TOKEN)
