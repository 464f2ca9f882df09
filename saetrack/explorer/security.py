"""Who may ask: this machine, or whoever has the servers' user and password; and what pages may do.

On a loopback address a page of another site could still reach the server by a name of its own that
it lets point there (DNS rebinding): requests must be addressed to a loopback's name. Elsewhere each
request needs the password, which such a page cannot have.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saetrack.utils.credentials import is_loopback

POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Turns away who may not ask, and gives every answer the headers above."""

    def __init__(self, app: ASGIApp, listen: str, known: tuple[str, str] | None) -> None:
        """Of a server.

        Args:
            app: that answers.
            listen: the address that the server listens on.
            known: user and password that each request must have; None if none is needed.
        """
        self._app = app
        self._is_loopback = is_loopback(listen)
        self._known = None if known is None else ":".join(known).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refused = self._refusal(Headers(scope=scope))
        await (refused or self._app)(scope, receive, send_guarded)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if self._is_loopback and not is_loopback(_hostname(host)):
            line = "this server answers at 127.0.0.1 and localhost only"
            return JSONResponse({"error": line}, 421)
        if self._known is not None and not secrets.compare_digest(_given(headers), self._known):
            line = "user and password are needed: those of the MLflow server"
            challenge = {"WWW-Authenticate": 'Basic realm="saetrack", charset="UTF-8"'}
            return JSONResponse({"error": line}, 401, challenge)
        return None


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _given(headers: Headers) -> bytes:
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""
