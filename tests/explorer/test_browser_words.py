"""What the explorer's pages say is true of what they show, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from saetrack.analysis.life_store.reader import LifeStore
from tests.support.explorer_browser import Tab, served
from tests.support.explorer_demo import FORWARD, PLAIN, DemoChains, card

expect = pytest.importorskip("playwright.sync_api", reason="no playwright").expect
pytestmark = pytest.mark.browser
CHAIN = f"#/{FORWARD}"
RANDOM, TRAINED = "control: LM that stays random", "control: LM that stays trained"
NEEDLESS = "does not need the LM's training"
CONSTANT = "that LM no longer changes"


def matched(kind: str, lm_step: int, **more: Any) -> dict[str, Any]:
    """A match of a feature as the server answers it."""
    quality = {"decoder_cosine": 0.9, "activation_correlation": 0.9, "chance": 0.1, "poor": False}
    of = {"chain": kind, "kind": kind, "feature": 7, "lm_step": lm_step, "other_lm_step": lm_step}
    return of | quality | more


def with_matches(tab: Tab, *found: dict[str, Any]) -> None:
    def chain(answer: Any) -> None:
        answer["matches"] = [
            {"chain": one["chain"], "name": one["kind"], "lm_step": one["lm_step"], "text": ""}
            | {"role": "noise" if one["kind"].startswith("control") else "replicate"}
            for one in found
        ]

    tab.alter("chain.json", chain)
    tab.alter("features/3.json", lambda answer: answer.update(matches=list(found)))


def test_a_match_says_which_steps_it_compares_and_what_it_means_only_where_it_is_true(
    tab: Tab,
) -> None:
    with_matches(tab, matched(RANDOM, 0), matched(TRAINED, 143000), matched("second seed", 143000))
    page = tab.show(f"{CHAIN}/3?step=143000")
    here, elsewhere = page.locator(".match-group.here"), page.locator(".match-group.elsewhere")
    expect(here.locator(".match strong")).to_have_text(["second seed", TRAINED])
    expect(elsewhere.locator(".match strong")).to_have_text([RANDOM])
    expect(elsewhere).to_contain_text("this chain's step 0 with feature 7 at its step 0")
    expect(page.locator(".matches")).not_to_contain_text(NEEDLESS)
    expect(here.get_by_text(CONSTANT)).to_have_count(1)
    page.locator(".track").click(position={"x": 10, "y": 10})
    expect(here.locator(".match strong")).to_have_text([RANDOM])
    expect(here.get_by_text(NEEDLESS)).to_have_count(1)
    expect(page.locator(".matches")).not_to_contain_text(CONSTANT)


def test_a_poor_match_or_one_with_another_chain_says_nothing_of_training(tab: Tab) -> None:
    with_matches(
        tab, matched("control: LM that stays random", 0, poor=True), matched("other layer", 0)
    )
    page = tab.show(f"{CHAIN}/3?step=0")
    expect(page.locator(".match-group.here .match")).to_have_count(2)
    expect(page.locator(".matches")).not_to_contain_text(NEEDLESS)
    expect(page.locator(".matches .notice")).to_contain_text("Poor match")


def test_a_reverse_chain_lies_in_the_order_of_lm_steps_analysed_or_not(
    new_tab: Callable[..., Tab], demo: DemoChains
) -> None:
    """The server alone orders links, of the registry's cards as of life stores."""
    backwards = card(PLAIN, [256, 16, 0])
    with served(DemoChains([backwards, demo.shown[0]], demo.stores)) as at:
        tab = new_tab(at)
        page = tab.show(f"#/{PLAIN}")
        expect(page.locator(".readout")).to_contain_text("LM step 256 link 3 of 3")
        expect(page.locator(".chain-head")).to_contain_text(
            "reverse: from the last LM step to the first"
        )
        expect(page.locator(".chain-head")).to_contain_text(
            "“First” means LM step 0, “last” and “final” LM"
        )
        page.get_by_role("button", name="axis: log steps").click()
        expect(page.locator(".slider .names span")).to_have_text(["256", "16", "0"])
        lefts = [float(at) for at in page.locator(".slider .names span").evaluate_all(LEFTS)]
        assert lefts == sorted(lefts, reverse=True)
        page = tab.show("#/")
        last = page.locator(f'.card[data-chain="{PLAIN}"] .sparks b').first
        expect(last).to_have_text("0.715")  # of step 256, trained first: it falls from 0.9
        tab.alter("chain.json", lambda answer: answer.update(direction="reverse"))
        page = tab.show(CHAIN)
        expect(page.locator(".readout")).to_contain_text("LM step 143,000 link 8 of 8")
        expect(page.locator(".chain-head")).to_contain_text("“First” means LM step 0, “last”")


def test_the_same_words_at_another_place_are_no_change(tab: Tab) -> None:
    """The later step has the earlier one's first context at another place, and one of its own."""

    def moved(answer: Any) -> None:
        before, after = answer["links"][0], answer["links"][7]
        first, *others = (one for one in before["contexts"] if one["group"] == 0)
        shift = {"row": first["row"] + 1000, "first": first["first"], "position": first["position"]}
        new = others[0] | {"row": 2000, "ids": [1] * len(others[0]["ids"])}
        after["contexts"] = [first | shift, new]
        answer["contexts"] = {"kept": 2, "of": 20, "judged": 50}

    tab.alter("features/3.json", moved)
    page = tab.show(f"{CHAIN}/3?step=143000&beside=0&fold=0&align=0")
    older, newer = page.locator(".context-column").all()
    expect(older.locator(".g-top li").first.locator(".mark")).to_have_count(0)
    expect(older.locator(".mark").first).to_have_text("no longer among the 2")
    expect(newer.locator(".mark")).to_have_text(["newly among the 2"])
    words = page.locator(".beside-words")
    expect(words).to_contain_text("9 are no longer among the 2 strongest held at LM step 143,000")
    expect(words).to_contain_text("of those 2, 1 are newly among them")
    expect(words).to_contain_text("holds 2 of the 20 contexts that the analysis kept at each step")
    told = words.inner_text()
    for window in ("short", "long"):
        page.get_by_label("Tokens around each").select_option(window)
        expect(words).to_have_text(told, use_inner_text=True)
    held = newer.locator(".held")
    expect(held).to_contain_text("2 of ")
    expect(held).to_contain_text("this site holds 2 of the 20 contexts that the analysis kept")
    expect(held).to_contain_text("judged on its 50 strongest contexts")


def test_links_of_an_lm_that_stands_still_are_at_its_step(tab: Tab) -> None:
    def standing(answer: Any) -> None:
        answer["standing"] = 512
        for number, link in enumerate(answer["links"]):
            link["lm_step"] = number

    tab.alter("chain.json", standing)
    page = tab.show(f"{CHAIN}?step=512@3")
    expect(page.locator(".readout")).to_contain_text("LM step 512, link 4")
    expect(page.locator(".stray")).to_be_hidden()
    expect(page.locator(".slider .names span").first).to_have_text("#8")
    expect(page.locator("tr[data-feature] td:nth-child(6)").first).to_have_text(
        re.compile("^[1-8]$|–")
    )


def test_the_ribbon_keeps_its_steps_free_and_shows_where_the_commonest_token_changes(
    tab: Tab,
) -> None:
    def life(answer: Any) -> None:
        answer.update(formation_link=2, top_tokens=[4, 4, 5, 5, 5, 5, 5, 5])

    tab.alter("features/3.json", life)
    page = tab.show(f"{CHAIN}/3")
    flag, ribbon = (page.locator(at).bounding_box() for at in (".formed", ".slider .ribbon"))
    assert flag["y"] + flag["height"] <= ribbon["y"]
    change = page.locator(".token-change")
    expect(change).to_have_count(1)
    texts = page.evaluate(f"fetch('api/chains/{FORWARD}/vocabulary.json').then(a => a.json())")
    before, after = (text.replace(" ", "·") for text in texts[4:6])
    title = change.get_attribute("title")
    assert title.startswith(f"commonest token at the strongest contexts: {before} before, {after}")
    expect(page.locator(".ribbon-key")).to_have_text("commonest token changes")


def test_what_a_feature_promotes_at_the_shown_step_and_what_each_band_is(tab: Tab) -> None:
    def life(answer: Any) -> None:
        answer["links"][7] |= {"promoted": [[4, 2.5], [5, 1.5]], "suppressed": [[6, -2.0]]}

    tab.alter("features/3.json", life)
    page = tab.show(f"{CHAIN}/3?step=143000")
    panel = page.locator("section.fact", has_text="What it promotes")
    expect(panel.locator("tr").first.locator(".tok")).to_have_count(2)
    expect(panel).to_contain_text("its scale is fixed at the median over text of this checkpoint")
    page.keyboard.press("ArrowLeft")
    expect(panel).to_have_count(0)
    page.keyboard.press("ArrowRight")
    panel = page.locator(".curves .panel", has=page.locator(".band[d]"))
    expect(panel.locator(".reading")).to_contain_text("LM that stands still 0.950 to 1")
    expect(page.locator(".curves")).to_contain_text("one token is enough")


def test_a_feature_is_found_by_its_number_and_a_text_as_the_page_writes_it(tab: Tab) -> None:
    page = tab.show(CHAIN)
    named = """import(new URL("js/query.js", location.href).href).then(({ featureNamed }) =>
      ["19", "#19", " feature 19", "300", "x19"].map((typed) => featureNamed(typed, 300)))"""
    assert page.evaluate(named) == [19, 19, 19, None, None]
    page.get_by_label("Search features of this chain").fill("#19")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Feature 19")
    page = tab.show(f"{CHAIN}/search?q=%2319")
    expect(page.get_by_role("link", name="Feature 19")).to_be_visible()
    page = tab.show(CHAIN)
    table = page.get_by_label("Features whose commonest token at the strongest")
    table.fill("#19")
    expect(page.locator("tr[data-feature] th")).to_have_text(["19"])
    found = []
    for typed in (" wa", "·wa"):
        table.fill(typed)
        expect(page.locator(".count")).to_contain_text(" of 300")
        expect(page).to_have_url(re.compile("text=(%C2%B7|\\+)wa"))
        found.append(page.locator("tr[data-feature] td.token").all_inner_texts())
    assert found[0] and found[0] == found[1]
    assert all(token.startswith("·wa") for token in found[0])
    table.press("Enter")
    assert "/search" not in tab.at
    page = tab.show(f"{CHAIN}/search?q=300")
    expect(page.locator(".named")).to_have_text(
        "There is no feature 300: the chain has 300, from 0 to 299."
    )


@pytest.mark.parametrize("text", ["\n\n", "\u200b", " \tx "])
def test_a_token_that_is_hardly_a_text_is_found_as_it_is_written(
    tab: Tab, demo: DemoChains, text: str
) -> None:
    tokens = LifeStore(demo.stores[FORWARD]).column(7, "top_token").tolist()
    feature, token = next((at, one) for at, one in enumerate(tokens) if one >= 0)
    tab.alter("vocabulary.json", lambda texts: texts.__setitem__(token, text))
    page = tab.show(f"{CHAIN}?step=143000")
    shown = page.locator(f'tr[data-feature="{feature}"] td.token')
    expect(shown).not_to_have_text("–")  # the vocabulary comes a moment later
    written = shown.inner_text()
    page.get_by_label("Features whose commonest token at the strongest").fill(written)
    expect(page.locator(".count")).to_contain_text(" of 300")
    found = page.locator("tr[data-feature] td.token")
    expect(found.first).to_have_text(written)
    assert set(found.all_inner_texts()) == {written}


def test_all_that_is_found_can_be_reached(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}/search?q=e")
    with page.expect_request("**/search.json*offset=50*"):
        page.get_by_role("link", name="the next 50").click()
    expect(page.locator(".results")).to_contain_text("features 51 to 100 are shown")
    with page.expect_request(lambda asked: "limit=50" in asked.url and "offset" not in asked.url):
        page.get_by_role("link", name="50 before").click()
    tab.show(f"{CHAIN}/search?q={'e' * 201}")
    expect(page.get_by_role("alert")).to_contain_text(
        "A text of 200 characters at most is searched"
    )


def test_own_text_is_ordered_by_the_shown_step(tab: Tab) -> None:
    """Feature 1 is strongest at any step, but silent at the last; the server's order is by step."""

    def answer(route: Any) -> None:
        def step(lm_step: int, *acts: list[float]) -> dict[str, Any]:
            features = [{"feature": f, "acts": a} for f, a in enumerate(acts, start=1)]
            tokens = [{"count": 0, "strongest": []}] * 2
            return {"lm_step": lm_step, "features": features, "strongest": 1, "of_token": tokens}

        steps = [step(0, [9, 0], [1, 0]), step(143000, [0, 0], [0, 2])]
        steps[1]["features"].reverse()
        route.fulfill(
            json={"tokens": ["a", "b"], "pieces": [None] * 2, "steps": steps, "note": None}
        )

    tab.page.route("**/text.json", answer)
    page = tab.show(f"{CHAIN}/text?text=a b&steps=0,143000,7")
    expect(page.locator(".stray")).to_contain_text("steps=7, which is no LM step of this chain")
    features = page.locator(".own-feature .line > a")
    expect(features).to_have_text(["feature 2", "feature 1"])
    expect(page.locator(".others")).to_contain_text("not among the 1 strongest at LM step 143,000")
    page.get_by_label("Order by step").select_option("0")
    expect(features).to_have_text(["feature 1", "feature 2"])
    assert "step=0" in tab.at


def test_a_chain_over_a_still_lm_offers_one_box_for_own_text(tab: Tab) -> None:
    def standing(answer: Any) -> None:
        answer["standing"] = 512

    tab.alter("chain.json", standing)
    page = tab.show(f"{CHAIN}/text")
    expect(page.locator(".steps input")).to_have_count(1)
    expect(page.locator(".own-form")).to_contain_text(
        "every link of this chain reads the LM's step 512"
    )


LEFTS = "nodes => nodes.map(node => parseFloat(node.style.left))"
