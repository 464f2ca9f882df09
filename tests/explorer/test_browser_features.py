"""The explorer's pages of features in a real browser; search, own text, lists, static site."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from saetrack.analysis.life_store.columns import COLUMNS
from saetrack.explorer.app import PAGE
from tests.support.explorer_browser import HOSTILE, Tab, static_site
from tests.support.explorer_demo import FORWARD, PLAIN, DemoChains

expect = pytest.importorskip("playwright.sync_api", reason="no playwright").expect
pytestmark = pytest.mark.browser
CHAIN = f"#/{FORWARD}"
VIEWS = ["#/", CHAIN, f"{CHAIN}/3", f"{CHAIN}/3?step=143000&beside=0", f"{CHAIN}/search?q=river"]
VIEWS += [f"{CHAIN}/text?text=a river&steps=0", f"{CHAIN}/lists", f"#/{PLAIN}"]


def test_a_feature_has_ribbon_curves_controls_and_contexts(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}/0?step=143000")
    ribbon = page.locator(".slider .ribbon")
    assert "from step" in str(ribbon.get_attribute("aria-label"))
    expect(ribbon.locator(".hatched")).to_have_count(1)
    shown = [column for column in COLUMNS if column.curve]
    expect(page.locator(".curves .panel")).to_have_count(len(shown))
    expect(page.locator(".curves .band[d]")).to_have_count(1)
    expect(page.locator(".context-column h4")).to_have_count(6)
    assert page.locator(".group.g-top .a9").count() >= 1
    expect(page.locator(".matches")).to_contain_text("can be rounding noise")
    page.get_by_role("button", name="as a table").click()
    expect(page.locator(".curves tbody tr")).to_have_count(8)
    page = tab.show(f"{CHAIN}/4")  # which the synthetic analysis did not follow
    expect(page.locator(".not-measured")).to_contain_text("progress in activation space")


def test_the_name_of_a_control_is_whole(tab: Tab) -> None:
    name = "random directions, with the same firing and the same norm, of an LM that stands still"

    def rename(answer: Any) -> None:
        for column in answer["columns"]:
            if column["control"]:
                column["control"]["title"] = f"{name}, 5 to 95 %"

    tab.alter("chain.json", rename)
    page = tab.show(f"{CHAIN}/3")
    reading = page.locator(".panel .reading").filter(has_text=name).first
    expect(reading).to_be_visible()
    expect(reading).not_to_contain_text("5 to 95 %")
    panel = page.locator(".panel").filter(has_text=name).first
    text, box = reading.bounding_box(), panel.bounding_box()
    assert text and box
    assert box["x"] <= text["x"] and text["x"] + text["width"] <= box["x"] + box["width"] + 1


def test_keys_move_over_steps_and_features_in_the_tables_order(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}?sort=feature_density&down=1")
    links = page.locator("tr[data-feature] th a").all_inner_texts()
    page.keyboard.press("j")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Feature {links[0]}")
    page.keyboard.press("j")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Feature {links[1]}")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".readout")).to_contain_text("link 7 of 8")
    page.keyboard.press("k")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Feature {links[0]}")
    expect(page.locator(".readout")).to_contain_text("link 7 of 8")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next feature")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("river")
    page.keyboard.press("Enter")
    expect(page.locator(".results")).to_contain_text("By the commonest token")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Feature {links[0]}")


def test_two_steps_side_by_side_mark_what_is_new_and_gone(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}/0?step=143000")
    page.keyboard.press("b")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".context-column")).to_have_count(2)
    old, new = page.locator(".context-column").all()
    expect(page.locator(".beside-words")).to_contain_text("no longer among the 10 strongest")

    def places(column: Any) -> dict[str, bool]:
        found = column.locator(".g-top li").all()
        return {
            str(row.get_attribute("data-place")): row.locator(".badge.mark").count() > 0
            for row in found
        }

    before, after = places(old), places(new)
    assert before and after
    assert {at for at, marked in before.items() if marked} == set(before) - set(after)
    assert {at for at, marked in after.items() if marked} == set(after) - set(before)
    at = tab.at
    page.reload()
    expect(page.locator(".context-column")).to_have_count(2)
    assert tab.at == at


def test_contexts_by_window_line_breaks_and_repeats(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}/0")
    sentence = page.locator(".context-list .sentence")
    medium = len(sentence.first.inner_text())
    page.get_by_label("Tokens around each").select_option("short")
    assert len(sentence.first.inner_text()) < medium
    page.get_by_role("button", name="Align").click()
    expect(page.locator(".context-column.aligned")).to_have_count(0)
    page.get_by_label("Tokens around each").select_option("long")
    page.get_by_role("button", name="Line breaks").click()
    assert "⏎" in page.locator(".contexts").inner_text()
    assert page.locator(".sentence br").count() > 0
    assert "window=long&align=0&breaks=1" in tab.at


def test_search_finds_tokens_and_contexts(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}/search")
    page.get_by_label("Search tokens and contexts").fill("harbour")
    hits = page.locator(".hits").first.locator("li")
    expect(hits.first).to_contain_text("harbour")
    expect(hits.first.locator(".small-ribbon")).to_have_count(1)
    expect(page.locator(".hit-context .peak").first).to_be_visible()
    assert "q=harbour" in tab.at
    hits.first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Feature")
    page = tab.show(f"{CHAIN}/search?q=qqqqq")
    expect(page.locator(".results")).to_contain_text("No feature has")


def test_own_text_at_chosen_steps(tab: Tab) -> None:
    tab.alter("home.json", lambda answer: answer.update(own_text_characters=2000))
    page = tab.show(f"{CHAIN}/text")
    page.get_by_label("Your text").fill("The <b>river</b> bank")
    page.get_by_role("button", name="none").click()
    page.get_by_role("button", name="Read the text").click()
    expect(page.locator(".page > [role=status]")).to_have_text("Choose an LM step first.")
    for step in ("0", "143,000"):
        page.get_by_label(step, exact=True).check()
    page.get_by_role("button", name="Read the text").click()
    table = page.locator(".tokens-by-steps")
    expect(table.locator("thead th")).to_have_text(["Token", "step 0", "step 143,000"])
    expect(table.locator("tbody th")).to_have_text(["The", "<b>river</b>", "bank"])
    expect(page.locator(".own-feature").nth(9)).to_be_visible()
    # Half of the demonstration's 512 features fire on any token: three of them are shown.
    first = table.locator("tbody td").first
    expect(first.get_by_role("link")).to_have_count(3)
    expect(first).to_have_text(re.compile(r"\+\d{2,3}$"))
    page.get_by_label("Your text").fill("🙂" * 2001)
    expect(page.locator(".own-form .count")).to_have_text("2,001 of at most 2,000 characters")
    page.get_by_role("button", name="Read the text").click()
    expect(page.locator(".page > [role=status]")).to_have_text(
        "The text has 2,001 characters; 2,000 are read at most."
    )
    assert "steps=0,143000" in tab.at


def test_own_text_of_an_lm_that_cannot_be_loaded_is_refused_in_a_line(tab: Tab) -> None:
    page = tab.show(f"#/{PLAIN}/text?text=abc&steps=16")
    status = page.locator(".page > [role=status]")
    expect(status).to_contain_text("its LM cannot be loaded")
    assert all("400" in error for error in tab.errors)
    tab.errors.clear()


def test_lists_are_named_exported_and_imported(tab: Tab, tmp_path: Path) -> None:
    page = tab.show(f"{CHAIN}/7?step=143000")
    page.keyboard.press("l")
    page.get_by_label("Name of the list").fill("Mine")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Lists").click()
    name = page.get_by_label("Name of the list Mine")
    name.fill('Ships, "and" more')
    name.press("Enter")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    path = tmp_path / "ships.csv"
    download.value.save_as(path)
    lines = path.read_text().splitlines()
    assert lines[0] == "chain,feature,step,address"
    assert lines[1] == f"{FORWARD},7,143000,{tab.address}{CHAIN}/7?step=143000"
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".empty")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    page.get_by_label("CSV file with features").set_input_files(path)
    expect(page.get_by_label("Name of the list ships", exact=True)).to_be_visible()
    page.get_by_role("link", name="Show on the map").first.click()
    expect(page.locator(".count")).to_have_text("1 of 300 features")


def test_text_of_the_corpus_is_never_markup(tab: Tab) -> None:
    views = [f"#/{HOSTILE}", f"#/{HOSTILE}/1?window=long&breaks=1", f"#/{HOSTILE}/2?align=0"]
    views += [f"#/{HOSTILE}/search?q=onerror", f"#/{HOSTILE}/text?text=<img onerror=1>&steps=0"]
    seen = ""
    for view in views:
        page = tab.show(view)
        page.wait_for_timeout(250)
        assert page.locator("main img, main script, main iframe").count() == 0
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        seen += page.locator("main").inner_text()
    assert "<img src=x" in seen
    assert "⟨202E⟩" in seen
    assert not set(seen) & set("\u202e\u2066\u200b\ufeff\x00\x07")
    assert "a" * 100 not in seen


def test_no_view_scrolls_sideways_on_a_small_phone(new_tab: Callable[..., Tab]) -> None:
    tab = new_tab(viewport={"width": 320, "height": 640}, color_scheme="dark")
    for view in VIEWS:
        page = tab.show(view)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, view


AUDIT = """() => {
  const named = (node) => node.getAttribute("aria-label") || node.textContent.trim() || node.title
    || node.labels?.[0]?.textContent.trim() || node.placeholder;
  const seen = (node) => node.checkVisibility?.() ?? true;
  const found = [];
  for (const node of document.querySelectorAll("a[href], button, input, select, textarea"))
    if (seen(node) && !named(node)) found.push(`no name: ${node.outerHTML.slice(0, 90)}`);
  for (const node of document.querySelectorAll("[role=img]"))
    if (!node.getAttribute("aria-label")) found.push(`no words: ${node.outerHTML.slice(0, 90)}`);
  for (const node of document.querySelectorAll("[tabindex]"))
    if (Number(node.getAttribute("tabindex")) > 0) found.push("order of focus is changed");
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  if (new Set(ids).size < ids.length) found.push("an id is given twice");
  for (const node of document.querySelectorAll("[style]"))
    if (node.getAttribute("style").includes("url(")) found.push("a style loads something");
  if (!document.querySelector("h1")) found.push("no heading");
  for (const table of document.querySelectorAll("table"))
    if (!table.querySelector("th")) found.push("a table without headers");
  return found;
}"""


def test_everything_has_a_name_and_a_role(tab: Tab) -> None:
    for view in VIEWS:
        page = tab.show(view)
        page.wait_for_timeout(150)
        assert page.evaluate(AUDIT) == [], view
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()


def test_dark_and_light(new_tab: Callable[..., Tab]) -> None:
    page = new_tab(color_scheme="dark").show(f"{CHAIN}/3")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.keyboard.press("t")
    assert page.evaluate(ground) != dark
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_a_feature_embeds_by_its_address(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}/3?embed=1&panel=contexts")
    expect(page.locator("#bar")).to_be_hidden()
    expect(page.locator(".curves")).to_be_hidden()
    expect(page.locator(".contexts")).to_be_visible()
    expect(page.get_by_role("link", name="Open in the explorer")).to_be_visible()


def test_a_static_site_from_a_plain_file_server(
    new_tab: Callable[..., Tab], demo: DemoChains, tmp_path: Path
) -> None:
    with static_site(demo, tmp_path / "site", features=64) as at:
        tab = new_tab(at)
        page = tab.show("#/")
        expect(page.locator(".card")).to_have_count(1)
        page.get_by_role("link", name="Explore features").click()
        expect(page.locator(".count")).to_have_text("64 features")
        counts = page.locator(".map-legend .chip .muted").all_inner_texts()
        assert sum(map(int, counts)) == 64
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".readout")).to_contain_text("link 7 of 8")
        page.keyboard.press("j")
        expect(page.get_by_role("heading", level=1)).to_contain_text("Feature")
        expect(page.locator(".context-list li").first).to_be_visible()
        kept = page.evaluate("fetch('site.json').then(a => a.json())")["chains"][FORWARD]
        absent = next(number for number in range(300) if number not in kept["features"])
        page = tab.show(f"{CHAIN}/{absent}")
        expect(page.get_by_role("alert")).to_contain_text(f"saetrack explore {FORWARD}")
        page = tab.show(f"{CHAIN}/{kept['features'][0]}?step=143000")
        near = page.locator("section.fact", has_text="Nearest neighbours").locator("th")
        numbers = [int(text) for text in near.all_inner_texts()]
        linked = [int(text) for text in near.get_by_role("link").all_inner_texts()]
        assert linked == [number for number in numbers if number in kept["features"]] != numbers
        page = tab.show(CHAIN)
        expect(page.locator(".chain-head")).to_contain_text("This site holds 64 of 300 features")
        page = tab.show(f"{CHAIN}/search?q=e")
        expect(page.locator(".hit-context .peak").first).to_be_visible()
        shown = page.locator(".hits li > a").all_inner_texts()
        assert {int(text) for text in shown} <= set(kept["features"])
        page = tab.show(f"{CHAIN}/text")
        expect(page.locator(".command code")).to_have_text(f"saetrack explore {FORWARD}")


SEARCH = """async ([name, query]) => {
  const { chain } = await import(new URL("js/data.js", location.href).href);
  return (await chain(name)).search(query, 20);
}"""


def test_a_static_site_finds_what_the_server_finds(
    new_tab: Callable[..., Tab], demo: DemoChains, address: str, tmp_path: Path
) -> None:
    with static_site(demo, tmp_path / "site", features=None, contexts=None) as at:
        page = new_tab(at).show(CHAIN)
        for query in ("river", " harbour", "e", "quiet ri", "qqqq", "  "):
            ours = page.evaluate(SEARCH, [FORWARD, query])
            api = f"{address}api/chains/{FORWARD}/search.json"
            theirs = requests.get(api, {"q": query, "limit": 20}, timeout=30).json()
            assert ours["tokens"] == theirs["tokens"], query
            assert ours["truncated"] == theirs["truncated"], query
            kinds = ("feature", "link", "row", "position", "group")
            assert [[one[kind] for kind in kinds] for one in ours["contexts"]] == [
                [one[kind] for kind in kinds] for one in theirs["contexts"]
            ], query
            for one, there in zip(ours["contexts"], theirs["contexts"], strict=True):
                text = dict(enumerate(there["ids"], there["first"]))
                around = dict(enumerate(one["ids"], one["first"]))
                assert around.items() <= text.items()


def test_every_file_of_the_page_is_asked_for_at_once() -> None:
    """A module that only another one names would be found late."""
    text = (PAGE / "index.html").read_text()
    asked = set(re.findall(r'(?:src|href)="((?:js|css)/[^"]+)"', text))
    assert asked == {
        path.relative_to(PAGE).as_posix()
        for kind in ("js", "css")
        for path in PAGE.glob(f"{kind}/*")
    }
