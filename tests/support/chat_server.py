"""An endpoint as OpenAI's on this machine, that answers by rules, and misbehaves when told to."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.in_threads import serving

KEY = "sk-a-key-that-nobody-may-see"
Fault = str  # a name of FAULTS


@dataclass
class ChatServer:
    """What the server is to do, and what it was asked.

    Attributes:
        faults: of the next requests, in their order; others are answered.
        asked: the bodies of all requests.
        answered: the messages of those that were answered as they should be.
        keys: their headers of authorisation.
        retry_after: of an answer 429.
        most_at_once: requests that were answered at the same time, at most.
        go_on: set to end all stalls.
        before: called with each request, before it is answered.
    """

    faults: list[Fault] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    retry_after: str = "0"
    most_at_once: int = 0
    go_on: threading.Event = field(default_factory=threading.Event)
    before: Callable[[int], None] = lambda number: None
    port: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """As SAETRACK_EXPLAINER_URL has it."""
        return f"http://127.0.0.1:{self.port}/v1"


@contextlib.contextmanager
def serve_chat() -> Iterator[ChatServer]:
    """Run the server in threads of this process."""
    told = ChatServer()
    with serving(type("Handler", (_Handler,), {"told": told}), told.go_on) as told.port:
        yield told


def said_by_rule(system: str, user: str) -> str:
    """What a model says that understands one thing: which word is marked most often."""
    if '"label"' in system:
        marked = Counter(re.findall(r"« ?(\w+)»", user))
        return json.dumps(
            {"explanation": f"the word {marked.most_common(1)[0][0]}", "label": "token"}
        )
    word = user.splitlines()[0].rpartition(" ")[2].strip('"')
    texts = re.findall(r'^\d+: (".*")$', user, re.MULTILINE)
    wanted = rf"« {word}»" if "«" in system else rf" {word}\b"
    return json.dumps({"answers": [int(bool(re.search(wanted, text))) for text in texts]})


def _completion(text: str) -> dict[str, Any]:
    return {
        "choices": [{"message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }


class _Handler(BaseHTTPRequestHandler):
    told: ChatServer

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        told = self.told
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with told.lock:
            told.asked.append(body)
            told.keys.append(self.headers.get("Authorization", ""))
            fault = told.faults.pop(0) if told.faults else ""
            told.at_once += 1
            told.most_at_once = max(told.most_at_once, told.at_once)
            number = len(told.asked)
        try:
            told.before(number)
            self._answer(fault, body)
        finally:
            with told.lock:
                told.at_once -= 1

    def _answer(self, fault: Fault, body: dict[str, Any]) -> None:
        system, user = (message["content"] for message in body["messages"])
        said = said_by_rule(system, user)
        status = int(fault) if fault.isdigit() else 200
        if not fault:
            self.told.answered.append(json.dumps(body["messages"]))
        if fault == "stalls":
            self.told.go_on.wait(20)
            return
        answers: dict[str, Any] = {
            "": _completion(said),
            "no completion": {"object": "list"},
            "words": _completion("I cannot say that."),
            "too few": _completion('{"answers": [1]}'),
            "says the key": _completion(f"{said} {self.headers.get('Authorization')}"),
        }
        refusal = {"error": {"message": f"no: {self.headers.get('Authorization')}"}}
        content = json.dumps(
            refusal if status != 200 else answers.get(fault, _completion(said))
        ).encode()
        if fault == "no JSON":
            content = b"<html>a proxy</html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if status == 429:
            self.send_header("Retry-After", self.told.retry_after)
        self.end_headers()
        pieces = (
            [content[i : i + 1] for i in range(len(content))] if fault == "drips" else [content]
        )
        with contextlib.suppress(OSError):  # whoever asked has gone
            for piece in pieces:
                self.wfile.write(piece)
                if fault == "drips" and self.told.go_on.wait(0.05):
                    return
