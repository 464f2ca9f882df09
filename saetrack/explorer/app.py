"""The explorer's server: its addresses, and what goes wrong as one line.

    site.json, index.html, ...              the page
    api/home.json                           all chains
    api/chains/NAME/chain.json              one chain: the manifest of its life store
    api/chains/NAME/vocabulary.json         the text of each token id
    api/chains/NAME/columns/LINK/COLUMN.bin one value per feature
    api/chains/NAME/features/F.json         one feature at all links
    api/chains/NAME/explanations.json       what was explained of its features
    api/chains/NAME/search.json?q=&limit=&offset=   features by their tokens and contexts
    api/chains/NAME/text.json               own text (POST)

NAME may be a beginning of a chain's name that no other chain shares.

Each answer is made in a thread: endpoints are plain functions.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, ExceptionHandler

from saetrack.explorer.addresses import Servers
from saetrack.explorer.answers import column_bytes, feature_json
from saetrack.explorer.chain_answer import analysed_json, not_analysed_json
from saetrack.explorer.home import Cards, card_of, home_json
from saetrack.explorer.open_stores import OpenStore, OpenStores
from saetrack.explorer.own_text import AskedText, OwnText, asked_text, read_limited, standing_note
from saetrack.explorer.responses import BINARY, no_page, not_modified, respond
from saetrack.explorer.search import as_json, asked_search, search
from saetrack.explorer.security import Guard
from saetrack.utils.errors import UserError, first_line, shown

if TYPE_CHECKING:
    from saetrack.explorer.chains import Chains

PAGE = Path(__file__).parent / "page"
SITE_FILE = "site.json"

log = logging.getLogger(__name__)


class Explorer:
    """Answers to the addresses above."""

    def __init__(self, chains: Chains, servers: Servers) -> None:
        """Asks nobody yet.

        Args:
            chains: of a registry.
            servers: the others of this machine.
        """
        self._chains = chains
        self._cards = Cards(chains)
        self._servers = servers
        self._stores = OpenStores(chains)
        self._own_text = OwnText(chains)

    def site(self, request: Request) -> Response:
        """Tell the page that a server answers it."""
        return respond(request, as_json({"static": False}))

    def home(self, request: Request) -> Response:
        """All chains."""
        cards, notice = self._cards.get()
        servers = self._servers.at(request.url.hostname or "127.0.0.1")
        return respond(request, as_json(home_json(cards, servers, static=False, notice=notice)))

    def chain(self, request: Request) -> Response:
        """One chain: what its store says, or what the registry knows."""
        name = self._name(request)
        store, cards = self._stores.get(name), self._cards.get()[0]
        card = card_of(cards, name)
        if store is not None:
            store.prepare()
            return respond(request, as_json(analysed_json(store, card, cards)))
        if card is None:
            raise HTTPException(404, f"chain={shown(name)}: is not registered")
        return respond(request, as_json(not_analysed_json(card)))

    def vocabulary(self, request: Request) -> Response:
        """The text of each token id."""
        store = self._store(request)
        known = not_modified(request, store.stamp)
        return known or respond(request, store.vocabulary_bytes(), stamp=store.stamp)

    def column(self, request: Request) -> Response:
        """One value per feature."""
        store, given = self._store(request), request.path_params
        known = not_modified(request, store.stamp)
        if known is not None:
            return known
        content = column_bytes(store.lives, given["link"], given["column"])
        return respond(request, content, BINARY, store.stamp)

    def feature(self, request: Request) -> Response:
        """One feature at all links."""
        store, text = self._store(request), request.path_params["feature"]
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise HTTPException(404, f"feature={shown(text)}: must be a number")
        known = not_modified(request, store.stamp)
        if known is not None:
            return known
        found = feature_json(store.lives, int(text), self._cards.known())
        return respond(request, as_json(found), stamp=store.stamp)

    def explanations(self, request: Request) -> Response:
        """What was explained of its features, so far."""
        found = self._chains.explanations(self._store(request).lives.manifest)
        return respond(request, as_json(found))

    def search(self, request: Request) -> Response:
        """Features by their tokens and contexts."""
        store, asked = self._store(request), asked_search(request.query_params)
        return respond(request, as_json(search(store.lives, store.index(), asked)))

    async def text(self, request: Request) -> Response:
        """Which features fire on a text of one's own."""
        asked = asked_text(request.headers.get("content-type", ""), await read_limited(request))
        found = await run_in_threadpool(self._read, request, asked)
        return Response(as_json(found), media_type="application/json")

    def _read(self, request: Request, asked: AskedText) -> dict[str, Any]:
        name = self._name(request)
        card = card_of(self._cards.known(), name)
        return {**self._own_text.read(name, asked), "note": standing_note(card)}

    def _store(self, request: Request) -> OpenStore:
        name = self._name(request)
        found = self._stores.get(name)
        if found is None:
            raise HTTPException(404, f"chain={shown(name)}: was not analysed yet")
        return found

    def _name(self, request: Request) -> str:
        """The chain of an address, which may name it by a beginning that no other shares."""
        try:
            return self._cards.full_name(request.path_params["name"])
        except UserError as error:
            raise HTTPException(404, str(error)) from None


def make_app(
    chains: Chains,
    *,
    servers: Servers | None = None,
    listen: str = "127.0.0.1",
    known: tuple[str, str] | None = None,
    page: Path = PAGE,
) -> ASGIApp:
    """The explorer of some chains.

    Args:
        chains: of a registry.
        servers: the other servers of this machine.
        listen: the address that it listens on.
        known: user and password that it asks for; None: nobody is asked.
        page: folder of the page's files.
    """
    explorer = Explorer(chains, servers or Servers())
    of_chain = [
        Route("/chain.json", explorer.chain),
        Route("/vocabulary.json", explorer.vocabulary),
        Route("/columns/{link}/{column}.bin", explorer.column),
        Route("/features/{feature}.json", explorer.feature),
        Route("/explanations.json", explorer.explanations),
        Route("/search.json", explorer.search),
        Route("/text.json", explorer.text, methods=["POST"]),
    ]
    routes = [
        Route(f"/{SITE_FILE}", explorer.site),
        Route("/api/home.json", explorer.home),
        Mount("/api/chains/{name}", routes=of_chain),
        Mount("/api", routes=[]),
        Mount("/", _Page(directory=page, html=True, check_dir=False)),
    ]
    return Guard(Starlette(routes=routes, exception_handlers=_HANDLERS), listen, known)


class _Page(StaticFiles):
    """The page's files; a browser asks each time whether it has the newest."""

    def file_response(self, *given: object, **named: object) -> Response:
        response = super().file_response(*given, **named)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response


def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        if request.url.path.startswith("/api") or "text/html" not in request.headers.get(
            "accept", ""
        ):
            line = "no such page" if error.detail == "Not Found" else error.detail
            return JSONResponse({"error": line}, error.status_code, error.headers)
        depth = request.url.path.count("/") - 1
        return HTMLResponse(no_page("../" * depth or "./"), error.status_code, error.headers)
    return JSONResponse({"error": str(error)}, 400)


def _failed(request: Request, error: Exception) -> Response:
    log.error("%s: %s: %s", request.url.path, type(error).__name__, first_line(error))
    return JSONResponse({"error": "the server failed; its log says more"}, 500)


_HANDLERS: dict[Any, ExceptionHandler] = {
    HTTPException: _refused,
    UserError: _refused,
    Exception: _failed,
}
