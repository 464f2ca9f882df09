"""What the explorer's pages count stands beside what chance makes, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saetrack.analysis.life_store.reader import LifeStore
from tests.support.explorer_browser import Tab, static_site
from tests.support.explorer_demo import FORWARD, DemoChains

expect = pytest.importorskip("playwright.sync_api", reason="no playwright").expect
pytestmark = pytest.mark.browser
CHAIN = f"#/{FORWARD}"


def test_shares_of_labels_stand_beside_those_of_random_directions(
    tab: Tab, demo: DemoChains
) -> None:
    """Wilson's interval of 76 of 256 is 24.4 to 35.6 %; too few contexts judge nothing."""

    def directions(answer: Any) -> None:
        at = {"token": 64, "concept": 12, "contextual": 180, "insufficient": 100}
        answer["labels_of_directions"] = [[at.get(name, 0) for name in answer["labels"]]] * 8

    tab.alter("chain.json", directions)
    store = LifeStore(demo.stores[FORWARD])
    labels = [store.manifest.labels[label] for label in store.column(7, "label")]
    judged = [label for label in labels if label != "dead"]
    share = f"{100 * sum(label != 'contextual' for label in judged) / len(judged):.1f} %"
    tab.show(f"{CHAIN}?step=143000")
    panel = tab.page.locator(".panel", has_text="Labels over LM steps")
    expect(panel.locator(".reading")).to_have_text(
        f"{share} have a meaning; random directions: 29.7 %"
    )
    row = tab.page.locator(".beside-directions tr", has_text="a meaning")
    expect(row.locator("td")).to_have_text([share, "29.7 % (24.4 to 35.6)"])
    row = tab.page.locator(".beside-directions tr", has_text="one token")
    expect(row.locator("td").last).to_contain_text("25.0 % (")
    expect(panel.locator(".by-chance")).to_have_count(1)
    tab.show(f"{CHAIN}/{labels.index('token')}?step=143000")
    expect(tab.page.locator(".why")).to_contain_text("Of random directions at this step 25.0 %")
    tab.show(f"{CHAIN}?picked=3.5.8")
    expect(tab.page.locator(".beside-directions thead")).to_contain_text("of the lasso")


def test_no_share_is_told_where_no_direction_was_labelled(tab: Tab) -> None:
    tab.alter("chain.json", lambda answer: answer.update(labels_of_directions=None))
    page = tab.show(CHAIN)
    missing = page.locator(".beside-directions")
    expect(missing).to_contain_text("is not said: this analysis kept no labels of random direc")
    expect(missing).to_contain_text(f"saetrack analyze {FORWARD}")
    panel = page.locator(".panel", has_text="Labels over LM steps")
    expect(panel.locator(".reading")).to_have_text("")
    expect(panel.locator(".by-chance")).to_have_count(0)
    expect(page.locator("#main")).not_to_contain_text("have a meaning;")


def test_a_static_site_of_some_features_tells_the_same_shares(
    tab: Tab, new_tab: Callable[..., Tab], demo: DemoChains, tmp_path: Path
) -> None:
    shown = tab.show(CHAIN).locator(".beside-directions")
    expect(shown).to_contain_text("256 random directions")
    with static_site(demo, tmp_path / "site", features=8) as at:
        of_site = new_tab(at).show(CHAIN).locator(".beside-directions")
        expect(of_site).to_have_text(shown.inner_text(), use_inner_text=True)
