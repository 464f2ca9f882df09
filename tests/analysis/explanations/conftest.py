"""A planted store and a server of completions, once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from saetrack.analysis.explanations import endpoint
from saetrack.analysis.life_store.reader import LifeStore
from tests.support.chat_server import ChatServer, serve_chat
from tests.support.planted_lives import planted_store


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> LifeStore:
    """24 features, each of which fires on one word from link 3 to 6, and on noise elsewhere."""
    return planted_store(tmp_path_factory.mktemp("planted") / "lives")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """An endpoint on this machine; nobody waits long before a second try."""
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.001)
    with serve_chat() as found:
        yield found
