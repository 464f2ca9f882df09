"""A model behind an address that speaks as OpenAI's `/chat/completions` does.

Busy, broken, silent and lying servers are asked again, after as long as they say, or longer each
time. The key goes into one header of a request and nowhere else: should a server repeat it, it is
masked.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as NoAnswer

from saetrack.analysis.explanations.model import Meter, Reply, estimated_tokens
from saetrack.analysis.explanations.questions import MAX_TOKENS, Messages, Question
from saetrack.utils.errors import UserError, shown
from saetrack.utils.progress import duration

if TYPE_CHECKING:
    from pydantic import SecretStr

log = logging.getLogger(__name__)

TRIES = 6
# Seconds before the second try, which double for each one after, and the longest wait. A server
# that asks for more than MAX_WAIT_S is asked again by hand.
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 300.0
MAX_BYTES = 4 * 2**20  # of an answer
AGAIN = {408, 409, 425, 429}  # and all from 500 on
MASK, SHORTEST_KEY = "***", 6  # a shorter one would be found in any text


class _Again(Exception):  # noqa: N818  (it is no error)
    """A try that failed, and what may go better the next time."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Key(AuthBase):
    """Puts the key into a request's header; without one, requests would look for a password."""

    def __init__(self, key: SecretStr | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return request


class Endpoint:
    """See `saetrack.analysis.explanations.model.Model`. Threads may ask at the same time."""

    is_rules = False

    def __init__(
        self,
        url: str,
        model: str,
        key: SecretStr | None,
        meter: Meter,
        *,
        at_once: int,
        timeout_s: float,
    ) -> None:
        """Asks nothing yet.

        Args:
            url: without `/chat/completions`.
            model: as the endpoint names it.
            key: that lets us in; None: the endpoint asks for none.
            meter: which counts and bounds requests.
            at_once: requests at the same time.
            timeout_s: for a whole answer.
        """
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._model = model
        self._key = key
        self._meter = meter
        self._timeout_s = timeout_s
        self._of_thread = threading.local()
        self._not_before_s = 0.0  # of the monotonic clock; all threads wait for it
        self._given_up = threading.Event()
        self.at_once = at_once

    @property
    def name(self) -> str:
        """The model's."""
        return self._model

    @property
    def identity(self) -> dict[str, Any]:
        """Of the model behind its address, and how it is asked."""
        return {"url": self._url, "model": self._model, "temperature": 0, "max": MAX_TOKENS}

    def answer(self, question: Question, messages: Messages) -> Reply:
        """The answer to a question.

        Raises:
            UserError: in one line: no answer after several tries, one that says why, or the budget
                is used up.
        """
        body = {
            "model": self._model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": MAX_TOKENS[question.kind],
        }
        for number in range(1, TRIES + 1):
            self._sleep(self._not_before_s - time.monotonic())
            self._meter.begin_request()
            try:
                reply = self._reply(self._sent(body), messages)
            except _Again as failed:
                self._wait(failed, number)
            else:
                self._meter.count(reply.tokens_in, reply.tokens_out)
                return reply
        raise AssertionError("the last try returns or raises")

    def give_up(self) -> None:
        """See `Model`: what is waited for or tried again ends."""
        self._given_up.set()

    def _sleep(self, wait_s: float) -> None:
        """Wait.

        Raises:
            UserError: nobody wants the answer any more.
        """
        if self._given_up.wait(max(wait_s, 0)):
            raise UserError(f"{self._url}: is not asked again: the run has ended")

    def _wait(self, failed: _Again, number: int) -> None:
        """Wait before the next try.

        Raises:
            UserError: it was the last one, or the server asks for too long a wait.
        """
        wait_s = FIRST_WAIT_S * 2 ** (number - 1) * random.uniform(0.8, 1.2)  # noqa: S311
        wait_s = wait_s if failed.wait_s is None else failed.wait_s
        if number == TRIES or wait_s > MAX_WAIT_S:
            until = f", and asks to wait {duration(wait_s)}" if wait_s > MAX_WAIT_S else ""
            raise UserError(
                f"{self._url}: {failed}{until} (try {number} of {TRIES}); answers so far are kept, "
                "and the same command goes on from them"
            )
        if not self._given_up.is_set():
            log.info("%s: %s; again in %s", self._url, failed, duration(wait_s))
        if failed.wait_s is not None:
            self._not_before_s = max(self._not_before_s, time.monotonic() + wait_s)
        self._sleep(wait_s)

    def _sent(self, body: dict[str, Any]) -> bytes:
        """The body of the answer to a request.

        Raises:
            _Again: it failed in a way that may pass.
            UserError: the endpoint refuses it.
        """
        deadline_s = time.monotonic() + self._timeout_s
        try:
            with self._session().post(
                self._url,
                json=body,
                auth=_Key(self._key),
                timeout=self._timeout_s,
                allow_redirects=False,  # the key is for this address alone
                stream=True,
            ) as response:
                content = bytearray()
                # Piece by piece as they come: a server may send one byte at a time.
                while piece := response.raw.read1(2**16, decode_content=True):
                    content += piece
                    if time.monotonic() > deadline_s:
                        raise _Again(f"no whole answer in {duration(self._timeout_s)}")
                    if len(content) > MAX_BYTES:
                        raise _Again(f"an answer of more than {MAX_BYTES:,} bytes")
        except (requests.Timeout, NoAnswer):
            raise _Again(f"no answer in {duration(self._timeout_s)}") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
            raise UserError(f"SAETRACK_EXPLAINER_URL={self._url!r}: is no address") from None
        except (requests.RequestException, HTTPError) as error:
            raise _Again(f"no answer ({type(error).__name__})") from None
        self._require_success(response, bytes(content))
        return bytes(content)

    def _require_success(self, response: requests.Response, content: bytes) -> None:
        status = response.status_code
        if status == 200:
            return
        if status in AGAIN or status >= 500:
            raise _Again(f"answers {status}", _wait_asked_for(response))
        if status in {401, 403}:
            raise UserError(
                f"{self._url}: answers {status}: it wants another SAETRACK_EXPLAINER_API_KEY"
            )
        if 300 <= status < 400:
            raise UserError(
                f"{self._url}: answers {status}: it leads elsewhere, and the key does not follow; "
                "set SAETRACK_EXPLAINER_URL to that address"
            )
        said = self._masked(_message_in(content))  # before it is cut
        raise UserError(
            f"{self._url}: answers {status} for SAETRACK_EXPLAINER_MODEL={self._model!r}"
            f"{': ' if said else ''}{shown(said, 200) if said else ''}"
        )

    def _reply(self, content: bytes, messages: Messages) -> Reply:
        """What is said in a body.

        Raises:
            _Again: it is not as such an answer is.
        """
        try:
            found = json.loads(content)
            text = found["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            raise _Again("answers something else than a completion") from None
        if not isinstance(text, str):
            raise _Again("answers something else than a completion")
        usage = found.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        said_in = _count(usage.get("prompt_tokens"), estimated_tokens(messages))
        said_out = _count(
            usage.get("completion_tokens"), estimated_tokens([{"role": "", "content": text}])
        )
        return Reply(self._masked(text), said_in, said_out)

    def _masked(self, text: str) -> str:
        """A text without the key."""
        key = self._key.get_secret_value() if self._key is not None else ""
        return text.replace(key, MASK) if len(key) >= SHORTEST_KEY else text

    def _session(self) -> requests.Session:
        """One for each thread: they are not made to be shared."""
        if not hasattr(self._of_thread, "session"):
            self._of_thread.session = requests.Session()
        session: requests.Session = self._of_thread.session
        return session


def _message_in(content: bytes) -> str:
    """What a refusal says; nothing if that cannot be read."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        return str(json.loads(content)["error"]["message"])
    return ""


def _wait_asked_for(response: requests.Response) -> float | None:
    """Seconds that a server asks to wait; None if it does not."""
    asked = response.headers.get("Retry-After", "")
    if asked.isdigit():
        return float(asked)
    with contextlib.suppress(ValueError, TypeError):
        return max((parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds(), 0.0)
    return None


def _count(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and value >= 0 else otherwise
