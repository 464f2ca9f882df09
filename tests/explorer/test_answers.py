"""What answers say of a chain: its order, its hook, its matches, how much of it is here."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from saetrack.analysis.life_store.columns import CONTROLS, NO_CONTROL
from saetrack.explorer.app import make_app
from saetrack.explorer.matches import kind_of
from saetrack.registry.cards import Analysing
from tests.support.explorer_demo import FORWARD, PLAIN, SECOND, DemoChains, card

AT = f"/api/chains/{FORWARD}"
OWN = card(FORWARD, [0, 16, 256])


def web(*cards: Any, store: Path | None = None) -> TestClient:
    chains = DemoChains(list(cards), {} if store is None else {cards[0].name: store})
    return TestClient(make_app(chains), base_url="http://127.0.0.1")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"seed": 1}, "second seed"),
        ({"direction": "reverse"}, "reverse chain"),
        ({"steps": [0, 0, 0], "direction": "frozen"}, "control: LM that stays random"),
        ({"steps": [256, 256], "direction": "frozen"}, "control: LM that stays trained"),
        ({"hook": "resid_pre.3", "layer": 3, "seed": 1}, "other layer"),
        ({"hook": "mlp_out.2", "layer": 2}, "other hook"),
        ({"architecture": "topk", "seed": 1}, "other architecture"),
        ({"lm": "another", "seed": 1}, "other LM"),
        ({}, "other chain"),
    ],
)
def test_what_another_chain_is_to_ones_own(changes: dict[str, Any], kind: str) -> None:
    steps = changes.pop("steps", [0, 16, 256])
    assert kind_of(replace(card(FORWARD, steps), **changes), OWN) == kind


def test_a_chain_whose_lm_stands_still_too_is_a_second_seed() -> None:
    own, other = (card(FORWARD, [0, 0], direction="frozen", seed=seed) for seed in (0, 1))
    assert kind_of(other, own) == "second seed"


def test_a_match_says_which_steps_it_compares_and_what_its_chain_is(store: Path) -> None:
    manifest = json.loads((store / "chain.json").read_text())
    (match,) = manifest["matches"]
    own = replace(OWN, name=manifest["name"])
    other = replace(OWN, name=match["chain"], seed=1)
    for cards, kind in (([own, other], "second seed"), ([own], None)):
        client = web(*cards, store=store)
        at = f"/api/chains/{own.name}"
        (of_chain,) = client.get(f"{at}/chain.json").json()["matches"]
        wanted = {"kind": kind, "lm_step": match["lm_step"], "other_lm_step": match["lm_step"]}
        assert of_chain == {**match, **wanted}
        lives = [client.get(f"{at}/features/{feature}.json").json() for feature in range(0, 80, 8)]
        found = [one for life in lives for one in life["matches"]]
        assert len(found) > 5
        for one in found:
            assert {name: one[name] for name in wanted} == wanted
            assert (one["name"], one["role"]) == ("second seed", "replicate")


@pytest.mark.parametrize(
    ("steps", "shown", "trained", "standing"),
    [
        ([256, 16, 0], [0, 16, 256], {"first": 256, "last": 0}, None),
        ([0, 16, 256], [0, 16, 256], {"first": 0, "last": 256}, None),
        ([8, 8, 8], [8, 8, 8], {"first": 8, "last": 8}, 8),
        ([8], [8], {"first": 8, "last": 8}, None),
    ],
)
def test_links_are_shown_by_lm_step_in_whichever_order_they_were_trained(
    steps: list[int], shown: list[int], trained: dict[str, int], standing: int | None
) -> None:
    grown: list[float | int | None] = [float(number) for number in range(len(steps))]
    links = {**card(PLAIN, steps).links, "explained_variance": grown}
    client = web(card(PLAIN, steps, links=links))
    (home,) = client.get("/api/home.json").json()["chains"]
    chain = client.get(f"/api/chains/{PLAIN}/chain.json").json()
    assert home["links"]["lm_step"] == [link["lm_step"] for link in chain["links"]] == shown
    of_link = dict(zip(steps, grown, strict=True))
    if standing is None:
        variances = [of_link[step] for step in shown]
        assert home["links"]["explained_variance"] == variances
        assert [link["explained_variance"] for link in chain["links"]] == variances
    else:
        assert home["links"]["explained_variance"] == grown, "links over one step as trained"
    for answer in (home, chain):
        assert answer["direction"] == "reverse"
        assert (answer["trained"], answer["standing"]) == (trained, standing)


def test_an_analysed_chain_says_in_which_order_it_was_trained(store: Path) -> None:
    reverse = card(FORWARD, [256, 16, 0], direction="reverse")
    found = web(reverse, store=store).get(f"{AT}/chain.json").json()
    assert found["trained"] == {"first": 256, "last": 0}
    steps = [link["lm_step"] for link in found["links"]]
    assert steps == sorted(steps)


def test_a_hook_is_written_in_one_way(store: Path) -> None:
    client = web(OWN, store=store)
    (home,) = client.get("/api/home.json").json()["chains"]
    assert home["hook"] == client.get(f"{AT}/chain.json").json()["hook"] == "resid_pre.2"


def test_each_curve_says_what_its_control_is_or_that_there_is_none(store: Path) -> None:
    found = web(OWN, store=store).get(f"{AT}/chain.json").json()["columns"]
    assert [one["name"] for one in found if one["control"]] == ["cosine_to_final"]
    for column in found:
        words = column["description"]
        assert words.endswith(NO_CONTROL) == (column["curve"] and not column["control"])
        if column["control"]:
            assert words.endswith(CONTROLS[column["name"]])
        assert "link before" not in words, "said in LM steps: a chain may be trained in reverse"


def test_words_of_an_earlier_release_are_told_in_those_of_this_one(
    store: Path, tmp_path: Path
) -> None:
    old = shutil.copytree(store, tmp_path / "old")
    manifest = json.loads((old / "chain.json").read_text())
    manifest.pop("judged_contexts")
    for column in manifest["columns"]:
        column["description"] = "as it was"
    (old / "chain.json").write_text(json.dumps(manifest))
    client = web(OWN, store=old)
    found = client.get(f"{AT}/chain.json").json()
    assert found["judged_contexts"] is None
    assert not [one for one in found["columns"] if one["description"] == "as it was"]
    assert client.get(f"{AT}/features/7.json").json()["contexts"]["judged"] is None


def test_a_feature_says_how_many_contexts_are_here_and_how_many_were_judged(
    client: TestClient,
) -> None:
    life = client.get(f"{AT}/features/7.json").json()
    assert life["contexts"] == {"kept": 20, "of": 20, "judged": 25}
    assert client.get(f"{AT}/chain.json").json()["judged_contexts"] == 25


def test_what_a_feature_promotes_is_told_where_it_was_measured(
    client: TestClient, store: Path, tmp_path: Path
) -> None:
    assert "promoted" not in client.get(f"{AT}/features/7.json").json()["links"][0]
    measured = shutil.copytree(store, tmp_path / "measured")
    manifest = json.loads((measured / "chain.json").read_text())
    tokens = np.arange(80 * 3, dtype="<i4").reshape(80, 3) % 50
    logits = np.linspace(2, -2, 80 * 3, dtype="<f4").reshape(80, 3)
    for kind in ("promoted", "suppressed"):
        for of, values in (("tokens", tokens), ("logits", logits)):
            facts = {"dtype": values.dtype.str[1:], "shape": [80, 3]}
            manifest["arrays"]["links"][f"{kind}_{of}"] = facts
            for link in (measured / "links").iterdir():
                np.save(link / f"{kind}_{of}.npy", values)
    (measured / "chain.json").write_text(json.dumps(manifest))
    found = web(OWN, store=measured).get(f"{AT}/features/7.json").json()["links"][2]
    assert [token for token, _ in found["promoted"]] == tokens[7].tolist()
    np.testing.assert_allclose([logit for _, logit in found["suppressed"]], logits[7], rtol=1e-4)
    del manifest["arrays"]["links"]["promoted_logits"]
    (measured / "chain.json").write_text(json.dumps(manifest))
    refused = web(OWN, store=measured).get(f"{AT}/features/7.json")
    assert refused.status_code == 400
    assert "arrays.links.promoted_tokens: must be i4" in refused.json()["error"]


def test_a_chain_may_be_named_by_a_beginning_that_no_other_shares(store: Path) -> None:
    cards = [OWN, card(SECOND, [0, 16]), card(PLAIN, [0, 16])]
    client = web(*cards, store=store)
    at = "/api/chains/demo.L2.forward.s0"
    assert client.get(f"{at}/chain.json").json() == client.get(f"{AT}/chain.json").json()
    life = client.get(f"{AT}/features/7.json").content
    assert client.get(f"{at}/features/7.json").content == life
    asked = {"text": "a", "lm_steps": [0]}
    assert client.post(f"{at}/text.json", json=asked).status_code == 200
    assert client.get("/api/chains/other/chain.json").json()["name"] == PLAIN
    for address in ("chain.json", "features/7.json"):
        refused = client.get(f"/api/chains/demo/{address}")
        assert refused.status_code == 404
        assert refused.json()["error"].startswith(
            f"chain='demo': begins 2 names: {FORWARD}, {SECOND}; "
        )


def test_an_analysis_that_is_being_made_is_told(store: Path) -> None:
    running = replace(card(PLAIN, [0, 16]), analysing=Analysing("r1", 1_700_000_000_000))
    client = web(OWN, running, store=store)
    said = {"run": "r1", "since": "2023-11-14T22:13:20.000Z"}
    for name, wanted in ((PLAIN, said), (FORWARD, None)):
        assert client.get(f"/api/chains/{name}/chain.json").json()["analysing"] == wanted
    found = {one["name"]: one for one in client.get("/api/home.json").json()["chains"]}
    assert (found[PLAIN]["analysing"], found[FORWARD]["analysing"]) == (said, None)
