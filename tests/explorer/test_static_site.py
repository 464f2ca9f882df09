"""The static site: what the server answers, in files; whole or absent."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from saetrack.explorer import static_search, static_site
from saetrack.explorer.addresses import Servers
from saetrack.explorer.open_stores import OpenStores
from saetrack.explorer.search import AskedSearch, search
from saetrack.explorer.static_site import (
    RULE,
    SitePlan,
    plan_site,
    require_empty,
    size_of,
    write_site,
)
from saetrack.utils.errors import UserError
from tests.support.explorer_demo import FORWARD, DemoChains

AT = f"api/chains/{FORWARD}"


@pytest.fixture
def plan(chains: DemoChains, page: Path, monkeypatch: pytest.MonkeyPatch) -> SitePlan:
    monkeypatch.setattr(static_site, "PAGE", page)
    store = OpenStores(chains).get(FORWARD)
    assert store is not None
    return plan_site(chains.shown[0], store, features=None, contexts=None)


def unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def write(plan: SitePlan, folder: Path) -> list[int]:
    return list(write_site(plan, Servers(), folder))


def test_files_are_what_the_server_answers(
    plan: SitePlan, client: TestClient, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    assert write(plan, site) == [32, 64, 80]
    assert json.loads((site / "site.json").read_text()) == {
        "static": True,
        "block": 32,
        "chains": {
            FORWARD: {
                "features": None,
                "contexts": None,
                "kept": {
                    "features": 80,
                    "of": 80,
                    "rule": RULE,
                    "contexts": {"kept": 20, "of": 20, "judged": 25},
                },
            }
        },
    }
    assert (site / AT / "chain.json").read_bytes() == client.get(f"/{AT}/chain.json").content
    vocabulary = unpacked(site / AT / "vocabulary.json.gz")
    assert vocabulary == client.get(f"/{AT}/vocabulary.json").content
    n_columns = 0
    for path in (site / AT / "columns").rglob("*.bin.gz"):
        address = f"/{path.relative_to(site)}".removesuffix(".gz")
        assert unpacked(path) == client.get(address).content, address
        n_columns += 1
    assert n_columns > 4 * 5
    whole = b""
    for block in range(3):
        content = unpacked(site / AT / "features" / f"{block}.json.gz")
        of_block = json.loads(content)
        assert list(of_block) == [str(f) for f in range(32 * block, min(32 * block + 32, 80))]
        whole += content
    for feature in (0, 31, 32, 79):
        answer = client.get(f"/{AT}/features/{feature}.json").content
        assert b'"%d":%b' % (feature, answer) in whole
    home = json.loads((site / "api" / "home.json").read_text())
    assert (home["static"], home["own_text"]) == (True, False)
    assert home["own_text_characters"] is None
    assert [one["name"] for one in home["chains"]] == [FORWARD]
    assert (site / "index.html").is_file()
    assert '<a href="./">All chains</a>' in (site / "404.html").read_text()
    assert site.stat().st_mode & 0o777 == 0o755, "a web server is another user"


def test_its_size_is_known_beforehand(plan: SitePlan, tmp_path: Path) -> None:
    write(plan, tmp_path / "site")
    size_bytes, n_files = size_of(tmp_path / "site")
    assert 0.7 < plan.planned_bytes() / size_bytes < 1.4
    assert n_files > 20


def test_bounds_keep_the_features_that_live_longest_and_contexts_of_each_group(
    plan: SitePlan, tmp_path: Path
) -> None:
    store = plan.store
    plan = plan_site(plan.card, store, features=10, contexts=6)
    write(plan, tmp_path / "site")
    kept = json.loads((tmp_path / "site" / "site.json").read_text())["chains"][FORWARD]
    assert len(kept["features"]) == 10
    assert kept["features"] == sorted(kept["features"])
    assert kept["kept"]["contexts"] == {"kept": 6, "of": 20, "judged": 25}
    (card,) = json.loads((tmp_path / "site" / "api" / "home.json").read_text())["chains"]
    assert card["kept"] == {"features": 10, "of": 80}
    found = {}
    for path in (tmp_path / "site" / AT / "features").iterdir():
        found |= json.loads(unpacked(path))
    assert sorted(map(int, found)) == kept["features"]
    for feature, life in found.items():
        of_links = [len(link["contexts"]) for link in life["links"]]
        assert max(of_links) <= 6
        assert life["contexts"] == {"kept": 6, "of": 20, "judged": 25}
        whole = store.lives.life(int(feature))
        for link, there in zip(life["links"], whole["links"], strict=True):
            groups = {context["group"] for context in there["contexts"]}
            assert {context["group"] for context in link["contexts"]} == groups
    # None of those that were left out fires at more links, or at as many and more often.
    curves = [store.lives.life(f)["curves"]["feature_density"] for f in range(80)]
    fires = [(sum(value > 0 for value in curve), sum(curve)) for curve in curves]
    worst = min(fires[f] for f in kept["features"])
    assert all(fires[f] < worst for f in range(80) if f not in kept["features"])
    assert kept["features"] != list(range(10))


def searched(site: Path, texts: list[str], query: str) -> list[tuple[int, int, int, int, int]]:
    """Feature, link, row, position and group that a page finds in the index, in its order."""
    facts = json.loads((site / AT / "search" / "index.json").read_text())["arrays"]
    of = {
        name: np.frombuffer(unpacked(site / AT / "search" / f"{name}.bin.gz"), f"<{one['dtype']}")
        for name, one in facts.items()
    }
    assert all([len(of[name])] == one["shape"] for name, one in facts.items())
    begins, text, owner = set(of["stretch_begins"].tolist()), "", []
    for at, token in enumerate(of["tokens"].tolist()):
        piece = ("\0" if at in begins else "") + texts[token].casefold()
        text += piece
        owner += [at] * len(piece)
    starts = [at for at in range(len(text)) if text.startswith(query, at)]
    covered = {owner[at + shift] for at in starts for shift in range(len(query))}
    found: dict[int, tuple[int, int, int, int, int]] = {}
    columns = ("context_features", "context_links", "context_groups", "context_tokens")
    for feature, link, group, own in zip(*(of[name].tolist() for name in columns), strict=True):
        if own in covered:
            stretch = int(of["stretch_begins"].searchsorted(own, side="right")) - 1
            position = of["stretch_positions"][stretch] + own - of["stretch_begins"][stretch]
            row = int(of["stretch_rows"][stretch])
            found.setdefault(feature, (feature, link, row, int(position), group))
    return list(found.values())


@pytest.mark.parametrize("query", ["river", "the of", "e", "</style>", "no such text"])
def test_a_sites_contexts_are_found_as_the_server_finds_them(
    plan: SitePlan, tmp_path: Path, query: str
) -> None:
    write(plan, tmp_path / "site")
    lives = plan.store.lives
    answer = search(lives, plan.store.index(), AskedSearch(query, 500))["contexts"]
    names = ("feature", "link", "row", "position", "group")
    wanted = [tuple(one[name] for name in names) for one in answer]
    assert searched(tmp_path / "site", lives.vocabulary, query) == wanted
    assert bool(wanted) == (query != "no such text")


def test_a_sites_search_knows_only_what_the_site_holds(
    plan: SitePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static_search, "CONTEXTS_AT_MOST", 10 * 4 * 2)
    bounded = plan_site(plan.card, plan.store, features=10, contexts=6)
    write(bounded, tmp_path / "site")
    index = json.loads((tmp_path / "site" / AT / "search" / "index.json").read_text())
    assert index["contexts"] == 2
    there = set()
    for path in (tmp_path / "site" / AT / "features").iterdir():
        for life in json.loads(unpacked(path)).values():
            for link, moment in enumerate(life["links"]):
                for one in moment["contexts"]:
                    place = one["row"], one["position"]
                    there.add((life["feature"], link, *place, one["group"]))
    found = searched(tmp_path / "site", plan.store.lives.vocabulary, "e")
    assert found
    assert set(found) <= there


@pytest.mark.parametrize("what", ["file", "folder with a file", "link"])
def test_nothing_that_is_there_is_written_over(plan: SitePlan, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "site"
    if what == "file":
        folder.write_text("mine")
    elif what == "link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        (folder / "mine").write_text("mine")
    with pytest.raises(UserError, match="to=") as caught:
        write(plan, folder)
    assert "\n" not in str(caught.value)
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"file": {"site"}, "link": set()}.get(what, {"mine"})


def test_a_folder_that_cannot_be_made_is_one_line(plan: SitePlan) -> None:
    with pytest.raises(UserError, match="cannot be written") as caught:
        write(plan, Path("/proc/nothing/here"))
    assert "\n" not in str(caught.value)


def test_a_site_that_was_broken_off_is_not_there(plan: SitePlan, tmp_path: Path) -> None:
    folder = tmp_path / "sites" / "site"
    for _ in write_site(plan, Servers(), folder):
        assert not folder.exists()
        break
    assert list((tmp_path / "sites").iterdir()) == []
    (tmp_path / "sites" / "site").mkdir()  # an empty folder may be there
    write(plan, folder)
    assert (folder / "site.json").is_file()


@pytest.mark.parametrize("bounds", [{"features": 0}, {"contexts": -1}])
def test_bounds_below_one_are_refused(chains: DemoChains, bounds: dict[str, int]) -> None:
    store = OpenStores(chains).get(FORWARD)
    assert store is not None
    with pytest.raises(UserError, match="must be 1 or more"):
        plan_site(chains.shown[0], store, **{"features": None, "contexts": None, **bounds})


def test_an_empty_folder_may_become_a_site(tmp_path: Path) -> None:
    require_empty(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    require_empty(tmp_path / "empty")
    assert static_site.BLOCK == 32
