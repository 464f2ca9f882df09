"""The explorer's pages of chains in a real browser: home, slider, map, table, filters."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from saetrack.analysis.meaning.classes import LABEL_MEANINGS
from saetrack.analysis.meaning.patterns import PATTERN_MEANINGS
from tests.support.explorer_browser import DEAD, SHORT, Tab, served
from tests.support.explorer_demo import FORWARD, PLAIN, DemoChains, card

expect = pytest.importorskip("playwright.sync_api", reason="no playwright").expect
pytestmark = pytest.mark.browser
CHAIN = f"#/{FORWARD}"


def rows(page: Any) -> Any:
    return page.locator("table.features tbody tr[data-feature]")


def test_home_lays_ticked_chains_over_one_another(tab: Tab) -> None:
    page = tab.show("#/")
    expect(page.locator(".card")).to_have_count(5)
    expect(page.get_by_role("heading", level=2)).to_have_text(["demo 4", "other 1"])
    for name in (FORWARD, PLAIN):
        page.get_by_label(f"Lay the curves of {name} over others").check()
    expect(page.locator(".compare .panel")).to_have_count(5)
    expect(page.locator(".compare .panel").first.locator(".series")).to_have_count(2)
    assert f"with={FORWARD},{PLAIN}" in tab.at
    page.reload()
    expect(page.locator(".compare .legend li")).to_have_count(2)
    page.get_by_label("Filter chains by name").fill("reverse")
    expect(page.locator(".card")).to_have_count(1)
    run = page.get_by_role("link", name="Run ↗")
    assert str(run.get_attribute("href")).startswith("http://127.0.0.1:5000/#/experiments/1/runs/")


def test_a_chain_in_training_moves_by_itself(new_tab: Callable[..., Tab]) -> None:
    growing = card(FORWARD, [0, 1], planned=4, is_training=True)
    chains = DemoChains([growing])
    with served(chains) as at:
        home, of_chain = new_tab(at), new_tab(at)
        home.show("#/").get_by_label(f"Lay the curves of {FORWARD} over others").focus()
        expect(home.page.locator(".card .state")).to_contain_text("2 of 4 links")
        page = of_chain.show(CHAIN)
        expect(page.locator(".readout")).to_contain_text("link 2 of 2")
        expect(page.locator(".command code")).to_have_text(f"saetrack analyze {FORWARD}")
        chains.shown = [card(FORWARD, [0, 1, 8], planned=4, is_training=True)]
        expect(home.page.locator(".card .state")).to_contain_text("3 of 4 links", timeout=15_000)
        assert home.page.evaluate("document.activeElement.dataset.focus") == "tick"
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator(".readout")).to_contain_text("link 3 of 3", timeout=20_000)


def test_one_slider_drives_everything_and_the_address_keeps_it(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}?step=0")
    slider = page.get_by_role("slider", name="LM step")
    expect(slider).to_have_attribute("aria-valuenow", "1")
    before = page.locator(".left .panel .bars").inner_html()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuenow", "3")
    expect(page.locator("#says")).to_contain_text("link 3 of 8")
    assert page.locator(".left .panel .bars").inner_html() != before
    at = tab.at
    assert re.search(r"step=\d+", at)
    words = page.locator(".readout").inner_text()
    page.reload()
    expect(page.locator(".readout")).to_have_text(words.replace("\n", " "), use_inner_text=True)
    assert tab.at == at
    slider.focus()
    page.keyboard.press("End")
    expect(page.locator(".readout")).to_contain_text("link 8 of 8")


def test_the_slider_is_dragged_and_plays(tab: Tab) -> None:
    page = tab.show(CHAIN)
    box = page.locator(".track .inner").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 2, box["y"] + 10, steps=4)
    page.mouse.up()
    expect(page.locator(".readout")).to_contain_text("link 1 of 8")
    page.keyboard.press("p")
    expect(page.locator(".readout")).to_contain_text("link 3 of 8")
    page.keyboard.press("p")
    page.get_by_role("button", name="axis: log steps").click()
    assert "scale=link" in tab.at


def test_the_table_sorts_filters_and_keeps_few_rows(tab: Tab) -> None:
    page = tab.show(CHAIN)
    expect(page.locator(".count")).to_have_text("300 features")
    assert rows(page).count() < 60
    page.locator(".table-scroll").evaluate("node => node.scrollTop = 1e7")
    expect(page.locator('tr[data-feature="299"]')).to_be_visible()
    page.locator('[data-sort="feature_density"]').click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("Density")
    shown = page.locator("tr[data-feature] td:nth-child(7)").all_inner_texts()[:9]
    values = [float(text.replace("−", "-")) for text in shown]
    assert values == sorted(values, reverse=True)
    page.locator(".map-legend").get_by_role("button", name="concept").last.click()
    expect(page.locator(".count")).to_contain_text("of 300")
    assert set(page.locator("tr[data-feature] td.label").all_inner_texts()) == {"concept"}
    page.get_by_label("Features whose commonest token at the strongest").fill("e")
    expect(page).to_have_url(re.compile("text=e"))
    at, words = tab.at, page.locator(".count").inner_text()
    tokens = page.locator("tr[data-feature] td.token").all_inner_texts()
    assert tokens and all("e" in token.lower() for token in tokens)
    page.reload()
    expect(page.locator(".count")).to_have_text(words)
    assert tab.at == at
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".count")).to_have_text("300 features")


def test_filters_by_range_and_by_what_changed_between_two_steps(tab: Tab) -> None:
    page = tab.show(CHAIN)
    page.get_by_text("Filter", exact=True).click()
    page.get_by_label("Column of the range").select_option("formation_step")
    page.get_by_label("at most").fill("31")
    page.locator("fieldset", has_text="Range").get_by_role("button", name="Add").click()
    expect(page.locator(".filter-chip")).to_contain_text("Formed at ≤ 31")
    formed = page.locator("tr[data-feature] td:nth-child(6)").all_inner_texts()
    assert formed and all(int(step) <= 31 for step in formed)
    page.locator("fieldset", has_text="differ").get_by_role("button", name="Add").click()
    expect(page.locator(".filter-chip")).to_have_count(2)
    assert "changed=0,143000" in tab.at
    page.keyboard.press("Escape")


def test_the_map_shows_a_feature_under_the_pointer_and_a_lasso_makes_a_list(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}?colour=pattern")
    expect(page.locator(".map-legend")).to_contain_text("maintaining")
    box = page.locator("canvas.over").bounding_box()
    card_ = page.locator(".hover-card")
    for at in range(400):  # somewhere there is a point
        x, y = (at % 20 + 0.5) / 20, (at // 20 + 0.5) / 20
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
        if card_.is_visible():
            break
    expect(card_).to_contain_text("Feature")
    expect(card_.locator(".context-line, .muted").last).not_to_have_text("…")
    corners = [(0.01, 0.01), (0.98, 0.01), (0.98, 0.98), (0.01, 0.98)]
    for number, (x, y) in enumerate(corners):
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=3)
        if number == 0:
            page.mouse.down()
    page.mouse.up()
    expect(page.locator(".filter-chip")).to_contain_text("lasso")
    page.get_by_role("button", name="Save as list").click()
    page.get_by_label("Name of the list").fill("All of it")
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_role("link", name="Lists").click()
    expect(page.get_by_label("Name of the list All of it")).to_have_value("All of it")


def test_colours_follow_any_column(tab: Tab) -> None:
    page = tab.show(CHAIN)
    colours = page.get_by_label("Colour of the points")
    for name in ("feature_density", "formation_step", "cosine_to_final", "progress_feature"):
        colours.select_option(name)
        expect(page.locator(".map-legend .gradient")).to_be_visible()
    painted = "node => { const d = node.getContext('2d').getImageData(0, 0, node.width, node.height).data; return d.some(v => v) }"  # noqa: E501
    assert page.locator(".map-box canvas").first.evaluate(painted)


def test_two_links_and_dead_features_only(tab: Tab) -> None:
    page = tab.show(f"#/{SHORT}")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".readout")).to_contain_text("link 1 of 2")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".readout")).to_contain_text("link 1 of 2")
    page = tab.show(f"#/{DEAD}")
    expect(page.locator(".count")).to_have_text("40 features")
    expect(page.locator(".map-legend")).to_contain_text("dead 40", use_inner_text=True)
    page = tab.show(f"#/{DEAD}/3")
    expect(page.locator(".contexts")).to_contain_text("It fires on no token of the text")
    expect(page.locator(".matches")).to_contain_text("it has no partner")
    page = tab.show(f"#/{SHORT}/3?beside=0")
    expect(page.locator(".context-column")).to_have_count(2)


def test_what_is_not_there_is_said_in_a_line(new_tab: Callable[..., Tab]) -> None:
    tab = new_tab()
    page = tab.show(f"#/{FORWARD}/300")
    expect(page.get_by_role("alert")).to_contain_text("There is no feature 300")
    page = tab.show(f"#/{PLAIN}/3")
    expect(page.get_by_role("alert")).to_contain_text(f"saetrack analyze {PLAIN}")
    assert not tab.errors
    page = tab.show("#/nothing.of.this.name")
    expect(page.get_by_role("alert")).to_contain_text("is not registered")
    # The browser itself notes each answer that is no success.
    assert all("404" in error for error in tab.errors)
    tab.errors.clear()


def test_a_new_analysis_is_shown_while_the_page_is_open(
    new_tab: Callable[..., Tab], demo: DemoChains
) -> None:
    chains = DemoChains(demo.shown, {})
    chains.shown = [replace(demo.shown[0], analysis=None)]
    with served(chains) as at:
        tab = new_tab(at)
        page = tab.show(CHAIN)
        expect(page.locator(".command")).to_be_visible()
        chains.stores = {FORWARD: demo.stores[FORWARD]}
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.locator("table.features").wait_for()
        expect(page.locator("#news")).to_contain_text("analysed anew")


def test_a_page_that_waits_for_an_analysis_says_so_and_opens_by_itself(
    new_tab: Callable[..., Tab], demo: DemoChains
) -> None:
    chains = DemoChains([replace(demo.shown[0], analysis=None)], {})
    with served(chains) as at:
        tab = new_tab(at)
        running = {"run": "1", "since": "2026-01-02T03:04:05Z"}
        tab.alter("chain.json", lambda answer: answer.update(analysing=running))
        page = tab.show(f"{CHAIN}/search?q=river")
        expect(page.get_by_role("alert")).to_contain_text(
            "An analysis of this chain is running since"
        )
        chains.stores = {FORWARD: demo.stores[FORWARD]}
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator(".hits").first).to_contain_text("river")
        page = tab.show(CHAIN)
        expect(page.locator(".chain-head .live")).to_contain_text(
            "An analysis of this chain is running"
        )


def test_a_beginning_of_a_chains_name_is_enough_where_only_one_has_it(tab: Tab) -> None:
    page = tab.show("#/demo.L2.forward.s0/3?step=0")
    expect(page.get_by_role("heading", level=1)).to_have_text("Feature 3")
    assert tab.at == f"{CHAIN}/3?step=0"
    page = tab.show("#/demo.L2.forward")
    expect(page.get_by_role("alert")).to_contain_text(f"{FORWARD}, ")
    tab.errors.clear()  # the browser notes each answer that is no success


def test_an_open_page_becomes_a_frame_and_a_page_again(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}/3")
    for embedded in (True, False):
        page.evaluate(f"location.hash = '{CHAIN}/3?step=0{'&embed=1' * embedded}'")
        expect(page.locator("#bar")).to_be_visible(visible=not embedded)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("?step=foo", "step=foo, which is no LM step of this chain: LM step 143,000 is shown"),
        ("?step=130", "is shown, the nearest one"),
        ("/3?beside=bar", "beside=bar, which is no LM step of this chain: one step alone"),
        ("/3?step=0@7", "step=0@7, which is no LM step of this chain: LM step 0 is shown"),
        (
            "?pattern=grouping,foo",
            "pattern=foo, which this page does not have (there are maintaining",
        ),
        ("?where=l0:1:2", "where=l0:1:2, which is not as it must be: it is left out"),
        ("?picked=3.300", "picked=3.300, which is not as it must be"),
        ("/3?window=wide", "window=wide, which this page does not have (there are short, medium"),
        ("/3?foo=1", "foo=1, which says nothing to this page"),
    ],
)
def test_what_an_address_asks_for_and_the_chain_has_not_is_told(
    tab: Tab, asked: str, said: str
) -> None:
    page = tab.show(f"{CHAIN}{asked}")
    expect(page.locator(".stray")).to_contain_text(said)
    page.keyboard.press("ArrowLeft")
    if "step" in asked:
        expect(page.locator(".stray")).to_be_hidden()


@pytest.mark.parametrize("path", ["82/7/8", "nonsense", "3/contexts"])
def test_an_address_with_more_than_a_page_is_refused(tab: Tab, path: str) -> None:
    page = tab.show(f"{CHAIN}/{path}")
    expect(page.get_by_role("alert")).to_contain_text(f"There is no page {path}")


def test_nothing_leaves_the_slider_at_a_collapsed_checkpoint(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}/0")
    for _ in range(8):
        if "collapsed" in page.locator(".readout").inner_text():
            break
        page.keyboard.press("ArrowLeft")
    expect(page.locator(".readout")).to_contain_text("collapsed")
    slider, readout = (page.locator(at).bounding_box() for at in (".slider", ".readout"))
    assert readout["x"] + readout["width"] <= slider["x"] + slider["width"]


def test_a_button_can_be_read_under_the_pointer(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}/text")
    button = page.get_by_role("button", name="Read the text")
    colours = "node => ['color', 'backgroundColor'].map(name => getComputedStyle(node)[name])"
    before = button.evaluate(colours)
    button.hover()
    assert button.evaluate(colours) == before


def test_a_lasso_stays_in_the_address(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}?picked=3.5.8")
    expect(page.locator(".count")).to_have_text("3 of 300 features")
    expect(page.locator(".filter-chip")).to_contain_text("lasso: 3 features")
    page.reload()
    expect(rows(page)).to_have_count(3)
    page.locator(".filter-chip button").click()
    expect(page.locator(".count")).to_have_text("300 features")
    assert "picked" not in tab.at
    page = tab.show(f"{CHAIN}?picked=here")  # more than an address has room for, of another tab
    expect(page.locator(".count")).to_have_text("300 features")


def test_labels_and_patterns_are_explained_and_weighed_where_they_are_counted(tab: Tab) -> None:
    weighed = {
        "of_concepts": "At the last link 17 features are concepts; 3.2 would be by chance.",
        "of_patterns": "A single feature's pattern is that of its match at kappa 0.60.",
    }
    tab.alter("chain.json", lambda answer: answer.update(weighed))
    counted = tab.show(CHAIN).locator(".counted")
    expect(counted).to_contain_text(weighed["of_concepts"])
    expect(counted).to_contain_text(weighed["of_patterns"])
    explained = (("concept", LABEL_MEANINGS["concept"]), ("shifting", PATTERN_MEANINGS["shifting"]))
    for number, (name, meaning) in enumerate(explained):
        words = counted.locator("details").nth(number)
        expect(words.get_by_text(meaning)).to_be_hidden()
        words.locator("summary").click()
        expect(words.get_by_text(name, exact=True)).to_be_visible()
        expect(words.get_by_text(meaning)).to_be_visible()


def test_words_are_explained(tab: Tab) -> None:
    page = tab.show(CHAIN)
    page.get_by_role("button", name="Keys and words").click()
    words = page.get_by_role("dialog")
    words.get_by_text("Patterns: what becomes of it").click()
    for meaning in (PATTERN_MEANINGS["shifting"], PATTERN_MEANINGS["merging"]):
        expect(words.get_by_text(meaning)).to_be_visible()
    page.keyboard.press("Escape")
    page = tab.show(f"{CHAIN}/3")
    label = page.locator(".feature-head .chip").inner_text()
    expect(page.locator(".why")).to_contain_text(label)
    expect(page.locator(".shading")).to_contain_text("the feature's largest at this step")
