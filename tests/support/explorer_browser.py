"""The explorer's page in a real browser: stores of several kinds behind a server, and tabs."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from saetrack.explorer.addresses import Servers
from saetrack.explorer.app import make_app
from saetrack.explorer.open_stores import OpenStores
from saetrack.explorer.serving import bind
from saetrack.explorer.static_site import plan_site, write_site
from saetrack.registry.cards import AnalysisCard, RunAt
from tests.support.explorer_demo import (
    FORWARD,
    PLAIN,
    DemoChains,
    card,
    demo_explanations,
    manifest_steps,
)
from tests.support.life_store import small_store

HOSTILE, SHORT, DEAD = (f"demo.L2.forward.s{seed}.{name}" for seed, name in enumerate(
    ("hostile", "short", "dead"), start=2
))  # fmt: skip
HOSTILE_TEXTS = [
    "<img src=x onerror=\"window.hacked='img'\">",
    "<script>window.hacked='script'</script>",
    "\u202egnirts\u2066",
    "\u0000\u0007\u200b\ufeff",
    "a" * 3000,
    "javascript:alert(1)",
    "\n\n",
    "${hacked}{{hacked}}",
]


def make_demo(folder: Path) -> DemoChains:
    """Chains of each kind; their stores are small."""
    stores = {
        FORWARD: small_store(folder / "forward", d_sae=300, name=FORWARD),
        HOSTILE: hostile(small_store(folder / "hostile", d_sae=40, links=4, seed=1)),
        SHORT: small_store(folder / "short", d_sae=40, links=2, seed=2),
        DEAD: all_dead(small_store(folder / "dead", d_sae=40, links=3, seed=3)),
    }
    analysis = AnalysisCard(RunAt("1", "analysis"), ("figures/labels.png",), has_lives=True)
    cards = [card(name, manifest_steps(at), analysis=analysis) for name, at in stores.items()]
    cards.append(card(PLAIN, [0, 16, 256]))
    return DemoChains(cards, stores, explained=demo_explanations(8))


def hostile(store: Path) -> Path:
    """Each third token is something that a page could take for more than text."""
    path = store / "vocabulary.json"
    texts = json.loads(path.read_text())
    texts = [
        HOSTILE_TEXTS[number // 3 % len(HOSTILE_TEXTS)] if number % 3 == 0 else text
        for number, text in enumerate(texts)
    ]
    path.write_text(json.dumps(texts))
    manifest = json.loads((store / "chain.json").read_text())
    manifest["notes"] = [HOSTILE_TEXTS[0]]
    (store / "chain.json").write_text(json.dumps(manifest))
    return store


def all_dead(store: Path) -> Path:
    """No feature fires at any link."""
    labels = json.loads((store / "chain.json").read_text())["labels"]
    values = {"label": labels.index("dead"), "top_token": -1, "context_rows": -1, "neighbours": -1}
    values |= {"common_tokens": -1}
    for path in store.glob("links/*/*.npy"):
        array = np.load(path)
        array[...] = values.get(path.stem, np.nan if path.stem.startswith("cosine") else 0)
        np.save(path, array)
    for name, value in {"map": np.nan, "match_features": -1, "formation_link": -1}.items():
        path = store / "of_chain" / f"{name}.npy"
        array = np.load(path)
        array[...] = value
        np.save(path, array)
    return store


@contextmanager
def served(chains: Any) -> Iterator[str]:
    """The explorer's server in a thread; its address."""
    listening = bind("127.0.0.1", 0)
    app = make_app(chains, servers=Servers("5000", None))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


@contextmanager
def static_site(
    chains: DemoChains, folder: Path, features: int | None, contexts: int | None = 6
) -> Iterator[str]:
    """A site of FORWARD behind a plain file server."""
    store = OpenStores(chains).get(FORWARD)
    assert store is not None
    plan = plan_site(
        chains.shown[0], store, features=features, contexts=contexts, cards=chains.shown
    )
    assert list(write_site(plan, Servers(), folder))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *given: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


class Tab:
    """A page of the browser that remembers what went wrong in it."""

    def __init__(self, context: Any, address: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(10_000)
        self.address = address
        self.errors: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    def show(self, at: str) -> Any:
        """Open an address of the page, afresh."""
        self.page.goto("about:blank")
        self.page.goto(self.address + at)
        self.page.locator("#main > .page").wait_for()
        return self.page

    def alter(self, path: str, change: Callable[[Any], None]) -> None:
        """Change the JSON of an answer on its way to the page."""

        def altered(route: Any) -> None:
            answer = route.fetch()
            content = answer.json()
            change(content)
            route.fulfill(response=answer, json=content)

        self.page.route(f"**/{path}", altered)

    @property
    def at(self) -> str:
        """The address within the page."""
        return self.page.url.removeprefix(self.address)
