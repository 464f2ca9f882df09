"""A page is one file, and what it is given is text, never markup."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pandas as pd
import pytest

from saetrack.analysis.figures.analysis_page import (
    FIGURES,
    PAGE_FILE,
    explored,
    write_analysis_page,
)
from saetrack.analysis.figures.page import Section, write_page
from saetrack.analysis.life_store.columns import COLUMNS
from saetrack.analysis.meaning.classes import LABEL_MEANINGS, LABELS
from saetrack.analysis.meaning.patterns import PATTERN_MEANINGS
from saetrack.utils.figures.style import drawn

PICTURE = b"\x89PNG of a figure"
EVIL = "<script>alert(1)</script>"


class Elements(HTMLParser):
    """Tags, pictures, and the text of cells and of bold tokens."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: list[str] = []
        self.texts: dict[str, list[str]] = {"td": [], "th": [], "b": [], "p": [], "a": []}
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])
        elif tag in self.texts:
            self.open.append(tag)
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.texts:
            self.open.remove(tag)

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.texts[tag][-1] += data


def contexts() -> pd.DataFrame:
    rows = [
        (7, 0, "token", 1, "it was ⟦while⟧ the rain"),
        (7, 2048, "token", 2, f"the second {EVIL} ⟦while⟧"),
        (7, 2048, "token", 1, f"⟦{EVIL}⟧ & the first"),
        (3, 2048, "concept", 1, "in ⟦Paris⟧ and"),
    ]
    table = pd.DataFrame(rows, columns=["feature", "lm_step", "label", "rank", "text"])
    table["pattern"] = table["feature"].map({7: "maintaining", 3: "late_born"})
    return table.assign(final_label=table["feature"].map({7: "token", 3: "concept"}))


@pytest.fixture
def page(tmp_path: Path) -> str:
    (tmp_path / "drift_by_class.png").write_bytes(PICTURE)
    numbers = pd.DataFrame(
        {"the_claim": [EVIL, "b"], "value": [0.123456, 12345.6]}
        | {"stands": [True, False], "steps": [1280.0, float("nan")]}
    )
    sections = [
        Section("Meanings", tables={"Verdicts": numbers}, contexts=contexts()),
        Section("Drift", "How far?", figures=[tmp_path / "drift_by_class.png"]),
    ]
    write_page(f"mini {EVIL}", "versions 1 to 29", sections, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text()


def test_pictures_are_inside(page: str) -> None:
    (source,) = Elements(page).pictures
    kind, data = source.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == PICTURE


def test_text_of_a_corpus_is_no_markup(page: str) -> None:
    found = Elements(page)
    assert "script" not in found.tags
    assert "<script" not in page
    assert EVIL in found.texts["b"], "shown as it is written"


def test_contexts_are_laid_out_by_feature_and_checkpoint(page: str) -> None:
    found = Elements(page)
    assert found.texts["b"] == ["while", EVIL, "while", "Paris"], "by rank, the token in bold"
    assert [text for text in found.texts["th"] if "LM step" in text] == [
        "LM step 0",
        "LM step 2,048",
    ]
    cells = [" ".join(text.split()) for text in found.texts["td"]][-4:]
    assert cells[0] == "one token it was while the rain"
    assert cells[2] == "–", "a feature without contexts there"
    assert cells[3] == "concept in Paris and"
    (born,) = (text for text in found.texts["th"] if text.startswith("3"))
    assert "late born" in born and "concept" in born


def test_addresses_of_figures_name_columns_that_the_explorer_has() -> None:
    named = {column.name for column in COLUMNS} | {"formation_step"}  # which its page computes
    for address in explored("a.chain").values():
        asked = parse_qs(address.partition("?")[2])
        columns = [name for key in ("colour", "show", "sort") for name in asked.get(key, ())]
        columns += [name for names in asked.get("columns", ()) for name in names.split(",")]
        assert set(columns) <= named, address
        assert set(asked.get("label", ())) <= set(LABELS)


def test_numbers_are_short(page: str) -> None:
    cells = Elements(page).texts["td"]
    assert cells[:8] == [EVIL, "0.123", "yes", "1,280", "b", "12,346", "no", "–"]


def test_an_analysis_has_a_page_of_what_was_drawn(tmp_path: Path) -> None:
    counts = pd.DataFrame(
        {"sample": ["all", "all", "some"], "pattern": ["grouping", "maintaining", "grouping"]}
        | {"final_label": ["concept", "token", "concept"], "features": [90, 270, 30]}
    )
    told = contexts()
    patterns = told[["feature", "pattern", "final_label"]].drop_duplicates()
    inputs = SimpleNamespace(
        chain="mini.L2.forward.s0.aaaa",
        title="mini L2",
        caption="versions 1 to 29",
        tables={
            "contexts": told.drop(columns=["pattern", "final_label"]),
            "patterns": patterns,
            "pattern_counts": counts,
            "matching": pd.DataFrame(),
        },
    )
    (tmp_path / FIGURES).mkdir()
    for name in ("labels", "drift", "progress"):
        (tmp_path / FIGURES / f"{name}.png").write_bytes(PICTURE + name.encode())
    write_analysis_page(inputs, tmp_path)
    found = Elements((tmp_path / PAGE_FILE).read_text())
    shown = [base64.b64decode(source.split(",")[1]) for source in found.pictures]
    assert shown == [PICTURE + name for name in (b"labels", b"progress", b"drift")]
    assert found.tags.count("h2") == 3, "no section without anything"
    links = [text for text in found.texts["a"] if "feature by feature" in text]
    assert len(links) == 3
    page = (tmp_path / PAGE_FILE).read_text()
    at = "http://127.0.0.1:8400/#/mini.L2.forward.s0.aaaa"
    assert f'href="{at}?colour=progress_activation&amp;show=progress_activation"' in page
    counted = found.texts["td"][:8]
    assert counted[:4] == ["maintaining", "token", "270", "0"]
    assert counted[4:] == ["grouping", "concept", "90", "30"]
    for meanings in (LABEL_MEANINGS, PATTERN_MEANINGS):
        assert set(meanings.values()) <= set(found.texts["td"]), (
            "words are explained where they are"
        )
    assert found.texts["b"] == ["while", EVIL, "while", "Paris"]


@pytest.mark.parametrize("width", [420, 1440])
def test_a_page_never_scrolls_sideways_and_its_figures_stay_legible(
    browser: Any, tmp_path: Path, width: int
) -> None:
    with drawn(tmp_path / "wide", (14, 3)) as figure:
        figure.subplots().plot([0, 512], [0, 1])
    many = pd.DataFrame({f"a_long_column_{number}": [0.123] for number in range(20)})
    section = Section("Wide", "", [tmp_path / "wide.png"], {"A caption of many words " * 9: many})
    write_page("a.chain." + "name" * 30, "its " * 40, [section], tmp_path / "page.html")
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto((tmp_path / "page.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # 14 inches of 120 pixels each: three fifths of 1680 pixels, or all that a wide screen has.
    shown = tab.evaluate("document.querySelector('img').getBoundingClientRect().width")
    assert shown == pytest.approx(1008 if width == 420 else 1180, abs=1)
    caption = tab.evaluate("document.querySelector('caption span').getBoundingClientRect().right")
    assert caption <= width, "a caption is read without scrolling"
    boxes = "[...document.querySelectorAll('.wide')].map(box => box.scrollWidth > box.clientWidth)"
    assert tab.evaluate(boxes) == [width == 420, True]
    tab.close()
