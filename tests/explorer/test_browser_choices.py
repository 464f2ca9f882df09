"""What a reader chooses on the explorer's pages, and what is counted then, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.explorer_browser import Tab
from tests.support.explorer_demo import FORWARD, PLAIN

expect = pytest.importorskip("playwright.sync_api", reason="no playwright").expect
pytestmark = pytest.mark.browser
CHAIN = f"#/{FORWARD}"


def test_a_csv_says_which_rows_are_taken_and_why_others_are_not(tab: Tab, tmp_path: Path) -> None:
    page = tab.show(f"{CHAIN}/lists")
    rows = [
        f"{FORWARD};3;0",
        f"{FORWARD};511;0",
        *(f"{FORWARD};{feature};0" for feature in (*range(512, 523), 512)),
        f"{FORWARD};x;",
        "none.such;1;",
    ]
    for apart in (";", "\t"):
        path = tmp_path / f"list{ord(apart)}.csv"
        path.write_text("\n".join(["chain;feature;step", *rows]).replace(";", apart))
        page.get_by_label("CSV file with features").set_input_files(path)
        status = page.locator(".page > [role=status]")
        expect(status).to_contain_text(f"2 of 16 rows are taken into the list list{ord(apart)}.")
        expect(status).to_contain_text(
            f"Left out: 12 of a feature that {FORWARD} does not have (0 to 511): 512, 513, 514, "
            "515, 516, 517, 518, 519, 520, 521 and 1 more; 1 without a feature's number: x; "
            "1 of a chain that is not here (none.such): 1."
        )
    expect(page.locator(".list-items").first.locator("li")).to_have_count(2)


def test_a_share_has_one_unit_everywhere(tab: Tab) -> None:
    page = tab.show("#/")
    assert page.locator(f'[data-chain="{PLAIN}"] .sparks b').last.inner_text() == "6.9 %"
    page = tab.show(f"#/{PLAIN}")
    panel = page.locator(".panel", has_text="Dead features")
    expect(panel.locator(".reading")).to_have_text("6.9 %")
    assert all("%" in tick for tick in panel.locator("text.y").all_text_contents())
    facts = page.get_by_role("region", name="The chosen link")
    expect(facts.locator("th")).to_have_text(FACTS)
    expect(facts).to_contain_text("6.9 %")


FACTS = ["LM step", "Tokens that it was trained on", "Explained variance", "L0", "Dead features"]
FACTS += ["CE loss recovered", "Nats lost"]


def test_a_lasso_is_counted_in_the_legend_and_over_the_steps(tab: Tab) -> None:
    page = tab.show(f"{CHAIN}?picked=3.5.8")
    counts = page.locator(".map-legend .chip .muted").all_inner_texts()
    assert sum(map(int, counts)) == 3
    expect(page.locator(".beside-directions thead")).to_contain_text(
        re.compile("^[1-3] features of the lasso")
    )


def test_presets_stay_and_are_taken_away_by_a_second_click(tab: Tab) -> None:
    page = tab.show(CHAIN)
    preset = page.get_by_role("button", name="what gained a meaning")
    preset.click()
    expect(page.locator(".count")).to_contain_text(" of 300")
    expect(preset).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="concepts at this step").click()
    assert "pattern=grouping" in tab.at and "label=concept" in tab.at
    preset.click()
    assert "pattern" not in tab.at


def test_chains_over_still_lms_are_laid_over_one_another_by_link_or_left_out(tab: Tab) -> None:
    still: list[str] = [FORWARD]

    def stop(answer: Any) -> None:
        for card in answer["chains"]:
            if card["name"] in still:
                card["links"]["lm_step"] = [64] * card["registered"]

    tab.alter("home.json", stop)
    page = tab.show(f"#/?with={FORWARD},{PLAIN}")
    expect(page.locator(".compare .panel").first.locator(".series")).to_have_count(1)
    expect(page.locator(".compare .left-out")).to_contain_text(f"Left out: {FORWARD}.")
    still.append(PLAIN)
    page = tab.show(f"#/?with={FORWARD},{PLAIN}")
    panel = page.locator(".compare .panel").first
    expect(panel.locator(".series")).to_have_count(2)
    expect(panel.locator("text.x").first).to_have_text("#8")
    widths = "nodes => nodes.map(node => node.getBBox().width)"
    assert min(panel.locator(".series .line").evaluate_all(widths)) > 20


def test_names_of_steps_do_not_touch_on_a_phone(new_tab: Callable[..., Tab]) -> None:
    tab = new_tab(viewport={"width": 390, "height": 844})
    steps = [0, *(2**power for power in range(18)), 140_000, 143_000]

    def longer(answer: Any) -> None:
        answer["links"] = [answer["links"][0] | {"lm_step": step} for step in steps]

    tab.alter(f"{PLAIN}/chain.json", longer)
    page = tab.show(f"#/{PLAIN}")
    names = page.locator(".slider .names span").all()
    boxes = sorted((name.bounding_box() for name in names), key=lambda box: float(box["x"]))
    assert len(boxes) > 2
    assert all(left["x"] + left["width"] < right["x"] for left, right in pairwise(boxes))


def test_a_card_of_a_site_counts_the_features_that_it_keeps(tab: Tab) -> None:
    kept = {"features": 64, "of": 300}
    tab.alter("home.json", lambda answer: answer["chains"][0].update(kept=kept))
    page = tab.show("#/?with=no.such.chain")
    expect(page.locator(".card").first).to_contain_text("64 of 300 features in this site")
    expect(page.locator(".home-head .notice")).to_contain_text("with=no.such.chain, which is no")
