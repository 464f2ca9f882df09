"""An endpoint that answers, fails, stalls and lies; the key is seen by it alone."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from saetrack.analysis.explanations.asking import Asker
from saetrack.analysis.explanations.cache import AnswerCache
from saetrack.analysis.explanations.endpoint import TRIES, Endpoint
from saetrack.analysis.explanations.examples import Text
from saetrack.analysis.explanations.model import Budget, Meter, Prices
from saetrack.analysis.explanations.questions import Question
from saetrack.utils.errors import UserError
from tests.support.chat_server import KEY, ChatServer

VOCABULARY = [" the", " river", " «bank»", "\n"]
FITS = Text(0, 0, (0, 1), (False, False))
OTHER = Text(1, 0, (0, 2), (False, False))


def question(number: int = 0, texts: tuple[Text, ...] = (FITS, OTHER, FITS)) -> Question:
    truth = tuple(text is FITS for text in texts)
    return Question("detection", number, 0, 0, texts, truth, f"{number}: the word river")


def endpoint_of(server: ChatServer, meter: Meter | None = None, **changes: Any) -> Endpoint:
    given = {"at_once": 4, "timeout_s": 5.0, **changes}
    key = SecretStr(KEY)
    return Endpoint(server.url, "a-model", key, meter or Meter(), **given)


def asker_of(server: ChatServer, cache_dir: Path, **given: Any) -> Asker:
    endpoint = endpoint_of(server, **given)
    return Asker(endpoint, VOCABULARY, AnswerCache(cache_dir, endpoint.identity))


def test_a_question_is_asked_once_and_its_answer_kept(server: ChatServer, tmp_path: Path) -> None:
    asker = asker_of(server, tmp_path)
    assert asker.ask(question()).verdicts == (True, False, True)
    assert not asker.is_kept(question(1))
    assert asker_of(server, tmp_path).ask(question()).verdicts == (True, False, True)
    assert asker.is_kept(question())
    (body,) = server.asked
    assert body["model"] == "a-model" and body["temperature"] == 0
    assert server.keys == [f"Bearer {KEY}"]
    asked = body["messages"][-1]["content"].splitlines()
    assert asked[2:] == ['1: " the river"', '2: " the <bank>"', '3: " the river"']


def test_another_model_is_asked_anew(server: ChatServer, tmp_path: Path) -> None:
    asker_of(server, tmp_path).ask(question())
    other = Endpoint(server.url, "b-model", None, Meter(), at_once=1, timeout_s=5.0)
    Asker(other, VOCABULARY, AnswerCache(tmp_path, other.identity)).ask(question())
    assert [body["model"] for body in server.asked] == ["a-model", "b-model"]
    assert server.keys[1] == "", "without a key none is sent, nor a password that a file may have"


@pytest.mark.parametrize("fault", ["500", "503", "408", "no JSON", "no completion"])
def test_what_may_pass_is_asked_again(
    server: ChatServer, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = [fault] * (TRIES - 1)
    with caplog.at_level(logging.INFO):
        assert asker_of(server, tmp_path).ask(question()).verdicts == (True, False, True)
    assert len(server.asked) == TRIES
    assert len(caplog.messages) == TRIES - 1 and KEY not in caplog.text
    server.faults = [fault] * TRIES
    with pytest.raises(UserError, match=f"try {TRIES} of {TRIES}.*goes on from them"):
        asker_of(server, tmp_path / "other").ask(question())


@pytest.mark.parametrize("fault", ["stalls", "drips"])
def test_whoever_stalls_is_given_up(server: ChatServer, tmp_path: Path, fault: str) -> None:
    server.faults = [fault]
    began_s = time.monotonic()
    found = asker_of(server, tmp_path, timeout_s=0.2).ask(question())
    assert found.verdicts == (True, False, True)
    assert 0.2 < time.monotonic() - began_s < 3 and len(server.asked) == 2


def test_a_busy_server_is_waited_for_as_long_as_it_says(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(Endpoint, "_sleep", lambda endpoint, wait_s: slept.append(wait_s))
    server.faults, server.retry_after = ["429"], "17"
    asker = asker_of(server, tmp_path)
    assert asker.ask(question()).verdicts == (True, False, True)
    assert 17 in slept
    assert 16 < slept[-1] <= 17, "whatever is asked next waits too"
    server.faults = ["429"]
    server.retry_after = format_datetime(datetime.now(UTC) + timedelta(minutes=2), usegmt=True)
    asker_of(server, tmp_path).ask(question(1))
    assert 118 <= max(slept) <= 120
    server.faults, server.retry_after = ["429"], "100000"
    with pytest.raises(UserError, match="answers 429, and asks to wait 27 h 46 min"):
        asker_of(server, tmp_path).ask(question(2))
    server.faults, server.retry_after = ["429"], "soon"
    assert asker_of(server, tmp_path).ask(question(3)).verdicts is not None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("401", "answers 401: it wants another SAETRACK_EXPLAINER_API_KEY"),
        ("302", "answers 302: it leads elsewhere, and the key does not follow"),
        ("404", r"answers 404 for SAETRACK_EXPLAINER_MODEL='a-model': 'no: Bearer \*\*\*'"),
        ("301", "answers 301"),
    ],
)
def test_a_refusal_is_one_line_at_once(
    server: ChatServer, tmp_path: Path, fault: str, said: str
) -> None:
    server.faults = [fault]
    with pytest.raises(UserError, match=said) as caught:
        asker_of(server, tmp_path).ask(question())
    assert len(server.asked) == 1
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)


def test_an_answer_in_another_form_is_asked_for_again_and_then_missing(
    server: ChatServer, tmp_path: Path
) -> None:
    server.faults = ["words", "too few"]
    asker = asker_of(server, tmp_path)
    assert asker.ask(question()).verdicts == (True, False, True)
    server.faults = ["words", "words", "too few"]
    found = asker.ask(question(1))
    assert found.verdicts is None and found.problem == "has 1 answers, not 3"
    asked = len(server.asked)
    assert asker.ask(question(1)) == found
    assert len(server.asked) == asked == 6, "what was paid for is kept, whatever it says"


def test_a_model_that_answers_in_another_form_ends_the_run(
    server: ChatServer, tmp_path: Path
) -> None:
    server.faults = ["words"] * 1000
    with pytest.raises(UserError, match=r"20 of 20 answers are not in the form.*another model"):
        list(asker_of(server, tmp_path).ask_all(question(number) for number in range(60)))


def test_the_key_is_in_no_answer_that_is_kept(server: ChatServer, tmp_path: Path) -> None:
    server.faults = ["says the key"]
    found = asker_of(server, tmp_path).ask(question())
    assert "***" in found.reply.text
    assert all(KEY not in path.read_text() for path in tmp_path.rglob("*.json"))
    assert KEY not in repr(vars(asker_of(server, tmp_path).model))


def test_questions_are_asked_several_at_a_time_and_answered_in_order(
    server: ChatServer, tmp_path: Path
) -> None:
    server.before = lambda number: time.sleep(0.02)
    asker = asker_of(server, tmp_path, at_once=3)
    found = list(asker.ask_all(question(number) for number in range(20)))
    assert [one.question.feature for one in found] == list(range(20))
    assert server.most_at_once == 3


def test_one_that_is_refused_ends_all(server: ChatServer, tmp_path: Path) -> None:
    server.faults = ["401"] * 1000
    began_s = time.monotonic()
    with pytest.raises(UserError, match="answers 401"):
        list(asker_of(server, tmp_path).ask_all(question(number) for number in range(500)))
    assert len(server.asked) < 50 and time.monotonic() - began_s < 3


def test_a_run_that_has_ended_asks_nothing_more(server: ChatServer, tmp_path: Path) -> None:
    server.faults, server.retry_after = ["429", "401"] + ["429"] * 100, "30"
    began_s = time.monotonic()
    with pytest.raises(UserError, match="answers 401"):
        list(asker_of(server, tmp_path).ask_all(question(number) for number in range(4)))
    assert time.monotonic() - began_s < 3, "whoever waits to ask again gives up"
    asked = len(server.asked)
    time.sleep(0.1)
    assert len(server.asked) == asked


def test_repeated_requests_count_and_the_budget_ends_them(
    server: ChatServer, tmp_path: Path
) -> None:
    meter = Meter(Budget(requests=4), Prices(10, 20))
    asker = asker_of(server, tmp_path, meter=meter)
    server.faults = ["500"]
    asker.ask(question())
    assert (meter.requests, meter.tokens_in, meter.tokens_out) == (2, 100, 10)
    assert meter.money == pytest.approx((100 * 10 + 10 * 20) / 1e6)
    server.faults = ["500"] * 9
    with pytest.raises(UserError, match=r"budget_requests=4: 5 were used.*larger budget"):
        asker.ask(question(1))
    assert len(server.asked) == 4


@pytest.mark.parametrize("damage", [b"", b"{", b'{"text": 1}', b"[]"])
def test_a_damaged_answer_is_asked_for_again(
    server: ChatServer, tmp_path: Path, damage: bytes
) -> None:
    asker = asker_of(server, tmp_path)
    asker.ask(question())
    (path,) = tmp_path.rglob("*.json")
    path.write_bytes(damage)
    assert asker.ask(question()).verdicts == (True, False, True)
    assert json.loads(path.read_bytes())["tokens_in"] == 100
