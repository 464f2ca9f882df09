"""Searching features: by number, by text as pages write it, page by page."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from saetrack.analysis.life_store.reader import LifeStore
from saetrack.explorer.search import AskedSearch, search
from saetrack.explorer.search_index import SearchIndex
from tests.support.explorer_demo import FORWARD

AT = f"/api/chains/{FORWARD}/search.json"


def found(client: TestClient, query: str, **asked: int) -> dict[str, Any]:
    response = client.get(AT, params={"q": query, **asked})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize(
    ("query", "feature"),
    [
        ("19", 19),
        ("#19", 19),
        (" # 19 ", 19),
        ("feature 19", 19),
        ("Feature19", 19),
        ("79", 79),
        ("80", None),
        ("19 of", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("river", None),
    ],
)
def test_a_number_is_a_feature(client: TestClient, query: str, feature: int | None) -> None:
    assert found(client, query)["feature"] == feature


@pytest.mark.parametrize("kind", ["tokens", "contexts"])
def test_all_that_is_found_can_be_reached_page_by_page(client: TestClient, kind: str) -> None:
    whole = found(client, "e", limit=500)
    total = whole["total"][kind]
    assert len(whole[kind]) == total > 14
    assert not whole["truncated"]
    pages = [found(client, "e", limit=7, offset=offset) for offset in range(0, total + 7, 7)]
    assert [one for page in pages for one in page[kind]] == whole[kind]
    assert {page["total"][kind] for page in pages} == {total}
    assert pages[0]["truncated"]
    assert [page["offset"] for page in pages[:2]] == [0, 7]
    assert len({one["feature"] for one in whole[kind]}) == total


def test_a_blank_may_be_written_as_pages_write_it(client: TestClient) -> None:
    wanted = found(client, " river", limit=500)
    assert wanted["contexts"]
    answer = found(client, "·River", limit=500)
    assert answer.pop("q") == "·River"
    del wanted["q"]
    assert answer == wanted


@pytest.mark.parametrize(("name", "value"), [("context_rows", 10**6), ("context_positions", 130)])
def test_contexts_that_are_nowhere_are_not_found(
    store: Path, tmp_path: Path, name: str, value: int
) -> None:
    poisoned = shutil.copytree(store, tmp_path / "poisoned")
    for link in range(1, 4):
        path = poisoned / "links" / f"{link:04d}" / f"{name}.npy"
        np.save(path, np.full_like(np.load(path), value))
    lives = LifeStore(poisoned)
    answer = search(lives, SearchIndex(lives), AskedSearch("e", 500))
    assert {one["link"] for one in answer["contexts"]} == {0}
