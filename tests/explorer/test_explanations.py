"""Explanations reach the page from their own runs, whenever they were made, and are searched."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from saetrack.analysis.life_store.reader import LifeStore
from saetrack.explorer import explanations
from saetrack.explorer.addresses import Servers
from saetrack.explorer.explanations import FoundExplanations
from saetrack.explorer.open_stores import OpenStores
from saetrack.explorer.static_site import plan_site, write_site
from saetrack.registry.explanations import RunFacts
from saetrack.utils.errors import UserError
from tests.support.explorer_browser import Tab
from tests.support.explorer_demo import FORWARD, DemoChains, demo_explanations

BEGUN_MS, ISO = 1_767_323_045_000, "2026-01-02T03:04:05.000Z"


class Runs:
    """Tables of some runs, the newest first, in place of a registry."""

    def __init__(self, *folders: Path) -> None:
        self.folders = {folder.name: folder for folder in folders}
        self.read: list[str] = []

    def of_chain(self, name: str) -> dict[str, RunFacts]:
        return {run_id: RunFacts(BEGUN_MS, f"analysis of {run_id}") for run_id in self.folders}

    @contextmanager
    def tables(self, run_id: str) -> Iterator[Path]:
        self.read.append(run_id)
        yield self.folders[run_id]


def written(folder: Path, lm_steps: list[int], text: str = "rivers", **changes: Any) -> Path:
    """Tables of a run that explained feature 3 at the last link."""
    folder.mkdir()
    of_all = {"place": "last", "feature": 3, "explained_at": lm_steps[-1]}
    row = {"explanation": text, "label": "concept", "explainer": "rules"}
    held = {"since": float(lm_steps[1]), "until": float(lm_steps[-1]), "links_held": 3.0}
    pd.DataFrame([{**of_all, **row, **held, **changes}]).to_parquet(folder / "explanations.parquet")
    values = np.linspace(0.5, 1, len(lm_steps))
    scores = {"detection": values, "fuzzing": [np.nan, *values[1:]], "shuffled_score": 0.5}
    table = pd.DataFrame({**of_all, "lm_step": lm_steps, **scores, "threshold": 0.6251})
    table.sample(frac=1, random_state=0).to_parquet(folder / "explanation_scores.parquet")
    means = {"place": "last", "measure": "holds", "lm_step": lm_steps}
    of_directions = np.linspace(0.1, 0.72, len(lm_steps))
    pd.DataFrame({**means, "direction_mean": of_directions}).to_parquet(
        folder / "explanation_curves.parquet"
    )
    return folder


@pytest.fixture
def lives(store: Path) -> LifeStore:
    return LifeStore(store)


@pytest.fixture
def lm_steps(lives: LifeStore) -> list[int]:
    return [link.lm_step for link in lives.manifest.links]


def test_tables_become_what_the_page_reads(
    lives: LifeStore, lm_steps: list[int], tmp_path: Path
) -> None:
    runs: Any = Runs(written(tmp_path / "a", lm_steps))
    (one,) = FoundExplanations(runs).of(lives.manifest, "analysis of a")
    assert one == {
        "feature": 3,
        "text": "rivers",
        "label": "concept",
        "explainer": "rules",
        "place": "last",
        "at": 3,
        "since": 1,
        "until": 3,
        "is_judged": True,
        "detection": [50, 67, 83, 100],
        "fuzzing": [None, 67, 83, 100],
        "shuffled": [50] * 4,
        "directions_hold": [10, 31, 51, 72],
        "threshold": 62.5,
        "run": {
            "id": "a",
            "begun": ISO,
            "explained": 1,
            "is_of_shown": True,
        },
    }


def test_the_run_that_explained_most_comes_first(
    lives: LifeStore, lm_steps: list[int], tmp_path: Path
) -> None:
    alone = written(tmp_path / "alone", lm_steps, since=np.nan, until=np.nan, links_held=np.nan)
    many = written(tmp_path / "many", lm_steps)
    table = pd.read_parquet(many / "explanations.parquet")
    pd.concat([table, table.assign(feature=4)]).to_parquet(many / "explanations.parquet")
    runs: Any = Runs(alone)
    (one,) = FoundExplanations(runs).of(lives.manifest, None)
    assert one["run"]["is_of_shown"] is None
    assert not one["is_judged"] and one["since"] is None
    both: Any = Runs(alone, many)
    found = FoundExplanations(both).of(lives.manifest, "analysis of alone")
    assert [(one["feature"], one["since"], *one["run"].values()) for one in found] == [
        (3, 1, "many", ISO, 2, False),
        (4, 1, "many", ISO, 2, False),
        (3, None, "alone", ISO, 1, True),
    ]


def test_of_equal_runs_the_newest_comes_first_and_each_is_read_once(
    lives: LifeStore, lm_steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: Any = Runs(
        written(tmp_path / "new", lm_steps, "banks", since=np.nan, until=np.nan),
        written(tmp_path / "old", lm_steps, "rivers"),
        written(tmp_path / "other", lm_steps, "by another", explainer="a-model"),
        written(tmp_path / "gone", [*lm_steps[:-1], 7], "a link that the chain has no more"),
    )
    found = FoundExplanations(runs)
    texts = ["banks", "rivers", "by another", "a link that the chain has no more"]
    assert [one["text"] for one in found.of(lives.manifest, None)] == texts
    assert found.of(lives.manifest, None)[0]["since"] is None
    places = [one["at"] for one in found.of(lives.manifest, None)]
    assert places == [3, 3, 3, None], "an analysis of fewer links takes no explanation away"
    assert runs.read == ["new", "old", "other", "gone"]
    monkeypatch.setattr(explanations, "LOOKED_S", 0.0)
    written(tmp_path / "newest", lm_steps, "boats")
    runs.folders = {"newest": tmp_path / "newest", **runs.folders}
    assert [one["text"] for one in found.of(lives.manifest, None)] == ["boats", *texts]
    assert runs.read[4:] == ["newest"]


@pytest.mark.parametrize("damage", ["no file", "no column", "no number"])
def test_damaged_tables_are_one_line(
    lives: LifeStore, lm_steps: list[int], tmp_path: Path, damage: str
) -> None:
    folder = written(tmp_path / "a", lm_steps)
    path = folder / "explanations.parquet"
    table = pd.read_parquet(path)
    if damage == "no file":
        path.unlink()
    elif damage == "no column":
        table.drop(columns="explanation").to_parquet(path)
    else:
        table.assign(feature="three").to_parquet(path)
    runs: Any = Runs(folder)
    with pytest.raises(UserError, match=r"^run a: its explanations cannot be read: ") as caught:
        FoundExplanations(runs).of(lives.manifest, None)
    assert "\n" not in str(caught.value)


def test_server_and_site_give_the_same(
    client: TestClient, chains: DemoChains, tmp_path: Path
) -> None:
    address = f"/api/chains/{FORWARD}/explanations.json"
    assert client.get(address).json() == []
    chains.explained = demo_explanations(4)
    assert client.get(address).json() == chains.explained
    store = OpenStores(chains).get(FORWARD)
    assert store is not None
    given: Any = {"contexts": 1, "explanations": chains.explained}
    plan = plan_site(chains.shown[0], store, features=40, **given)
    kept = [one for one in chains.explained if one["feature"] in plan.features]
    assert list(write_site(plan, Servers(), tmp_path / "site"))
    packed = (tmp_path / "site" / f"{address[1:]}.gz").read_bytes()
    assert json.loads(gzip.decompress(packed)) == kept


@pytest.mark.browser
def test_an_explanation_is_on_its_features_page_and_found(tab: Tab) -> None:
    expect = pytest.importorskip("playwright.sync_api", reason="no playwright").expect
    page = tab.show(f"#/{FORWARD}/3?step=143000")
    shown = page.locator(".explanations")
    expect(shown).to_contain_text("names of rivers")
    expect(shown).to_contain_text("Now: detection 90 %, fuzzing 85 %, control 50 %")
    expect(shown.locator(".series")).to_have_count(3)
    page.keyboard.press("ArrowLeft")
    expect(shown).to_contain_text("it holds from LM step")
    page = tab.show(f"#/{FORWARD}/7")
    expect(page.locator(".explanations q")).to_have_text("<b>x</b>")
    page = tab.show(f"#/{FORWARD}/4")
    expect(page.locator(".facts-box h3").first).to_be_visible()
    expect(page.locator(".explanations")).to_have_count(0)
    page = tab.show(f"#/{FORWARD}/search?q=RIVERS names")
    hits = page.get_by_role("region", name="By an explanation")
    expect(hits.locator("li")).to_have_count(1)
    expect(hits).to_contain_text("names of rivers")


@pytest.mark.browser
def test_explanations_of_two_runs_stand_apart(tab: Tab) -> None:
    expect = pytest.importorskip("playwright.sync_api", reason="no playwright").expect

    def two_runs(answer: Any) -> None:
        other = {"id": "ffff0000eeee", "begun": ISO, "explained": 2, "is_of_shown": False}
        changed = {"text": "names of lakes", "since": 0, "threshold": None, "run": other}
        answer += [{**answer[0], **changed}, {**answer[0], **changed, "feature": 4}]

    tab.alter("explanations.json", two_runs)
    page = tab.show(f"#/{FORWARD}/3?step=143000")
    shown = page.locator(".explanations")
    expect(shown.locator(".of-run")).to_have_text(
        "Run 0a1b2c3d by rules, 2026-01-02, of this analysis, 3 explanations, holds above 62.5 %."
    )
    expect(shown.get_by_text("names of rivers").first).to_be_visible()
    folded = shown.locator("details.other-run")
    expect(folded.locator("q")).to_be_hidden()
    folded.locator("summary").click()
    expect(folded.locator("summary")).to_contain_text(
        "run ffff0000 by rules, 2026-01-02, of an earlier or another analysis of this chain, "
        "2 explanations, what holds was not told"
    )
    page.keyboard.press("ArrowLeft")  # it is drawn anew, and stays open
    expect(folded.locator("q")).to_have_text("names of lakes")
    expect(shown.locator(".stale")).to_have_count(0)
    page = tab.show(f"#/{FORWARD}/4")  # of which only the other run has one
    expect(page.locator(".of-run")).to_contain_text("Run ffff0000")
    page = tab.show(f"#/{FORWARD}/search?q=names")
    hits = page.get_by_role("region", name="By an explanation").locator("li")
    expect(hits).to_have_count(2)
    expect(hits.first).to_contain_text("run 0a1b2c3d")
    expect(hits.last).to_contain_text("run ffff0000")


@pytest.mark.browser
def test_explanations_of_an_earlier_analysis_say_so_and_how_to_get_them_anew(tab: Tab) -> None:
    expect = pytest.importorskip("playwright.sync_api", reason="no playwright").expect

    def earlier(answer: Any) -> None:
        for one in answer:
            one["run"]["is_of_shown"] = False
        answer[0] |= {"at": None, "since": None, "until": None}

    tab.alter("explanations.json", earlier)
    shown = tab.show(f"#/{FORWARD}/3?step=143000").locator(".explanations")
    expect(shown.locator(".stale")).to_contain_text("belong to an earlier or another analysis")
    expect(shown.locator(".stale code")).to_have_text(f"saetrack explain {FORWARD}")
    expect(shown).to_contain_text("from contexts at a step that the analysis shown here leaves out")
