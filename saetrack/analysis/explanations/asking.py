"""Asks many questions: from the cache where it has the answer, several at once, in their order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from queue import SimpleQueue
from typing import Any

from saetrack.analysis.explanations.cache import AnswerCache
from saetrack.analysis.explanations.model import Model, Reply
from saetrack.analysis.explanations.questions import (
    BadAnswer,
    Explanation,
    Messages,
    Question,
    messages_of,
    plain_texts,
    read_explanation,
    read_verdicts,
)
from saetrack.utils.errors import UserError

# How often a question is asked whose answer is not in the form that was asked for.
ATTEMPTS = 3
# With more questions than FEW, a run ends once more than this share of them has no answer.
FEW, MAX_UNANSWERED = 20, 0.5
# Questions that are made ahead of their turn, for each that is asked at a time.
AHEAD = 3
GRACE_S = 5.0


@dataclass(frozen=True)
class Answered:
    """A question with its answer.

    Attributes:
        question: that was asked.
        messages: in which it was asked.
        reply: to it, the last one if it was asked several times.
        explanation: if one was asked for; None if no answer had the right form.
        verdicts: of each text, if these were asked for; None likewise.
        problem: what was wrong with the last reply, in a line; empty if nothing was.
    """

    question: Question
    messages: Messages
    reply: Reply
    explanation: Explanation | None = None
    verdicts: tuple[bool, ...] | None = None
    problem: str = ""


@dataclass(frozen=True)
class Asker:
    """Asks a model.

    Attributes:
        model: that answers.
        vocabulary: the text of every token id.
        cache: of its answers; None: they are not kept.
    """

    model: Model
    vocabulary: Sequence[str]
    cache: AnswerCache | None

    def ask_all(self, questions: Iterable[Question]) -> Iterator[Answered]:
        """The answers to some questions, in their order.

        Yields:
            Each answer, as soon as those before it are there.

        Raises:
            UserError: in one line: the model cannot be asked, the budget is used up, or most
                answers are not in the form that was asked for.
        """
        unanswered = 0
        for asked, answered in enumerate(self._in_order(questions), start=1):
            unanswered += bool(answered.problem)
            if asked >= FEW and unanswered > MAX_UNANSWERED * asked:
                raise UserError(
                    f"{self.model.name}: {unanswered} of {asked} answers are not in the form that "
                    f"was asked for; the last one {answered.problem}; take another model"
                )
            yield answered

    def messages_of(self, question: Question) -> Messages:
        """A question as it is asked."""
        return messages_of(question, self._plain)

    def is_kept(self, question: Question) -> bool:
        """Whether the answer to a question costs nothing any more."""
        messages = self.messages_of(question)
        return self.cache is not None and self.cache.find(messages) is not None

    def ask(self, question: Question) -> Answered:
        """The answer to one question.

        Raises:
            UserError: as `ask_all`.
        """
        messages = self.messages_of(question)
        if self.cache is not None and (kept := self.cache.find(messages)) is not None:
            return _read(question, messages, kept)
        for attempt in range(1, ATTEMPTS + 1):
            answered = _read(question, messages, self.model.answer(question, messages))
            if not answered.problem or attempt == ATTEMPTS:
                break
        if self.cache is not None:
            self.cache.keep(messages, answered.reply)
        return answered

    @cached_property
    def _plain(self) -> list[str]:
        return plain_texts(self.vocabulary)

    def _in_order(self, questions: Iterable[Question]) -> Iterator[Answered]:
        if self.model.at_once == 1:
            yield from map(self.ask, questions)
            return
        with _threads(self.model, self.ask) as submit:
            waiting: deque[Future[Answered]] = deque()
            for question in questions:
                waiting.append(submit(question))
                if len(waiting) >= AHEAD * self.model.at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


@contextmanager
def _threads(
    model: Model, ask: Callable[[Question], Answered]
) -> Iterator[Callable[[Question], Future[Answered]]]:
    """Threads that answer questions, as many as the model takes.

    If the block ends in an error, they have `GRACE_S` to keep what was paid for already, and ask
    nothing more. They end with the process, as those of `concurrent.futures` do not: Ctrl-C does
    not wait for an endpoint that stalls.
    """
    workers = _Workers(model, ask)
    try:
        yield workers.submit
    except Exception as error:
        workers.give_up()
        raise next(iter(workers.failures), error) from None  # the others say that the run ended
    except BaseException:
        model.give_up()
        raise
    finally:
        workers.end()


class _Workers:
    """See `_threads`.

    Attributes:
        failures: of questions, the first one first.
    """

    def __init__(self, model: Model, ask: Callable[[Question], Answered]) -> None:
        self.failures: list[BaseException] = []
        self._model, self._ask = model, ask
        self._jobs: SimpleQueue[tuple[Future[Answered], Question] | None] = SimpleQueue()
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(model.at_once)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, question: Question) -> Future[Answered]:
        future: Future[Answered] = Future()
        self._jobs.put((future, question))
        return future

    def give_up(self) -> None:
        """Ask nothing more, and wait for what is being answered."""
        self._model.give_up()
        self.end()
        until_s = time.monotonic() + GRACE_S
        for thread in self._threads:
            thread.join(max(until_s - time.monotonic(), 0))

    def end(self) -> None:
        self._is_over.set()
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._is_over.is_set():
            future, question = job
            try:
                future.set_result(self._ask(question))
            except BaseException as error:
                self.failures.append(error)
                self._model.give_up()  # whoever waits for an earlier question need not ask again
                future.set_exception(error)


def _read(question: Question, messages: Messages, reply: Reply) -> Answered:
    found: dict[str, Any]
    try:
        if question.kind == "explain":
            found = {"explanation": read_explanation(reply.text)}
        else:
            found = {"verdicts": read_verdicts(reply.text, len(question.texts))}
    except BadAnswer as error:
        found = {"problem": str(error)}
    return Answered(question, messages, reply, **found)
