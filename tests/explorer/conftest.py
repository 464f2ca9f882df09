"""Synthetic chains behind the explorer's server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from saetrack.explorer.addresses import Servers
from saetrack.explorer.app import make_app
from tests.support.explorer_browser import Tab, make_demo, served
from tests.support.explorer_demo import FORWARD, PLAIN, DemoChains, card, manifest_steps
from tests.support.life_store import small_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a few features over a few links."""
    return small_store(tmp_path_factory.mktemp("store") / "lives", d_sae=80, links=4)


@pytest.fixture
def chains(store: Path) -> DemoChains:
    """A chain that was analysed, and one that was not."""
    cards = [card(FORWARD, manifest_steps(store)), card(PLAIN, [0, 16, 256])]
    return DemoChains(cards, {FORWARD: store})


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of one file in place of the real one."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text("<!doctype html>")
    return folder


@pytest.fixture
def client(chains: DemoChains, page: Path) -> TestClient:
    """A browser on this machine."""
    servers = Servers("5000", "http://prefect.example/")
    app = make_app(chains, servers=servers, page=page)
    return TestClient(app, base_url="http://127.0.0.1:8400")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoChains:
    """Chains of each kind."""
    return make_demo(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="session")
def address(demo: DemoChains) -> Iterator[str]:
    """Of a server that shows them."""
    with served(demo) as at:
        yield at


@pytest.fixture
def new_tab(browser: Any, address: str) -> Iterator[Callable[..., Tab]]:
    """Opens tabs; none may have said that something went wrong."""
    contexts, tabs = [], []

    def opened(at: str = address, **settings: Any) -> Tab:
        settings.setdefault("viewport", {"width": 1440, "height": 900})
        contexts.append(browser.new_context(**settings))
        tabs.append(Tab(contexts[-1], at))
        return tabs[-1]

    yield opened
    errors = [error for tab in tabs for error in tab.errors]
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def tab(new_tab: Callable[..., Tab]) -> Tab:
    """One of them, as large as a laptop's."""
    return new_tab()
