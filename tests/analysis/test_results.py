"""Claims and their verdicts, the pages that say them, and replicates of a registry."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from saetrack.analysis.pipeline.replicates import ASKED, are_joined, join_replicates
from saetrack.analysis.pipeline.results import newest_groups, register_results
from saetrack.analysis.pipeline.table_files import save_tables
from saetrack.analysis.results.claims import (
    OF_VERDICTS,
    Estimate,
    Numbers,
    Requirement,
    Verdict,
    verdict_of,
)
from saetrack.analysis.results.pages import Group, write_results
from saetrack.analysis.results.paper_claims import CLAIMS
from saetrack.cli.main import app
from saetrack.registry import Registry
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.planted_results import headline_of_chain

OF = {claim.key: claim for claim in CLAIMS}
ROLES = {"still": "noise", "second seed": "replicate", "jump": "order"}


NAN = float("nan")


def estimate(mean: float, low: float, high: float, n: int = 3, unit: str = "share") -> Estimate:
    return Estimate("x", "", mean, low, high, n, "t", unit)


@pytest.mark.parametrize(
    ("found", "least", "bound", "outcome"),
    [
        (estimate(0.05, 0.01, 0.09), 0.02, 0, "holds"),
        (estimate(0.05, -0.01, 0.11), 0.02, 0, "open"),
        (estimate(0.005, 0.001, 0.009), 0.02, 0, "fails"),  # sure, and too small to matter
        (estimate(0.001, -0.03, 0.03), 0.02, 0, "open"),
        (estimate(-0.05, -0.08, -0.02), 0.02, 0, "fails"),
        (estimate(0.0, 0.0, 0.0), 0, 0, "fails"),
        (estimate(0.96, 0.955, 0.965), 0, 0.95, "holds"),
        (estimate(0.50, 0.48, 0.52), 0, 0.95, "fails"),
        (estimate(1.0, NAN, NAN, 1), 0, 0.5, "open"),  # one chain, and nothing drawn
        (estimate(1.0, NAN, NAN, 1, OF_VERDICTS), 1, 0, "holds"),
        (estimate(0.0, NAN, NAN, 1, OF_VERDICTS), 1, 0, "fails"),
        (None, 0, 0, "open"),
    ],
)
def test_a_test_holds_fails_or_is_open(
    found: Estimate | None, least: float, bound: float, outcome: str
) -> None:
    assert Requirement("so", found, least, bound).outcome == outcome


def test_a_number_that_must_be_small_is_shown_as_it_is() -> None:
    test = Requirement("so", estimate(1.0, 0.8, 1.2), bound=2.5, below=True)
    assert test.outcome == "holds" and test.estimate == estimate(1.0, 0.8, 1.2)
    assert Requirement("so", estimate(3.0, 2.8, 3.2), bound=2.5, below=True).outcome == "fails"
    assert Requirement("so", estimate(2.4, 2.0, 2.8), bound=2.5, below=True).outcome == "open"


@pytest.mark.parametrize(
    ("outcomes", "chains", "verdict"),
    [
        (["holds", "holds"], 3, "stands"),
        (["holds", "holds"], 2, "stands in part"),
        (["holds", "open"], 3, "stands in part"),
        (["holds", "fails"], 3, "stands in part"),
        (["fails", "open"], 3, "does not stand"),
        (["fails", "holds"], 3, "does not stand"),
        (["open"], 3, "cannot be told"),
        (["open", "holds"], 3, "cannot be told"),  # the first one is the claim itself
        ([], 0, "cannot be told"),
    ],
)
def test_the_verdict_follows_from_the_tests(
    outcomes: list[Any], chains: int, verdict: Verdict
) -> None:
    assert verdict_of(outcomes, chains) == verdict


def numbers_of(
    values: dict[tuple[str, str], tuple[float, float, float]], lms: int = 3, features: float = NAN
) -> Numbers:
    rows = [
        {"name": name, "control": control, "mean": mean, "low": low, "high": high}
        | {"n": 3, "interval": "t", "unit": "share", "features": features}
        for (name, control), (mean, low, high) in values.items()
    ]
    return Numbers(pd.DataFrame(rows), ROLES, lms)


def test_grouping_that_a_still_lm_has_too_is_no_finding() -> None:
    still = {("paper_pattern.grouping", "still"): (0.014, 0.008, 0.019)}
    assert OF["grouping"].judge(numbers_of(still)).verdict == "does not stand"
    real = {("paper_pattern.grouping", "still"): (0.08, 0.05, 0.11)}
    assert OF["grouping"].judge(numbers_of(real)).verdict == "stands"
    # Three chains over one LM are one witness of what LMs do.
    assert OF["grouping"].judge(numbers_of(real, lms=1)).verdict == "stands in part"


@pytest.mark.parametrize(("features", "verdict"), [(19, "cannot be told"), (20, "stands")])
def test_numbers_over_few_features_decide_nothing(features: float, verdict: Verdict) -> None:
    rises = {
        ("progress.concept.rise", control): (0.3, 0.2, 0.4) for control in ("", "random directions")
    }
    assert OF["progress-measure"].judge(numbers_of(rises, features=features)).verdict == verdict


def test_maintaining_is_held_against_a_jump_not_against_an_lm_that_stands_still() -> None:
    found = {
        ("paper_pattern.maintaining", "jump"): (0.22, 0.18, 0.26),
        ("paper_pattern.maintaining", "still"): (-0.10, -0.14, -0.06),
    }
    alone = numbers_of(found)
    assert OF["maintaining"].judge(alone).verdict == "stands in part", (
        "no random order was analysed"
    )
    found["paper_pattern.maintaining", "permuted"] = (0.20, 0.16, 0.24)
    both = Numbers(numbers_of(found).over, {**ROLES, "permuted": "order"}, 3)
    assert OF["maintaining"].judge(both).verdict == "stands"


def test_concepts_are_held_against_what_each_null_makes() -> None:
    """A share of concepts that rises, by thresholds of two checkpoints, is no finding by itself."""
    rise = {("label.concept.rise", control): (0.05, 0.03, 0.07) for control in ("", "still")}
    assert OF["concepts-emerge"].judge(numbers_of(rise)).verdict == "cannot be told"
    nulls = ("random directions", "same tokens")
    excess = {("concept_excess.final", null): (0.04, 0.03, 0.05) for null in nulls}
    assert OF["concepts-emerge"].judge(numbers_of(rise | excess)).verdict == "stands"
    chance = {("concept_excess.final", null): (0.0, -0.01, 0.01) for null in nulls}
    assert OF["concepts-emerge"].judge(numbers_of(rise | chance)).verdict == "does not stand"


def test_a_pattern_that_a_jump_shares_as_often_is_not_the_features_own() -> None:
    roles = {"second seed": "replicate", "jump": "order"}
    names = [f"pattern_kappa.{label}" for label in ("all", "several_tokens")]
    seeds = {(name, "second seed"): (0.5, 0.45, 0.55) for name in names}
    verdicts = [
        OF["single-features"].judge(Numbers(numbers_of(seeds | jumps).over, roles, 3)).verdict
        for kappa in (0.1, 0.6)
        for jumps in [{(name, "jump"): (kappa, kappa - 0.05, kappa + 0.05) for name in names}]
    ]
    assert verdicts == ["stands", "stands in part"]


def test_a_control_that_was_asked_for_and_never_trained_leaves_a_claim_open() -> None:
    shifting = {("paper_pattern.shifting", "jump"): (0.1, 0.05, 0.2)}
    finding = OF["shifting"].judge(numbers_of(shifting))
    assert finding.verdict == "cannot be told"
    assert [test.says for test in finding.tests] == ["more features shift than still"]


def test_phases_need_three_segments_and_a_control_with_fewer() -> None:
    of_concepts = {("segments.concept: progress", ""): (3.0, 3.0, 3.0)}
    control = ("segments.random directions: progress", "")
    one, three = ({control: (n, n, n)} for n in (1.0, 3.0))
    assert OF["three-phases"].judge(numbers_of(of_concepts | one)).verdict == "stands"
    assert OF["three-phases"].judge(numbers_of(of_concepts | three)).verdict == "stands in part"


def test_drift_is_told_in_cosines_too() -> None:
    verdict = {"n": 3, "interval": "none", "unit": OF_VERDICTS, "low": NAN, "high": NAN}
    name = "drift_claim.widespread drift"
    row = pd.DataFrame([{"name": name, "control": "still", "mean": 1.0, "features": NAN} | verdict])
    for less, outcome in ((-0.7, "stands"), (-0.01, "stands in part")):
        cosine = {("cosine_to_final_at_first", "still"): (less, less - 0.001, less + 0.001)}
        over = pd.concat([row, numbers_of(cosine).over])
        assert OF["widespread-drift"].judge(Numbers(over, ROLES, 3)).verdict == outcome


def test_a_link_that_takes_more_than_a_twentieth_fails() -> None:
    name = ("tokens_of_a_link_over_conventional", "")
    dear, cheap = ({name: values} for values in ((0.18, 0.17, 0.19), (0.03, 0.02, 0.04)))
    assert OF["tokens-saved"].judge(numbers_of(dear)).verdict == "does not stand"
    assert OF["tokens-saved"].judge(numbers_of(cheap)).verdict == "stands"


def of_chain(chain: str, lm: str, shifting: float) -> pd.DataFrame:
    """The headline numbers of an analysis with one control that was asked for."""
    numbers = {"paper_pattern.shifting": shifting, "drift_claim.widespread drift": 1.0}
    table = headline_of_chain(numbers, lm=lm, chain=chain, control="still")
    asked = headline_of_chain({ASKED: float("nan")}, lm=lm, chain=chain, control="still")
    return pd.concat([table, asked], ignore_index=True).assign(role="noise")


def test_pages_name_run_release_and_rule(tmp_path: Path) -> None:
    headline = pd.concat(
        [of_chain(f"m{n}.L2.forward.s0.ab", f"m{n}", 0.09 + n / 100) for n in range(3)]
    ).assign(run="run-7", release="0.2.0, tables 15")
    index, *others = write_results([Group("three LMs", headline)], tmp_path)
    assert "| [Features shift from one token" in (text := index.read_text())
    assert "**stands**; more features shift than still: 0.100 [0.075, 0.125] (share), n = 3" in text
    assert "`run-7`" in text and "0.2.0, tables 15" in text and "3 chains, 3 LMs" in text
    page = (tmp_path / "claims" / "shifting.md").read_text()
    assert (
        "## three LMs: stands" in page
        and "| 0.100 | 0.075 to 0.125 (t) | 3 | 400 | above 0, mean 0.02 or more |" in page
    )
    assert "a number that is a verdict" in " ".join(page.lower().split())
    (numbers,) = (path for path in others if path.suffix == ".csv")
    assert pd.read_csv(numbers).set_index("name").loc["paper_pattern.shifting", "n"] == 3


@pytest.mark.parametrize(
    ("claim", "name", "unit", "value", "line"),
    [
        (
            *("three-phases", "segments.random directions: progress", "segments", 1.0),
            "that of random directions has fewer: 1 segment, n = 1 ",
        ),
        (
            *("three-phases", "segments.random directions: progress", "segments", 4.0),
            "that of random directions has fewer: 4 segments, n = 1 ",
        ),
        (
            *("widespread-drift", "drift_claim.widespread drift", OF_VERDICTS, 0.0),
            "widespread drift, by its criteria beside still: does not stand ",
        ),
        (
            *("single-features", "pattern_kappa.all", "Cohen's kappa", 0.46),
            "and its match in still share a pattern: 0.460 (Cohen's kappa), n = 1 ",
        ),
    ],
    ids=["one-segment", "four-segments", "verdict", "kappa"],
)
def test_each_number_is_shown_in_its_unit(
    tmp_path: Path, claim: str, name: str, unit: str, value: float, line: str
) -> None:
    control = "" if claim == "three-phases" else "still"
    table = headline_of_chain({name: value}, lm="m0", chain="m0.L2", control=control).assign(
        unit=unit, low=NAN, high=NAN, run="run-7", release="0.2.0"
    )
    role = {"": "", "still": "replicate" if claim == "single-features" else "noise"}[control]
    group = Group("one", table.assign(role=role))
    index, *_ = write_results([group], tmp_path)
    (row,) = [row for row in index.read_text().splitlines() if f"claims/{claim}.md" in row]
    assert line in row
    assert "1.000" not in row and "0.000" not in row
    assert "one: 1 chain, 1 LM, 1 seed of SAEs, 1 hook." in index.read_text()


def analysed(registry: Registry, chain: str, lm: str, shifting: float, place: Path) -> Any:
    """As an analysis of a chain leaves it in a registry."""
    (place / chain).mkdir()
    save_tables({"headline": of_chain(chain, lm, shifting)}, place / chain / "tables")
    facts = {"kind": "analysis", "identity": chain, "chain": chain, "release": "0.2.0, tables 15"}
    registry.reports.log(lm, f"analyze · {chain}", place / chain, metrics={}, facts=facts)
    registered = SimpleNamespace(
        chain=SimpleNamespace(name=chain, lm_name=lm), ready=SimpleNamespace(registry=registry)
    )
    return SimpleNamespace(registered=registered, content_hash=chain)


def compared(registry: Registry, lm: int, hook: str, ratio: list[float], place: Path) -> None:
    """As a comparison with conventional SAEs leaves it in a registry."""
    (folder := place / f"compared-{lm}").mkdir()
    (folder / "pairs.csv").write_text("")
    named = zip(("mean", "min", "max"), ratio, strict=True)
    metrics = {f"equal_quality_token_ratio_{of}": value for of, value in named}
    facts = {"kind": "comparison", "identity": f"compared-{lm}", "lm": f"m{lm}", "hook": hook}
    registry.reports.log(f"m{lm}", "compare", folder, metrics=metrics, facts=facts)


def group_number(registry: Registry) -> Estimate:
    """Of the registry's only group: how many tokens a link takes."""
    (group,) = newest_groups(registry)
    found = group.numbers.get("tokens_of_a_link_over_conventional")
    assert found is not None
    return found


def test_replicates_of_a_registry_are_judged_together(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(settings)
    with pytest.raises(UserError, match="nothing was analysed yet") as caught:
        newest_groups(registry)
    assert "\n" not in str(caught.value)
    names = [f"m{n}.L2.forward.s0.ab" for n in range(3)]
    chains = pd.DataFrame({"name": [*names, "m0.L2.jump.s0.cd"], "direction": "forward"})
    chains["lm"] = [name.partition(".")[0] for name in chains["name"]]
    chains.loc[3, "direction"] = "jump"
    monkeypatch.setattr(Registry, "chains", lambda self: chains)
    analyses = [
        analysed(registry, name, f"m{n}", 0.09 + n / 100, tmp_path) for n, name in enumerate(names)
    ]
    analysed(registry, "m0.L2.jump.s0.cd", "m0", 0.5, tmp_path)
    assert len(newest_groups(registry)) == 3, "a control that was analysed itself is not judged"
    line = join_replicates(analyses)
    assert are_joined([analyses[0], *analyses[:0:-1]])
    assert not are_joined(analyses[::-1]), "it is named after another chain"
    assert line.startswith(f"replicates · {names[0]} and 2 more: in MLflow's experiment m0, run ")
    assert "was made before" in join_replicates([analyses[0], *analyses[:0:-1]])
    (group,) = newest_groups(registry)
    assert group.title == "3 LMs (m0, m1, m2), L2, seed 0"
    assert len(set(group.headline["run"])) == 3
    shifting = group.numbers.get("paper_pattern.shifting", "still")
    assert shifting is not None and shifting.mean == pytest.approx(0.1) and shifting.n == 3

    compared(registry, 0, "L2", [0.1, 0.08, 0.12], tmp_path)
    of_one = group_number(registry)
    assert (of_one.n, of_one.mean, of_one.low, of_one.high) == (1, 0.1, 0.08, 0.12)
    assert of_one.interval == "range of seeds"
    compared(registry, 1, "L2", [0.3, 0.3, 0.3], tmp_path)
    compared(registry, 2, "L3", [9.0, 9.0, 9.0], tmp_path)  # of another hook
    of_two = group_number(registry)
    assert (of_two.n, of_two.interval) == (2, "range")
    assert (of_two.mean, of_two.low, of_two.high) == pytest.approx((0.2, 0.1, 0.3))
    (group,) = newest_groups(registry)
    finding = OF["tokens-saved"].judge(group.numbers)
    assert finding.verdict == "does not stand", "three seeds over one LM are one witness"

    line = register_results(registry)
    assert "claims of the paper on 3 LMs (m0, m1, m2), L2, seed 0: stands: 2, " in line
    assert line.endswith("index.md") and Path(line.rpartition(": ")[2]).exists()
    assert register_results(registry) == line, "the same analyses are judged once"
    (run,) = registry.reports.newest("results")
    assert run.metrics["stands"] == 2 and run.title == group.title

    monkeypatch.setattr("saetrack.utils.settings.load_settings", lambda: settings)
    told = CliRunner().invoke(app, ["results", "--to", str(tmp_path / "out"), "--json"])
    assert told.exit_code == 0, told.output
    verdicts = {row["claim"]: row["verdict"] for row in json.loads(told.output)["verdicts"]}
    assert (verdicts["shifting"], verdicts["grouping"]) == ("stands", "cannot be told")
    assert (tmp_path / "out" / "index.md").exists()

    line = join_replicates(analyses[::-1])
    assert line.startswith(f"replicates · {names[2]} and 2 more: in MLflow's experiment m2, run ")
    assert newest_groups(registry)[0].title.startswith("3 LMs (m2, m1, m0)")
    pair = [analyses[0], analysed(registry, "m0.L3.forward.s0.ef", "m0", 0.1, tmp_path)]
    join_replicates(pair)
    assert are_joined(pair) and not are_joined(pair[::-1]), "over one LM it is another run too"
