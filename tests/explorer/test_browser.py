"""The explorer's page in a real browser: headless Chromium, driven by playwright."""

from __future__ import annotations

import importlib.util
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn

from saetrack.explorer.addresses import Servers
from saetrack.explorer.app import make_app
from saetrack.explorer.open_stores import OpenStores
from saetrack.explorer.static_site import plan_site, write_site
from saetrack.registry.cards import AnalysisCard, RunAt
from tests.support.explorer_demo import FORWARD, PLAIN, DemoChains, card, free_port, manifest_steps
from tests.support.life_store import small_store, write_store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="no playwright"),
]
SHORT, DEAD, GROWING = (
    "demo.L1.forward.s0.eeee",
    "demo.L3.forward.s0.ffff",
    "demo.L2.forward.s1.bbbb",
)
STEP = 31  # of the synthetic store's links


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A usual chain, one of two links, one all of whose features are dead at the end."""
    root = tmp_path_factory.mktemp("stores")
    found = {
        FORWARD: small_store(root / "usual", d_sae=512, links=8),
        SHORT: small_store(root / "short", d_sae=60, links=2),
        DEAD: small_store(root / "dead", d_sae=60, links=4),
    }
    bury(found[DEAD])
    return found


def bury(store: Path) -> None:
    """Every feature of a store is dead at every link."""
    import numpy as np

    manifest = json.loads((store / "chain.json").read_text())
    dead = manifest["labels"].index("dead")
    for link in range(len(manifest["links"])):
        folder = store / "links" / f"{link:04d}"
        np.save(folder / "label.npy", np.full_like(np.load(folder / "label.npy"), dead))
        for name, empty in (("max_act", 0), ("feature_density", 0), ("top_token", -1)):
            np.save(folder / f"{name}.npy", np.full_like(np.load(folder / f"{name}.npy"), empty))
        rows = np.load(folder / "context_rows.npy")
        np.save(folder / "context_rows.npy", np.full_like(rows, -1))


@pytest.fixture(scope="module")
def chains(stores: dict[str, Path]) -> DemoChains:
    """Cards of all of them, of one that was not analysed, and of one that grows."""
    analysis = AnalysisCard(RunAt("1", "analysis"), ("figures/labels.png",), has_lives=True)
    cards = [card(name, manifest_steps(path), analysis=analysis) for name, path in stores.items()]
    growing = card(GROWING, [1, 2, 4], planned=12, is_training=True)
    return DemoChains([*cards, card(PLAIN, [0, 16, 256]), growing], dict(stores))


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An address at which an application answers."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def address(chains: DemoChains) -> Iterator[str]:
    """The explorer of these chains."""
    with served(make_app(chains, servers=Servers("5000", "4200"))) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for all tests of this file."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A new tab; whatever its console complains of fails the test."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console",
        lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None,
    )
    opened.complaints = complaints
    yield opened
    context.close()
    assert complaints == []


def at(address: str, chain: str, rest: str = "", **params: object) -> str:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in params.items())
    return f"{address}/#/{quote(chain)}{rest}{'?' + query if query else ''}"


def step_of(page: Any) -> int:
    words = page.text_content(".slider .step strong").split()
    return int(words[1].replace(",", ""))


def test_home_shows_every_chain_by_lm(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector(".card")
    assert page.locator(".card").count() == 5
    assert page.locator(".lm").all_text_contents() == ["demo", "other"]
    of_growing = page.locator(".card", has_text=GROWING)
    assert "training now" in of_growing.text_content()
    assert "3 of 12 links" in of_growing.text_content()
    assert "not analysed" in page.locator(".card", has_text=PLAIN).text_content()
    assert page.locator("footer a").count() == 2


def test_a_chain_that_grows_moves_by_itself(page: Any, chains: DemoChains, browser: Any) -> None:
    shown = DemoChains(list(chains.shown), chains.stores)
    with served(make_app(shown)) as address:
        page.goto(address)
        of_growing = page.locator(".card", has_text=GROWING)
        of_growing.locator("text=3 of 12 links").wait_for()
        grown = card(GROWING, [1, 2, 4, 8], planned=12, is_training=True)
        shown.shown = [grown if one.name == GROWING else one for one in shown.shown]
        of_growing.locator("text=4 of 12 links").wait_for()
        page.goto("about:blank")


def test_ticked_chains_lie_over_one_another_and_stay_in_the_address(
    page: Any, address: str
) -> None:
    page.goto(address)
    for name in (FORWARD, PLAIN):
        page.locator(".card", has_text=name).get_by_label("compare").check()
    assert page.locator("section:has-text('Laid over') path.curve").count() == 8
    page.reload()
    page.locator("text=Laid over one another").wait_for()
    assert page.locator(".legend li").all_text_contents() == [FORWARD, PLAIN]


def test_slider_keys_and_play_drive_every_panel(page: Any, address: str) -> None:
    page.goto(at(address, FORWARD, step=STEP))
    page.wait_for_selector(f".chain[data-drawn='{STEP}']")
    first_rows = page.locator(".rows .row").all_text_contents()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".chain[data-drawn='145']")
    assert step_of(page) == 145
    assert "step=145" in page.url
    assert page.locator(".rows .row").all_text_contents() != first_rows
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(f".chain[data-drawn='{STEP}']")
    page.keyboard.press(" ")
    page.wait_for_selector(".chain[data-drawn='145']")
    page.get_by_label("Pause").click()
    assert page.get_by_label("Play").is_visible()


def test_the_address_gives_the_same_view(page: Any, address: str) -> None:
    page.goto(at(address, FORWARD, step=STEP, colour="feature_density", sort="-feature_density"))
    page.wait_for_selector(f".chain[data-drawn='{STEP}']")
    assert page.locator(".legend.ramp").count() == 1
    order = page.locator(".rows .row").all_text_contents()
    page.reload()
    page.wait_for_selector(f".chain[data-drawn='{STEP}']")
    assert page.locator(".rows .row").all_text_contents() == order
    densities = [shown_number(text) for text in column_of(page, 5)]
    assert densities == sorted(densities, reverse=True)


def column_of(page: Any, index: int) -> list[str]:
    rows = page.locator(".rows .row:not([hidden])")
    found: list[str] = rows.evaluate_all(
        f"rows => rows.map(row => row.children[{index}].textContent)"
    )
    return found


def shown_number(text: str) -> float:
    return float(text.replace(",", "").replace("–", "nan"))


def test_filters_leave_the_features_that_they_name(page: Any, address: str) -> None:
    page.goto(at(address, FORWARD, step=143_000))
    page.wait_for_selector(".chain[data-drawn='143000']")
    page.get_by_label("Label", exact=True).select_option(label="concept-level")
    page.wait_for_function("document.querySelectorAll('.rows .row:not([hidden])').length > 0")
    assert set(column_of(page, 1)) == {"concept-level"}
    page.get_by_label("Label changed since").select_option(index=1)
    counted = page.locator(".panel-head [role=status]").text_content()
    page.get_by_label("Number to filter by").select_option("max_act")
    page.get_by_role("spinbutton", name="from").fill("5")
    page.get_by_role("spinbutton", name="from").press("Enter")
    page.wait_for_function("location.hash.includes('min=5')")
    page.wait_for_timeout(200)
    assert all(shown_number(text) >= 5 for text in column_of(page, 6))
    page.get_by_label("Token", exact=True).fill("zzzz")
    page.locator("text=0 of 512 features").wait_for()
    assert not counted.startswith("0 of")


def test_a_lasso_chooses_points_for_a_list(page: Any, address: str) -> None:
    page.goto(at(address, FORWARD))
    page.wait_for_selector(".chain[data-drawn]")
    box = page.locator("canvas.map").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    for x, y in ((0.5, 0.01), (0.99, 0.01), (0.99, 0.5), (0.99, 0.99), (0.01, 0.99), (0.01, 0.02)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
    page.mouse.up()
    page.locator("text=drawn around").wait_for()
    page.once("dialog", lambda dialog: dialog.accept("My list"))
    page.get_by_role("button", name="Make a list of these").click()
    page.locator("text=are in the list").wait_for()
    page.goto(f"{address}/#/lists")
    page.locator("h2:has-text('My list')").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "chain,feature,step,address"
    assert f"#/{FORWARD}/" in lines[1]
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    page.locator("text=There is no list yet").wait_for()
    page.set_input_files("input[type=file]", download.value.path())
    page.locator(f"text={len(lines) - 1} features were imported").wait_for()


def test_hover_names_a_feature_and_a_click_opens_it(page: Any, address: str) -> None:
    page.goto(at(address, FORWARD, step=143_000))
    page.wait_for_selector(".chain[data-drawn='143000']")
    box = page.locator("canvas.map").bounding_box()
    for i in range(2000):
        page.mouse.move(box["x"] + (13 * i) % box["width"], box["y"] + (13 * i // box["width"]) * 9)
        if page.locator(".tip:not([hidden])").count():
            break
    shown = page.locator(".tip strong").text_content()
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector(".feature h1")
    assert page.text_content(".feature h1").lower() == shown


def test_a_feature_at_two_steps(page: Any, address: str) -> None:
    page.goto(at(address, FORWARD, "/62", step=143_000, beside=STEP))
    page.wait_for_selector(".two-sides")
    assert page.locator(".side").count() == 2
    assert page.locator(".badge.gone").count() >= 1
    assert page.locator(".badge.new").count() >= 1
    assert page.locator(".ribbon .chosen").count() == 2
    page.keyboard.press("b")
    page.wait_for_selector(".sides:not(.two-sides)")
    assert "beside" not in page.url
    page.keyboard.press("j")
    page.locator("h1:has-text('Feature 63')").wait_for()
    assert "step=143000" in page.url
    page.keyboard.press("k")
    page.locator("h1:has-text('Feature 62')").wait_for()


def test_contexts_are_shaded_folded_and_as_wide_as_asked(page: Any, address: str) -> None:
    page.goto(at(address, FORWARD, "/62", step=143_000))
    page.wait_for_selector(".context")
    page.get_by_label("Width").select_option("narrow")
    narrow = page.locator(".context .text").all_text_contents()
    page.get_by_label("Width").select_option("wide")
    wide = page.locator(".context .text").all_text_contents()
    assert sum(map(len, wide)) > sum(map(len, narrow))
    assert page.locator(".token.here").count() == len(wide)
    assert page.locator(".token.a10").count() >= 1
    page.get_by_role("combobox", name="Contexts").select_option("top")
    assert page.locator(".contexts h3").all_text_contents() == ["Strongest"]


def test_curves_have_their_control_and_say_where_they_have_none(page: Any, address: str) -> None:
    page.goto(at(address, FORWARD, "/62"))
    page.wait_for_selector(".curves svg")
    with_control = page.locator(".curve-of:has(.band)")
    assert "LM that stands still" in with_control.first.text_content()
    assert page.locator(".curve-of:has-text('without a control')").count() >= 1


def test_hostile_text_stays_text(page: Any, address: str, stores: dict[str, Path]) -> None:
    texts = json.loads((stores[FORWARD] / "vocabulary.json").read_text())
    assert any("<script>" in text for text in texts)
    page.goto(at(address, FORWARD, "/search", q="<"))
    page.locator("text=commonest token holds").wait_for()
    assert page.locator(".token-chip", has_text="<script>alert(1)</script>").count() >= 1
    assert page.locator("main script, main b").count() == 0
    for feature in range(0, 512, 60):
        page.goto(at(address, FORWARD, f"/{feature}"))
        page.locator(f"h1:has-text('Feature {feature}')").wait_for()
        assert "\u202e" not in page.text_content("main")


def test_search_finds_tokens_and_contexts(page: Any, address: str) -> None:
    page.goto(at(address, FORWARD, step=STEP))
    page.wait_for_selector(".chain[data-drawn]")
    page.keyboard.press("/")
    page.keyboard.type("the")
    page.keyboard.press("Enter")
    page.wait_for_selector(".results.of-tokens li")
    assert all("the" in text.lower() for text in page.locator(".token-chip").all_text_contents())
    assert page.locator(".results li .ribbon").count() > 5
    marked = page.locator(".of-contexts mark").all_text_contents()
    assert marked and all(marked)
    page.locator(".results a").first.click()
    page.wait_for_selector(".feature h1")


def test_own_text_at_two_steps(page: Any, address: str) -> None:
    page.goto(at(address, FORWARD, "/text", steps=f"0,{STEP}", text="The cat sat"))
    page.wait_for_selector("table.own tbody tr")
    assert page.locator("table.own tbody th").all_text_contents() == ["The", "cat", "sat"]
    assert page.locator("table.own thead th").all_text_contents() == ["token", "step 0", "step 31"]
    page.locator("table.own td a").first.click()
    page.wait_for_selector(".feature h1")


def test_help_and_theme(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector(".card")
    page.keyboard.press("?")
    assert page.locator("dialog[open] kbd").count() == 7
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.get_by_label("Colours: system").click()
    page.get_by_label("Colours: light").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    page.wait_for_selector(".card")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("chain", [SHORT, DEAD])
def test_small_chains_and_dead_features(page: Any, address: str, chain: str) -> None:
    page.goto(at(address, chain))
    page.wait_for_selector(".chain[data-drawn]")
    page.keyboard.press("ArrowLeft")
    page.goto(at(address, chain, "/3"))
    page.wait_for_selector(".feature h1")
    if chain == DEAD:
        assert "fires nowhere" in page.text_content(".contexts, .sides")
        assert "does not fire" in page.text_content(".details")


def test_a_chain_without_an_analysis_says_what_to_run(page: Any, address: str) -> None:
    page.goto(at(address, PLAIN))
    page.locator(".notice").wait_for()
    said = page.text_content(".notice")
    assert f"chain: {PLAIN}" in said
    assert "saetrack analyze analysis.yaml" in said
    assert page.locator("path.curve").count() == 3


@pytest.mark.parametrize(
    ("rest", "line"),
    [("/99999", "features 0 to 511"), ("/nonsense", "no such page")],
)
def test_a_wrong_address_is_one_line(page: Any, address: str, rest: str, line: str) -> None:
    page.goto(at(address, FORWARD, rest))
    page.locator("[role=alert]").wait_for()
    assert line in page.text_content("[role=alert]")


def test_a_chain_that_is_gone_is_one_line(page: Any, address: str) -> None:
    page.goto(at(address, "gone.L1.forward.s0.0000"))
    page.locator("[role=alert]").wait_for()
    assert "is not registered" in page.text_content("[role=alert]")
    assert all("404" in line for line in page.complaints)
    page.complaints.clear()


def test_an_embedded_view_is_the_panel_alone(page: Any, address: str) -> None:
    page.goto(at(address, FORWARD, "/62", embed=1))
    page.wait_for_selector(".feature .context")
    assert not page.locator("header").is_visible()
    assert page.locator(".ribbon").is_visible()


@pytest.mark.parametrize("rest", ["", "/62", "/search?q=the", "/text"])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, address: str, rest: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    phone = context.new_page()
    phone.goto(f"{address}/#/{FORWARD}{rest}")
    phone.wait_for_selector("main h1")
    phone.wait_for_timeout(300)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_a_table_of_many_rows_holds_only_those_in_sight(
    page: Any, tmp_path: Path, browser: Any
) -> None:
    store = write_store(tmp_path / "large", d_sae=20_000, links=3, rows=100)
    large = card(FORWARD, manifest_steps(store))
    with served(make_app(DemoChains([large], {FORWARD: store}))) as address:
        page.goto(at(address, FORWARD, sort="feature"))
        page.wait_for_selector(".chain[data-drawn]")
        assert page.locator(".rows .row").count() < 60
        page.evaluate("document.querySelector('.scroller').scrollTop = 1e7")
        page.wait_for_function(
            "[...document.querySelectorAll('.rows .row:not([hidden])')]"
            ".some(row => row.children[0].textContent === '19999')"
        )
        page.goto("about:blank")


def test_a_static_site_needs_no_server_code(page: Any, chains: DemoChains, tmp_path: Path) -> None:
    site = tmp_path / "site"
    store = OpenStores(chains).get(FORWARD)
    assert store is not None
    usual = next(one for one in chains.shown if one.name == FORWARD)
    plan = plan_site(usual, store, features=None, contexts=None)
    assert list(write_site(plan, Servers(), site))
    handler = partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        page.goto(at(address, FORWARD, step=STEP))
        page.wait_for_selector(f".chain[data-drawn='{STEP}']")
        page.goto(at(address, FORWARD, "/62"))
        page.wait_for_selector(".context")
        page.goto(at(address, FORWARD, "/search", q="the"))
        page.locator("text=searches tokens only").wait_for()
        page.goto(at(address, FORWARD, "/text"))
        page.locator("text=cannot read a text").wait_for()
        page.goto("about:blank")
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""
