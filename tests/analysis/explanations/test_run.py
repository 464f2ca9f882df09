"""A run over a planted store: the planted curve, its controls, its cost, and a broken run."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from saetrack.analysis.explanations.asking import Asker
from saetrack.analysis.explanations.config import explain_config
from saetrack.analysis.explanations.examples import LinkContexts, judged_texts
from saetrack.analysis.explanations.holding import curves, held_span, spans, with_held
from saetrack.analysis.explanations.rules import Rules
from saetrack.analysis.explanations.run import ExplanationRun
from saetrack.analysis.explanations.scores import balanced_accuracy, mean_of_features
from saetrack.analysis.explanations.targets import targets_of
from saetrack.analysis.life_store.reader import LifeStore
from saetrack.cli import main as command_line
from saetrack.registry import Registry
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.chat_server import KEY, ChatServer
from tests.support.planted_lives import D_SAE, LINKS, SINCE, UNTIL, word_of
from tests.support.running import set_environment

CHAIN = "synthetic.L2.forward.s0.0123"
TRUE = range(SINCE, UNTIL + 1)


@pytest.fixture(scope="module")
def by_rules(planted: LifeStore) -> tuple[list[Any], pd.DataFrame]:
    """All features, explained and judged by rules at a link where they are what was planted."""
    lm_step = planted.manifest.links[SINCE + 1].lm_step
    config = explain_config({"chain": CHAIN, "feature": list(range(D_SAE)), "at": [str(lm_step)]})
    run = ExplanationRun(config, planted)
    asker = Asker(Rules(planted.vocabulary), planted.vocabulary, None)
    explained = run.explain(asker, io.StringIO())
    return explained, with_held(run.judge(asker, explained, io.StringIO()))


def test_rules_find_what_was_planted(by_rules: tuple[list[Any], pd.DataFrame]) -> None:
    explained, _ = by_rules
    assert len(explained) == D_SAE
    for one in explained:
        word = word_of(one.target.feature).strip()
        assert (one.explanation.text, one.explanation.label) == (f'tokens "{word}"', "token")


def test_an_explanation_is_true_where_it_was_planted(
    by_rules: tuple[list[Any], pd.DataFrame], planted: LifeStore
) -> None:
    _, scores = by_rules
    found = curves(scores, seed=0)
    lm_steps = [link.lm_step for link in planted.manifest.links]
    for measure in ("detection", "fuzzing", "score", "holds"):
        rows = found[found["measure"] == measure].set_index("lm_step").loc[lm_steps]
        true = np.isin(np.arange(LINKS), TRUE)
        chance, near = (0.0, 0.2) if measure == "holds" else (0.5, 0.1)
        assert (rows["mean"][true] == 1).all()
        assert np.allclose(rows["mean"][~true], chance, atol=near)
        assert np.allclose(rows["shuffled_mean"], chance, atol=near)
        assert (rows["low"] <= rows["mean"]).all() and (rows["mean"] <= rows["high"]).all()
        assert (rows["features"] == D_SAE).all()
    held = spans(scores)
    # A few hold beyond by chance: 5 % of the shuffled ones do at each link.
    assert (
        (held["since"] == lm_steps[SINCE]).mean() > 0.7 < (held["until"] == lm_steps[UNTIL]).mean()
    )
    assert held["links_held"].median() == len(TRUE) and held["shuffled_links_held"].median() == 0


def test_nothing_that_explained_judges(planted: LifeStore) -> None:
    for feature in range(D_SAE):
        shown = LinkContexts(planted, feature, SINCE).explaining()
        seen = {text.row for text in shown}
        assert len(shown) == 9 and all(text.strength > 0 for text in shown)
        for link in range(LINKS):
            judged = judged_texts(planted, feature, link, seen, range(D_SAE))
            rows = {text.row for text in (*judged.firing, *judged.silent)}
            assert not rows & seen
            assert 3 <= len(judged.silent) <= len(judged.firing) <= 9
            assert all(any(text.marks) for text in judged.firing)
            if link in TRUE:
                word = planted.vocabulary.index(word_of(feature))
                known = judged.silent[: len(judged.silent) - judged.unknown]
                assert all(word not in text.ids for text in known)
                for text in judged.firing:
                    assert [token == word for token in text.ids] == list(text.marks)


@pytest.mark.parametrize(
    ("holds", "at", "span"),
    [
        ("0111100", 2, (1, 4)),
        ("1101100", 3, (0, 4)),  # one link that fails is no break
        ("1100110", 4, (4, 5)),  # two are
        ("1?01110", 4, (3, 5)),
        ("11?1111", 6, (0, 6)),  # nor is one that was not judged
        ("1110111", 3, None),
        ("0001000", 3, (3, 3)),
        ("0001010", 3, (3, 5)),
    ],
)
def test_since_when_until_when(holds: str, at: int, span: tuple[int, int] | None) -> None:
    values = [{"0": 0.0, "1": 1.0, "?": np.nan}[one] for one in holds]
    assert held_span(values, at) == span


def test_scores_by_hand() -> None:
    found = balanced_accuracy([True, True, False, True], [True, True, False, False])
    assert found.value == 0.75 and found.low < 0.6 < 0.8 < found.high <= 1
    assert np.isnan(balanced_accuracy([True], [True]).value)
    values = np.array([[1.0, np.nan, np.nan], [0.0, 1.0, np.nan]])
    mean, low, high = mean_of_features(values, seed=0)
    np.testing.assert_array_equal(mean, [0.5, 1.0, np.nan])
    assert (low[0], high[0]) == (0, 1) and (low[1], high[1]) == (1, 1) and np.isnan(low[2])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"at": ["77"]}, "at=77: the chain has links at 0, "),
        ({"at": ["late"]}, "'late' must be an LM step, last or formed"),
        ({"feature": [24]}, "feature=24: must be a number from 0 to 23"),
        ({"budget_money": 1.0}, "budget_money=1: needs price_in and price_out beside it"),
        ({"rules": True, "model_folder": "x"}, "model_folder=x: "),
    ],
)
def test_a_mistake_is_one_line(planted: LifeStore, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        ExplanationRun(explain_config({"chain": CHAIN, **given}), planted)
    assert "\n" not in str(caught.value)


# The command, over a registry that holds an analysis with this store.

Explains = Callable[..., Result]


@pytest.fixture(scope="module")
def analysed(planted: LifeStore, module_settings: Settings, tmp_path_factory: Any) -> Registry:
    """A registry with a chain of one link, and an analysis that has the planted store."""
    registry = Registry(module_settings)
    analysis = tmp_path_factory.mktemp("analysis")
    shutil.copytree(planted.folder, analysis / "lives")
    facts = {"kind": "analysis", "identity": "an analysis", "chain": CHAIN}
    registry.reports.log("synthetic", "analyze", analysis, metrics={}, facts=facts)
    registry._client.create_registered_model(CHAIN)
    registry._client.create_model_version(CHAIN, str(analysis), tags={"identity": "a link"})
    return registry


@pytest.fixture
def explains(
    analysed: Registry, module_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Explains:
    """The command, in a registry without explanations and with an empty cache."""
    for run_id in analysed.reports.explanations.of_chain(CHAIN):
        analysed._client.delete_run(run_id)
    monkeypatch.chdir(tmp_path)
    own = module_settings.model_copy(update={"cache_dir": tmp_path / "cache"})
    set_environment(own, monkeypatch)

    def run_command(*words: str) -> Result:
        return CliRunner().invoke(command_line.app, ["explain", "synthetic", *words])

    return run_command


@pytest.fixture
def asked(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> ChatServer:
    """The server, as the settings name it."""
    monkeypatch.setenv("SAETRACK_EXPLAINER_URL", server.url)
    monkeypatch.setenv("SAETRACK_EXPLAINER_MODEL", "a-model")
    monkeypatch.setenv("SAETRACK_EXPLAINER_API_KEY", KEY)
    return server


def registered(registry: Registry, tmp_path: Path) -> tuple[Any, Path]:
    """The only run of explanations, and its files."""
    (run_id,) = registry.reports.explanations.of_chain(CHAIN)
    folder = registry._client.download_artifacts(run_id, "", dst_path=str(tmp_path))
    return registry._client.get_run(run_id), Path(folder)


FEATURES = ("--feature", "0", "--feature", "1")
CHOSEN = (*FEATURES, "--at", "145", "--at", "last")  # step 145 is the link SINCE


def test_a_plan_sends_nothing_and_a_budget_refuses(explains: Explains, asked: ChatServer) -> None:
    plan = explains(*CHOSEN, "--plan", "--json", "--price-in", "2", "--price-out", "5")
    cost = json.loads(plan.stdout)
    prices = ("--price-in", "2", "--price-out", "5")
    money = (cost["tokens_in"] * 2 + cost["tokens_out"] * 5) / 1e6
    assert f"money: about {money:.2f}" in explains(*CHOSEN, *prices, "--plan").stdout
    requests = cost["explanations"] + cost["judgements"]
    for budget in (
        ("--budget-requests", str(requests - 1)),
        ("--budget-tokens", str(cost["tokens_in"])),
        ("--budget-money", str(money * 0.9), *prices),
    ):
        refused = explains(*CHOSEN, *budget)
        assert isinstance(refused.exception, UserError), refused.output
        assert f"{budget[0][2:].replace('-', '_')}=" in str(refused.exception)
        assert "would be needed" in str(refused.exception)
    assert not asked.asked


def test_a_run_is_registered_whole_and_once(
    explains: Explains,
    asked: ChatServer,
    analysed: Registry,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cost = json.loads(explains(*CHOSEN, "--plan", "--json").stdout)
    asked.faults = ["500", "words", "says the key", "429"]
    done = explains(*CHOSEN, "--verbose")
    assert done.exit_code == 0, done.output
    run, folder = registered(analysed, tmp_path)
    said = done.output.splitlines()
    assert said[0].endswith("explained: the analysis is of an earlier release")
    assert "requests: " in said[1] and "answers 500; again in" in done.output
    # What was not understood, or not answered, was asked again.
    assert len(asked.asked) == cost["explanations"] + cost["judgements"] + 3
    assert run.data.tags["requests"] == str(len(asked.asked))
    assert run.data.tags["explainer"] == "a-model"
    tables = {path.stem: pd.read_parquet(path) for path in (folder / "tables").glob("*.parquet")}
    explanations = tables["explanations"].set_index(["place", "feature"])
    scores = tables["explanation_scores"].set_index(["place", "feature", "link"])
    for feature in range(2):
        word = word_of(feature).strip()
        assert explanations.loc[("145", feature), "explanation"] == f"the word {word}"
        for link in TRUE:
            assert scores.loc[("145", feature, link), "score"] == 1
            assert scores.loc[("145", feature, link), "shuffled_score"] < 0.7
    records = gzip.decompress((folder / "answers.jsonl.gz").read_bytes()).decode()
    lines = [json.loads(line) for line in records.splitlines()]
    assert len(lines) == cost["explanations"] + cost["judgements"]
    assert {line["kind"] for line in lines} == {"explain", "detection", "fuzzing"}
    assert (folder / "figures" / "explanations.png").stat().st_size > 10_000
    again = explains(*CHOSEN, "--json")
    assert json.loads(again.stdout)["run"] == run.info.run_id
    assert "was explained before" in json.loads(again.stdout)["done"]
    assert len(analysed.reports.explanations.of_chain(CHAIN)) == 1
    seen = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in content for content in [*seen, records.encode()])
    assert KEY not in done.output + again.output + caplog.text


def test_a_run_that_is_broken_off_pays_nothing_twice(
    explains: Explains, asked: ChatServer, analysed: Registry
) -> None:
    cost = json.loads(explains(*CHOSEN, "--plan", "--json").stdout)
    asked.faults = [""] * 30 + ["401"] * 1000
    broken = explains(*CHOSEN)
    assert isinstance(broken.exception, UserError) and "401" in str(broken.exception)
    assert not analysed.reports.explanations.of_chain(CHAIN)
    for thread in threading.enumerate():
        if thread.name == "explain":
            thread.join(10)  # what was being asked when the run ended
    asked.faults = []
    left = json.loads(explains(*CHOSEN, "--plan", "--json").stdout)
    assert left["kept"] == len(asked.answered) == 30
    assert explains(*CHOSEN).exit_code == 0
    total = cost["explanations"] + cost["judgements"]
    assert len(asked.answered) == len(set(asked.answered)) == total


def test_without_an_endpoint_rules_explain_and_labels_by_hand_are_compared(
    explains: Explains, analysed: Registry, tmp_path: Path
) -> None:
    sheet = tmp_path / "by_hand" / "labels_by_hand.csv"
    sheet.parent.mkdir()
    sheet.write_text("feature,label\n0,token\n1,contextual\n2,\n9,contextual\n")
    with analysed.reports.of_chain(CHAIN) as (run_id, _):
        analysed.reports.add(run_id, sheet.parent, {})
    done = explains(*FEATURES, "--at", "145", "--json")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert said["chain"] == CHAIN and "· rules: 2 explanations" in said["done"]
    run, folder = registered(analysed, tmp_path)
    assert run.data.tags["explainer"] == "rules"
    assert not (tmp_path / "cache" / "explanations").exists()
    found = pd.read_parquet(folder / "tables" / "explanation_agreement.parquet")
    rows = found.set_index("beside")
    assert rows.loc["by_hand", "features"] == 2 and rows.loc["by_hand", "agreement"] == 0.5
    assert rows.loc["automatic", "features"] == 2 and not rows["nothing_found"].any()


@pytest.mark.parametrize("missing", ["SAETRACK_EXPLAINER_MODEL", "SAETRACK_EXPLAINER_URL"])
def test_an_endpoint_and_its_model_go_together(
    explains: Explains, asked: ChatServer, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    refused = explains()
    assert str(refused.exception).startswith(f"{missing}: missing")
    assert not asked.asked


def test_a_plan_of_rules_speaks_of_no_tokens(explains: Explains) -> None:
    plan = explains(*FEATURES, "--at", "145", "--rules", "--plan").stdout.splitlines()
    assert len(plan) == 2 and plan[1].endswith("rules answer them, nothing is sent")
    cost = json.loads(explains(*FEATURES, "--at", "145", "--rules", "--plan", "--json").stdout)
    assert cost["explanations"] == 2 and cost["tokens_in"] == cost["tokens_out"] == 0


def test_one_link_by_two_names_is_one_place(
    planted: LifeStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "saetrack")
    last = str(planted.manifest.links[-1].lm_step)
    given = {"chain": CHAIN, "feature": [0, 1], "at": ["last", "145", last, "145"]}
    found = [(one.place, one.feature) for one in targets_of(explain_config(given), planted)]
    assert found == [("last", 0), ("last", 1), ("145", 0), ("145", 1)]
    assert caplog.messages == [f"at={last}: is the same link as at=last; it is taken once"]


def test_more_features_than_there_are_is_said(
    planted: LifeStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "saetrack")
    found = targets_of(explain_config({"chain": CHAIN, "features": 9999}), planted)
    assert caplog.messages == [
        f"features=9999: {len(found)} are live at the last link, all are taken"
    ]


def test_features_are_drawn_from_those_that_live_in_the_end(planted: LifeStore) -> None:
    def drawn(features: int, seed: int) -> set[int]:
        config = explain_config({"chain": CHAIN, "features": features, "seed": seed})
        return {target.feature for target in targets_of(config, planted)}

    labels = planted.column(len(planted.manifest.links) - 1, "label")
    names = np.array(planted.manifest.labels)[labels]
    live = set(np.flatnonzero(~np.isin(names, ["dead", "ultra_low", "insufficient"])).tolist())
    assert drawn(1000, 0) == live and len(live) < D_SAE
    assert drawn(5, 0) < drawn(9, 0) < live, "more features are others beside the same ones"
    assert drawn(5, 0) != drawn(5, 1)


def test_of_few_explanations_nothing_is_said_to_hold(
    by_rules: tuple[list[Any], pd.DataFrame],
) -> None:
    _, scores = by_rules
    plain = scores.drop(columns=["threshold", "holds", "shuffled_holds"])
    few = plain[plain["feature"] < 12]  # 12 x 8 links, fewer than 100
    found = with_held(few)
    assert found["threshold"].isna().all() and found["holds"].isna().all()
    held = spans(found)
    assert held[["since", "links_held", "shuffled_links_held"]].isna().all(axis=None)
    enough = with_held(plain[plain["feature"] < 13])
    assert len(set(enough["threshold"])) == 1 and enough["holds"].notna().any()
    # The same ones hold, whatever else was explained.
    both = enough.merge(scores, on=["feature", "link"], suffixes=("", "_of_all"))
    true = both["link"].isin(list(TRUE))
    assert (both.loc[true, "holds"] == both.loc[true, "holds_of_all"]).all()
