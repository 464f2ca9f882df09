"""The paper's claims and what became of them, as Markdown: a table of all, a page for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from saetrack.analysis.results.claims import (
    MIN_FEATURES,
    MIN_LMS,
    OF_VERDICTS,
    Claim,
    Estimate,
    Finding,
    Numbers,
    Requirement,
)
from saetrack.analysis.results.paper_claims import CLAIMS
from saetrack.analysis.results.replicates import ALL, counted, over_replicates

RULE = f"""\
What counts is the interval of each number over LMs, or over chains where there is one LM:
Student's 95 % of three values and more, the range of two, the 95 % over features of one; and never
less than the 95 % over features that the mean of all chains has. Chains over the same LM are
averaged first. A test *holds* if the interval lies above the bound and the mean reaches the
smallest effect that matters; it *fails* if the interval lies below that effect; else, without an
interval, and over fewer than {MIN_FEATURES} features, it is *open*. A number that is a verdict
itself holds if it is one on all chains and fails if on none. A claim **stands** if all of its tests
hold over {MIN_LMS} LMs or more, **stands in part** if some hold, or all over fewer LMs, **does not
stand** if none holds and some fail, and else **cannot be told** on these chains. The first test is
the claim itself: where it fails the claim does not stand, and while it is open the others do not
make it stand in part.
"""
MADE = "Written by `saetrack results` from the newest analyses of a registry; do not edit.\n"
COUNTS = ("segments", "LM steps")  # units of what is counted
INDEX_FILE, CLAIMS_FOLDER, NUMBERS_FOLDER = "index.md", "claims", "numbers"


@dataclass(frozen=True)
class Group:
    """Chains that are judged together: replicates, or one chain alone.

    Attributes:
        title: names them.
        headline: their headline numbers (`saetrack.analysis.results.headline`) with `role`,
            `chain`, `lm`, `sae_seed`, `hook`, `run` and `release`, those of comparisons among them.
    """

    title: str
    headline: pd.DataFrame

    @property
    def lms(self) -> int:
        """How many LMs its chains are over."""
        return len(self.headline["lm"].unique())

    @cached_property
    def numbers(self) -> Numbers:
        """Over its LMs where there are several, else over all of its chains."""
        over = over_replicates(self.headline)
        with_control = self.headline[self.headline["role"] != ""]
        roles = dict(zip(with_control["control"], with_control["role"], strict=True))
        # A number of one LM only is not among those over LMs.
        chosen = over[over["over"] == ("lm" if self.lms > 1 else ALL)]
        known = set(zip(chosen["name"], chosen["control"], strict=True))
        rest = [key not in known for key in zip(over["name"], over["control"], strict=True)]
        of_one = over[np.array(rest) & (over["over"] == ALL)]
        numbers = pd.concat([chosen, of_one], ignore_index=True)
        return Numbers(numbers, roles, self.lms)

    @property
    def key(self) -> str:
        """Names its file of numbers."""
        return "".join(char if char.isalnum() else "-" for char in self.title).strip("-")


def write_results(groups: Sequence[Group], folder: Path) -> list[Path]:
    """Judge all claims on all groups, and write the pages.

    Args:
        groups: of chains.
        folder: that is made, or in which pages of the same names are replaced.

    Returns:
        The files, the table of all claims first.
    """
    for name in (CLAIMS_FOLDER, NUMBERS_FOLDER):
        (folder / name).mkdir(parents=True, exist_ok=True)
    numbers = {group.title: group.numbers for group in groups}
    findings = {
        claim.key: {title: claim.judge(of) for title, of in numbers.items()} for claim in CLAIMS
    }
    written = [folder / INDEX_FILE]
    written[0].write_text(_index(groups, findings))
    for claim in CLAIMS:
        path = folder / CLAIMS_FOLDER / f"{claim.key}.md"
        path.write_text(_page(claim, groups, findings[claim.key]))
        written.append(path)
    for group in groups:
        path = folder / NUMBERS_FOLDER / f"{group.key}.csv"
        numbers[group.title].over.to_csv(path, index=False)
        written.append(path)
    return written


def verdicts(groups: Sequence[Group]) -> pd.DataFrame:
    """One row per claim and group: `claim`, `group`, `verdict`, for a terminal or a script."""
    numbers = {group.title: group.numbers for group in groups}
    return pd.DataFrame(
        [
            {"claim": claim.key, "group": title, "verdict": claim.judge(of).verdict}
            for claim in CLAIMS
            for title, of in numbers.items()
        ]
    )


def _index(groups: Sequence[Group], findings: Mapping[str, Mapping[str, Finding]]) -> str:
    rows = [
        [
            f"[{claim.says}]({CLAIMS_FOLDER}/{claim.key}.md)",
            claim.place,
            *(_with_number(findings[claim.key][group.title]) for group in groups),
        ]
        for claim in CLAIMS
    ]
    heads = ["Claim of the paper", "Where", *(group.title for group in groups)]
    parts = ["# Claims of the paper", MADE, _table(heads, rows), "## The rule", RULE]
    return "\n\n".join([*parts, "## What was judged", *(_chains(group) for group in groups)])


def _with_number(finding: Finding) -> str:
    """The verdict, with the number of its first test that decided it."""
    decided = [test for test in finding.tests if test.estimate is not None]
    if not decided:
        return f"**{finding.verdict}**"
    order = {"fails": 0, "open": 1, "holds": 2}
    weakest = min(decided, key=lambda test: order[test.outcome])
    assert weakest.estimate is not None
    return f"**{finding.verdict}**; {weakest.says}: {_estimate(weakest.estimate)}"


def _page(claim: Claim, groups: Sequence[Group], findings: Mapping[str, Finding]) -> str:
    lines = [
        f"# {claim.says}",
        "",
        MADE,
        f"In the paper: {claim.place}. Held against: {claim.null}.",
    ]
    for group in groups:
        finding = findings[group.title]
        lines += ["", f"## {group.title}: {finding.verdict}", ""]
        n = "LMs" if group.lms > 1 else "Chains"
        heads = ["What must be so", "Number", "Unit", "Mean", "Interval", n, "Features", "Bound"]
        heads += ["Test"]
        lines += [_table(heads, [_test(test) for test in finding.tests])]
        lines += ["", _chains(group)]
    return "\n".join([*lines, "", "## The rule", "", RULE])


def _test(test: Requirement) -> list[str]:
    found = test.estimate
    bound = f"{'below' if test.below else 'above'} {test.bound:g}"
    if test.least:
        least = test.bound + (-test.least if test.below else test.least)
        bound += f", mean {least:g} or {'less' if test.below else 'more'}"
    if found is None:
        return [test.says, "", "", "not measured", "", "", "", bound, test.outcome]
    name = f"`{found.name}`" + (f" beside {found.control}" if found.control else "")
    low, high = (_number(end, found.unit) for end in (found.low, found.high))
    interval = "none" if np.isnan(found.low) else f"{low} to {high} ({found.interval})"
    features = "" if np.isnan(found.features) else f"{found.features:.0f}"
    outcome = f"{test.outcome}: too few features" if found.is_of_few else test.outcome
    unit, mean = found.unit, _number(found.mean, found.unit)
    if unit == OF_VERDICTS:
        unit, mean, bound = "verdict", _verdicts(found), "stands in all"
    return [test.says, name, unit, mean, interval, str(found.n), features, bound, outcome]


def _estimate(found: Estimate) -> str:
    """A number with its interval and its unit, as the end of a sentence."""
    if found.unit == OF_VERDICTS:
        return _verdicts(found)
    mean, low, high = (_number(one, found.unit) for one in (found.mean, found.low, found.high))
    ends = "" if np.isnan(found.low) else f" [{low}, {high}]"
    if found.unit in COUNTS:
        number = f"{mean} {found.unit.removesuffix('s') if mean == '1' else found.unit}{ends}"
    else:
        number = f"{mean}{ends} ({found.unit})"
    return f"{number}, n = {found.n}"


def _verdicts(found: Estimate) -> str:
    """Of a number that is 1 where a claim stands and 0 where it does not."""
    if found.n == 1:
        return "stands" if found.mean == 1 else "does not stand"
    return f"stands in {found.mean * found.n:.4g} of {found.n}"


def _number(value: float, unit: str) -> str:
    """Three digits; of what is counted whole numbers, and of their means one digit."""
    if np.isnan(value):
        return "-"
    digits = 3 if unit not in COUNTS else 0 if value == round(value) else 1
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # 0 has no sign


def _chains(group: Group) -> str:
    """Which chains, runs and releases stand behind the numbers."""
    rows = [
        [f"`{row['chain']}`", f"`{row['run']}`", str(row["release"])]
        for _, row in group.headline.drop_duplicates(["chain", "run"]).iterrows()
    ]
    table = _table(["Chain", "Run in MLflow", "Release"], rows)
    return f"{group.title}: {counted(group.headline)}.\n\n{table}\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
