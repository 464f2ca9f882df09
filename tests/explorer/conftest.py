"""Synthetic chains behind the explorer's server."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from saetrack.explorer.addresses import Servers
from saetrack.explorer.app import make_app
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
