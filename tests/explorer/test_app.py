"""The server's addresses, what is refused, and in which words."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from saetrack.analysis.life_store.reader import LifeStore
from saetrack.explorer import home, own_text
from saetrack.explorer.app import make_app
from saetrack.utils.errors import UserError
from tests.support.explorer_demo import FORWARD, PLAIN, DemoChains, card

AT = f"/api/chains/{FORWARD}"
KNOWN = ("reader", "a long password é")


def error_of(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    line: str = response.json()["error"]
    assert line
    assert "\n" not in line
    assert "Traceback" not in line
    return line


def test_home_has_a_card_for_each_chain(client: TestClient) -> None:
    found = client.get("/api/home.json").json()
    assert not found["static"]
    assert found["own_text"]
    assert (found["own_text_characters"], found["search_characters"]) == (2000, 200)
    assert found["servers"] == {
        "mlflow": "http://127.0.0.1:5000",
        "prefect": "http://prefect.example",
    }
    analysed, plain = found["chains"]
    assert (plain["name"], plain["hook"], plain["registered"]) == (PLAIN, "resid_pre.1", 3)
    assert plain["links"]["lm_step"] == [0, 16, 256]
    assert plain["links"]["ce_loss_recovered"][0] is None
    assert plain["changed"] == "2023-11-14T22:13:20.000Z"
    assert plain["mlflow"] == "http://127.0.0.1:5000/#/experiments/1/runs/rdddd"
    assert not plain["analysed"]
    assert analysed["analysis"] is None


def test_an_analysed_chain_is_its_manifest(client: TestClient, store: Path) -> None:
    found = client.get(f"{AT}/chain.json").json()
    assert found.pop("analysis")
    manifest = json.loads((store / "chain.json").read_text())
    said_anew = {"hook", "matches", "trained", "standing", "analysing"}
    assert found.keys() - said_anew == manifest.keys() - said_anew
    for name in manifest.keys() - said_anew:
        assert found[name] == manifest[name], name
    texts = client.get(f"{AT}/vocabulary.json").json()
    assert texts == LifeStore(store).vocabulary


def test_a_chain_that_was_not_analysed_shows_what_is_registered(client: TestClient) -> None:
    found = client.get(f"/api/chains/{PLAIN}/chain.json").json()
    assert not found["analysed"]
    assert [link["lm_step"] for link in found["links"]] == [0, 16, 256]
    assert "was not analysed yet" in found["notes"][0]
    line = error_of(client.get(f"/api/chains/{PLAIN}/features/0.json"), 404)
    assert line == f"chain='{PLAIN}': was not analysed yet"


def test_every_column_comes_as_it_is(client: TestClient, store: Path) -> None:
    lives = LifeStore(store)
    columns = json.loads((store / "chain.json").read_text())["columns"]
    assert columns
    for column in columns:
        links = range(len(lives.manifest.links)) if column["per_link"] else ["chain"]
        for link in links:
            content = client.get(f"{AT}/columns/{link}/{column['name']}.bin").content
            found = np.frombuffer(content, f"<{column['dtype']}")
            name = column["name"]
            there = lives.column(link, name) if column["per_link"] else lives.of_chain(name)
            np.testing.assert_array_equal(found, there)
    points = np.frombuffer(client.get(f"{AT}/columns/chain/map.bin").content, "<f4")
    np.testing.assert_array_equal(points.reshape(-1, 2), lives.of_chain("map"))


def test_a_feature_has_all_its_links(client: TestClient, store: Path) -> None:
    found = client.get(f"{AT}/features/7.json").json()
    whole = LifeStore(store).life(7)
    for name in whole.keys() - {"matches"}:
        assert found[name] == whole[name], name
    assert len(found["links"]) == len(found["labels"]) == 4


@pytest.mark.parametrize(
    ("address", "status", "line"),
    [
        ("features/80.json", 400, "feature=80: must be a number from 0 to 79"),
        ("features/-1.json", 404, "feature='-1': must be a number"),
        ("features/1e3.json", 404, "must be a number"),
        ("features/٣.json", 404, "must be a number"),
        ("features/99999999999999999999.json", 404, "must be a number"),
        ("features/..%2F..%2Fchain.json", 404, "no such page"),
        ("columns/4/label.bin", 400, "link=4: must be a number from 0 to 3"),
        ("columns/-1/label.bin", 400, "must be an index, or 'chain'"),
        ("columns/chain/label.bin", 400, "has no such column"),
        ("columns/0/context_rows.bin", 400, "has no such column"),
        ("columns/0/..%2F..%2Ftokens.bin", 404, "no such page"),
        ("columns/0/%00.bin", 400, "has no such column"),
        ("columns/0/" + "x" * 5000 + ".bin", 400, "has no such column"),
        ("search.json?q=" + "x" * 201, 400, "must have 200 characters or less"),
        ("search.json?q=a&limit=0", 400, "must be a number from 1 to 500"),
        ("search.json?q=a&limit=many", 400, "must be a number from 1 to 500"),
        ("search.json?q=a&offset=-1", 400, "offset='-1': must be a number from 0 to 1000000"),
        ("search.json?q=a&ofset=1", 400, "'ofset': is no parameter; known: q, limit, offset"),
        ("columns/0/densty.bin", 400, "known: cosine_to_final, "),
        ("nothing", 404, "no such page"),
    ],
)
def test_what_there_is_not_is_refused_in_a_line(
    client: TestClient, address: str, status: int, line: str
) -> None:
    assert line in error_of(client.get(f"{AT}/{address}"), status)


def test_a_browser_is_led_back_to_the_start(client: TestClient) -> None:
    as_browser = {"Accept": "text/html,application/xhtml+xml"}
    for address in ("/nonsense", "/deep/er/nonsense"):
        answer = client.get(address, headers=as_browser)
        assert answer.status_code == 404
        (start,) = re.findall('<a href="(.*)">All chains</a>', answer.text)
        assert not start.startswith("/"), "a proxy may serve it elsewhere than at its root"
        assert urljoin(f"http://x{address}", start) == "http://x/"
    error_of(client.get("/api/nonsense", headers=as_browser), 404)


@pytest.mark.parametrize(
    "name", ["nope", "..", "%2e%2e", "..%2F..%2Fetc", "%00", "a%27%20or%20%271", "<b>", "x" * 3000]
)
def test_names_of_chains_open_no_other_folder(client: TestClient, name: str) -> None:
    for address in ("chain.json", "features/0.json", "vocabulary.json"):
        error_of(client.get(f"/api/chains/{name}/{address}"), 404)


def test_the_page_has_no_file_outside_of_its_folder(client: TestClient) -> None:
    assert client.get("/site.json").json() == {"static": False}
    for path in (
        "/../app.py",
        "/%2e%2e/app.py",
        "/..%2Fapp.py",
        "/%2e%2e%2Fapp.py",
        "//etc/passwd",
    ):
        found = client.get(path)
        assert found.status_code == 404 or found.json().get("error"), path


def test_answers_are_kept_until_the_chain_is_analysed_anew(
    chains: DemoChains, client: TestClient, store: Path, tmp_path: Path
) -> None:
    first = client.get(f"{AT}/features/7.json")
    asked = {"If-None-Match": first.headers["etag"]}
    again = client.get(f"{AT}/features/7.json", headers=asked)
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"{AT}/columns/0/label.bin", headers=asked).status_code == 304
    chains.stores[FORWARD] = shutil.copytree(store, tmp_path / "anew")
    assert client.get(f"{AT}/features/7.json", headers=asked).status_code == 200


def test_json_is_compressed_where_the_browser_takes_it(client: TestClient) -> None:
    packed = client.get(f"{AT}/features/7.json")
    assert packed.headers["content-encoding"] == "gzip"
    plain = client.get(f"{AT}/features/7.json", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json() == packed.json()


@pytest.mark.parametrize("address", ["/api/home.json", f"{AT}/features/7.json", "/nothing", "/"])
def test_every_answer_lets_nothing_in_from_elsewhere(client: TestClient, address: str) -> None:
    headers = client.get(address, headers={"Origin": "http://evil.example"}).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
def test_another_sites_name_for_this_machine_is_refused(client: TestClient, host: str) -> None:
    line = error_of(client.get("/api/home.json", headers={"Host": host}), 421)
    assert "127.0.0.1 and localhost only" in line


@pytest.mark.parametrize("host", ["127.0.0.1:8400", "localhost", "[::1]:8400", "LOCALHOST:1"])
def test_this_machines_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/api/home.json", headers={"Host": host}).status_code == 200


def test_elsewhere_a_password_is_asked_for_each_page(chains: DemoChains) -> None:
    app = make_app(chains, listen="0.0.0.0", known=KNOWN)
    client = TestClient(app, base_url="http://explorer.example")
    for address in ("/", "/site.json", "/api/home.json", f"{AT}/features/0.json", "/nothing"):
        refused = client.get(address)
        assert "user and password" in error_of(refused, 401)
        assert refused.headers["www-authenticate"].startswith("Basic ")
    asked = {"text": "a", "lm_steps": [0]}
    assert client.post(f"{AT}/text.json", json=asked).status_code == 401
    for wrong in [("reader", "a long password"), ("", ""), ("Reader", KNOWN[1])]:
        assert client.get("/api/home.json", auth=wrong).status_code == 401
    for header in ("Basic", "Basic !!!", "Basic é".encode().decode("latin-1"), "Bearer x"):
        given = {"Authorization": header.encode("latin-1")}
        assert client.get("/api/home.json", headers=given).status_code == 401
    assert client.get("/api/home.json", auth=KNOWN).status_code == 200
    links = client.get("/api/home.json", auth=KNOWN).json()["servers"]
    assert links == {"mlflow": None, "prefect": None}


def test_a_poisoned_store_is_refused_in_a_line(
    chains: DemoChains, client: TestClient, store: Path, tmp_path: Path
) -> None:
    chains.stores[FORWARD] = shutil.copytree(store, tmp_path / "poisoned")
    array = tmp_path / "poisoned" / "links" / "0001" / "label.npy"
    with array.open("wb") as file:
        np.save(file, np.array([print], object), allow_pickle=True)
    for address in ("chain.json", "features/0.json", "columns/0/label.bin", "search.json?q=a"):
        line = error_of(client.get(f"{AT}/{address}"), 400)
        assert "label.npy" in line


def test_features_are_found_by_their_tokens_and_contexts(client: TestClient, store: Path) -> None:
    lives = LifeStore(store)
    token = int(lives.column(3, "top_token").max())
    text = lives.vocabulary[token]
    found = client.get(f"{AT}/search.json", params={"q": text.strip().upper()}).json()
    best = {one["feature"]: one for one in found["tokens"]}
    for feature in np.flatnonzero(lives.column(3, "top_token") == token).tolist():
        assert best[feature]["text"].strip() == text.strip()
        assert 3 in best[feature]["links"]
    context = lives.contexts(int(np.flatnonzero(lives.column(3, "feature_density") > 0)[0]), 3)[0]
    at = context["position"]
    phrase = "".join(lives.vocabulary[i] for i in lives.tokens[context["row"], at - 1 : at + 1])
    found = client.get(f"{AT}/search.json", params={"q": phrase, "limit": 500}).json()
    assert found["contexts"]
    for one in found["contexts"]:
        around = "".join(
            lives.vocabulary[i] for i in lives.tokens[one["row"]][max(0, one["position"] - 2) :][:5]
        )
        assert phrase.casefold() in around.casefold()
        assert lives.manifest.context_groups[one["group"]] != "silent"


@pytest.mark.parametrize(
    "query", ["", "  ", "\0", "<script>alert(1)</script>", "no such text", "\\"]
)
def test_odd_queries_are_answered(client: TestClient, query: str) -> None:
    found = client.get(f"{AT}/search.json", params={"q": query}).json()
    assert found["q"] == query
    assert not found["contexts"] or "script" in query


def test_own_text_shows_the_strongest_features_of_each_step(
    client: TestClient, chains: DemoChains
) -> None:
    asked = {"text": "one two three", "lm_steps": [0, 16], "features": 3}
    found = client.post(f"{AT}/text.json", json=asked).json()
    assert found["tokens"] == ["one", "two", "three"]
    assert [step["lm_step"] for step in found["steps"]] == [0, 16]
    assert found["note"] is None
    first, second = ([one["feature"] for one in step["features"]] for step in found["steps"])
    assert set(first) == set(second)
    assert first != second
    for step in found["steps"]:
        acts = chains.activations(FORWARD, asked["text"], step["lm_step"]).max()
        best = acts.sort_values(ascending=False, kind="stable").index.tolist()
        order = [one["feature"] for one in step["features"]]
        assert order[: step["strongest"]] == best[: step["strongest"]]
        assert step["strongest"] == 3
        strongest = [max(one["acts"]) for one in step["features"]]
        assert strongest == sorted(strongest, reverse=True)


def test_own_text_at_many_steps_is_bounded_and_says_how_far_it_is_true(
    client: TestClient,
) -> None:
    asked = {"text": "one two three", "lm_steps": list(range(40)), "features": 50}
    steps = client.post(f"{AT}/text.json", json=asked).json()["steps"]
    assert {len(step["features"]) for step in steps} == {200}
    assert all(3 <= step["strongest"] <= 50 for step in steps)
    assert min(step["strongest"] for step in steps) < 50


def test_own_text_of_a_chain_whose_lm_stands_still_says_so(
    chains: DemoChains, client: TestClient
) -> None:
    chains.shown = [card(FORWARD, [512] * 29)]
    found = client.post(f"{AT}/text.json", json={"text": "a", "lm_steps": [512]}).json()
    assert found["note"] == (
        "Every link of this chain reads the LM at step 512: the last of its 29 links is shown."
    )


def test_own_text_shows_what_fires_on_each_token(client: TestClient, chains: DemoChains) -> None:
    asked = {"text": "one two three", "lm_steps": [0, 16], "features": 1}
    found = client.post(f"{AT}/text.json", json=asked).json()
    assert found["pieces"] == [None, None, None]
    for step in found["steps"]:
        acts = chains.activations(FORWARD, asked["text"], step["lm_step"]).to_numpy()
        for row, of_token in zip(acts, step["of_token"], strict=True):
            assert of_token["count"] == (row > 0).sum()
            best = np.argsort(-row, kind="stable")[:3]
            assert [feature for feature, _ in of_token["strongest"]] == best.tolist()
            shown = [act for _, act in of_token["strongest"]]
            np.testing.assert_allclose(shown, row[best], rtol=1e-4)


def test_a_token_on_which_nothing_fires_is_there_too(
    chains: DemoChains, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts = pd.DataFrame([[0.0, 0.0, 2.0], [0.0, 0.0, 0.0], [1.0, 3.0, 3.0]])
    monkeypatch.setattr(DemoChains, "activations", lambda *_: acts)
    asked = {"text": "a b c", "lm_steps": [0], "features": 1}
    (step,) = client.post(f"{AT}/text.json", json=asked).json()["steps"]
    assert step["of_token"] == [
        {"count": 1, "strongest": [[2, 2.0]]},
        {"count": 0, "strongest": []},
        {"count": 3, "strongest": [[1, 3.0], [2, 3.0], [0, 1.0]]},
    ]


def test_a_new_analysis_has_another_stamp(
    chains: DemoChains, client: TestClient, store: Path, tmp_path: Path
) -> None:
    before = client.get(f"{AT}/chain.json").json()
    assert client.get(f"{AT}/chain.json").json() == before
    chains.stores[FORWARD] = shutil.copytree(store, tmp_path / "anew")
    after = client.get(f"{AT}/chain.json").json()
    assert after.pop("analysis") != before.pop("analysis")
    assert after == before


@pytest.mark.parametrize(
    ("content", "kind", "status", "line"),
    [
        (b'{"text": "a", "lm_steps": [0]}', "text/plain", 415, "must be JSON"),
        (b"{", "application/json", 400, "is no JSON"),
        (b"[" * 5000, "application/json", 400, "is no JSON"),
        (b"[]", "application/json", 400, "the body must be"),
        (b'{"text": "", "lm_steps": [0]}', "application/json", 400, "text: must be"),
        (b'{"text": "a\\ud83d", "lm_steps": [0]}', "application/json", 400, "half a character"),
        (b'{"text": "a", "lm_steps": ["0"]}', "application/json", 400, "lm_steps="),
        (b'{"text": "a", "lm_steps": [true]}', "application/json", 400, "lm_steps="),
        (b'{"text": "a", "lm_steps": [0], "features": 0}', "application/json", 400, "features=0"),
        (
            json.dumps({"text": "a", "lm_steps": list(range(65))}).encode(),
            "application/json",
            400,
            "64 at most",
        ),
        (
            json.dumps({"text": "a" * 2001, "lm_steps": [0]}).encode(),
            "application/json",
            413,
            "has 2,001 characters",
        ),
        (b" " * 70_000, "application/json", 413, "2,000 characters or less"),
    ],
)
def test_own_text_that_cannot_be_read_is_refused(
    client: TestClient, content: bytes, kind: str, status: int, line: str
) -> None:
    response = client.post(f"{AT}/text.json", content=content, headers={"Content-Type": kind})
    assert line in error_of(response, status)


def test_own_text_without_an_lm_says_so(client: TestClient) -> None:
    asked = {"text": "a", "lm_steps": [0]}
    line = error_of(client.post(f"/api/chains/{PLAIN}/text.json", json=asked), 400)
    assert "its LM cannot be loaded" in line
    error_of(client.get(f"{AT}/text.json"), 405)


def test_one_text_is_read_at_a_time(chains: DemoChains, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slowly(*_: object) -> pd.DataFrame:
        entered.set()
        leave.wait(10)
        raise UserError("done")

    monkeypatch.setattr(chains, "activations", slowly)
    reader = own_text.OwnText(chains)
    asked = own_text.AskedText("a", (0,), 3)

    def read() -> None:
        with pytest.raises(UserError):
            reader.read(FORWARD, asked)

    first = threading.Thread(target=read)
    first.start()
    assert entered.wait(10)
    with pytest.raises(own_text.HTTPException) as caught:
        reader.read(FORWARD, asked)
    assert caught.value.status_code == 429
    leave.set()
    first.join()
    with pytest.raises(UserError):
        reader.read(FORWARD, asked)


def test_a_growing_chain_grows_on_the_page(
    chains: DemoChains, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "OLD_S", 0.0)
    chains.shown = [card(PLAIN, [0, 16], planned=9, is_training=True)]
    (before,) = client.get("/api/home.json").json()["chains"]
    chains.shown = [card(PLAIN, [0, 16, 256], planned=9, is_training=True)]
    (after,) = client.get("/api/home.json").json()["chains"]
    assert (before["registered"], after["registered"]) == (2, 3)
    assert after["training"]
    assert after["planned"] == 9


def test_a_registry_that_fell_silent_leaves_the_page_as_it_was(
    chains: DemoChains, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "OLD_S", 0.0)
    before = client.get("/api/home.json").json()

    def fail() -> None:
        raise ConnectionError("no route\nto the host")

    monkeypatch.setattr(chains, "cards", fail)
    after = client.get("/api/home.json").json()
    assert after["chains"] == before["chains"]
    assert after["notice"] == "the registry does not answer: no route"


def test_pages_that_ask_often_do_not_ask_the_registry_as_often(
    chains: DemoChains, client: TestClient
) -> None:
    for _ in range(20):
        client.get("/api/home.json")
    assert chains.asked == 1


def test_old_cards_are_answered_at_once_and_looked_up_meanwhile(
    chains: DemoChains, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = home.Cards(chains)
    cards.get()
    monkeypatch.setattr(home, "FRESH_S", 0.0)
    cards.get()
    until_s = time.monotonic() + 5
    while chains.asked < 2:
        assert time.monotonic() < until_s
        time.sleep(0.01)


@pytest.mark.parametrize("links", [2, 1])
def test_a_short_chain_and_dead_features_are_shown(tmp_path: Path, links: int) -> None:
    from tests.support.life_store import small_store

    folder = small_store(tmp_path / "short", d_sae=40, links=links)
    for path in (folder / "links").rglob("*.npy"):
        if path.stem in {"feature_density", "max_act"}:
            array = np.load(path)
            np.save(path, np.zeros_like(array))
    client = TestClient(
        make_app(DemoChains([card(FORWARD, [0, 1][:links])], {FORWARD: folder})),
        base_url="http://127.0.0.1",
    )
    assert len(client.get(f"{AT}/chain.json").json()["links"]) == links
    life = client.get(f"{AT}/features/3.json").json()
    assert life["curves"]["feature_density"] == [0.0] * links
    assert client.get(f"{AT}/search.json?q=the").status_code == 200
