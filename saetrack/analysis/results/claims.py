"""The paper's claims, each held against its nulls by a rule that was written before the numbers.

A claim asks for some numbers of the headline table. What counts is the interval over replicates:

- **holds**: the interval lies above 0 and the mean reaches the smallest effect that matters;
- **fails**: the interval lies below the smallest effect that matters;
- **open**: neither; or there is no interval: one chain, and its analysis drew none; or the number
  is over fewer than 20 features.

A number that is a verdict itself holds if it is one on all chains, fails if on none, and else is
open.

A claim *stands* if all of its tests hold over three LMs or more, *stands in part* if some do (or
all, over fewer LMs), *does not stand* if none holds and some fail, and else *cannot be told*.
Chains over one LM are one witness of what LMs do: where there are several LMs, the values of each
are averaged first. A test whose number is missing (a control was not trained) is open. The first
test is the claim itself: where it fails the claim does not stand, and where it is open the others
do not make it stand in part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import pandas as pd

Verdict = Literal["stands", "stands in part", "does not stand", "cannot be told"]
Outcome = Literal["holds", "fails", "open"]
# So many LMs before a claim about LMs can stand without reserve, and features behind a number.
MIN_LMS, MIN_FEATURES = 3, 20
# Of numbers that are verdicts themselves, by intervals of their own.
OF_VERDICTS = "1 stands, 0 not"


@dataclass(frozen=True)
class Estimate:
    """A headline number over replicates, as `over_replicates` gives it; see there.

    Attributes:
        name: of the number.
        control: beside which null; "" for the chain alone.
        mean: over these.
        low: of its interval; NaN where there is none.
        high: likewise.
        n: values of which it is the mean: of LMs, where there are several, or of chains.
        interval: how it was made.
        unit: of all three.
        features: over how many each value was made, of several values the smallest; NaN where a
            number is of all.
    """

    name: str
    control: str
    mean: float
    low: float
    high: float
    n: int
    interval: str
    unit: str
    features: float = np.nan

    @property
    def is_of_few(self) -> bool:
        """Whether it is over too few features to decide anything."""
        return self.features < MIN_FEATURES


@dataclass(frozen=True)
class Requirement:
    """One thing that must be so for a claim to stand.

    Attributes:
        says: what must be so, in words.
        estimate: of a number that is positive if it is; None if it was not measured.
        least: the smallest effect that matters.
        bound: what is taken from the number before it is held against `least`.
        below: the number must lie below the bound, not above.
    """

    says: str
    estimate: Estimate | None
    least: float = 0.0
    bound: float = 0.0
    below: bool = False

    @property
    def outcome(self) -> Outcome:
        """By the rule at the top of this file."""
        found = self.estimate
        if found is None or np.isnan(found.mean) or found.is_of_few:
            return "open"
        if found.unit == OF_VERDICTS:
            return "holds" if found.mean == 1 else "fails" if found.mean == 0 else "open"
        ends = np.array([found.low, found.mean, found.high])
        if np.isnan(ends).any():
            return "open"
        low, mean, high = (self.bound - ends[::-1]) if self.below else (ends - self.bound)
        if low > 0 and mean >= self.least:
            return "holds"
        return "fails" if high < max(self.least, 1e-9) else "open"


@dataclass(frozen=True)
class Finding:
    """What became of a claim on some chains.

    Attributes:
        verdict: by the rule at the top of this file.
        tests: that decided.
    """

    verdict: Verdict
    tests: tuple[Requirement, ...]


@dataclass(frozen=True)
class Numbers:
    """The headline numbers of a group of replicates.

    Attributes:
        over: rows of `saetrack.analysis.results.replicates.over_replicates`, over LMs or chains.
        roles: of the controls, by name: `noise`, `replicate`, `order`.
        lms: how many LMs there are.
    """

    over: pd.DataFrame
    roles: Mapping[str, str]
    lms: int

    def get(self, name: str, control: str = "") -> Estimate | None:
        """One number; None where it was not measured."""
        rows = self.over[(self.over["name"] == name) & (self.over["control"] == control)]
        return None if rows.empty else _estimate(rows.iloc[0])

    def beside(self, name: str) -> dict[str, Estimate]:
        """A number beside each control of which it is known."""
        rows = self.over[(self.over["name"] == name) & (self.over["control"] != "")]
        return {str(row["control"]): _estimate(row) for _, row in rows.iterrows()}

    def beside_role(self, name: str, role: str) -> dict[str, Estimate | None]:
        """The same beside each control of a role; None beside those of which it is not known."""
        known = self.beside(name)
        return {control: known.get(control) for control, of in self.roles.items() if of == role}


def _estimate(row: pd.Series[Any]) -> Estimate:
    return Estimate(**{field.name: row[field.name] for field in fields(Estimate)})


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        key: names its page.
        says: the claim, in a sentence.
        place: where the paper has it.
        null: what it is held against, in a sentence.
        tests: asks for its numbers.
    """

    key: str
    says: str
    place: str
    null: str
    tests: Callable[[Numbers], Iterator[Requirement]]

    def judge(self, numbers: Numbers) -> Finding:
        """Hold the claim against the numbers of some chains."""
        tests = tuple(self.tests(numbers))
        measured = [test.estimate.n for test in tests if test.estimate]
        lms = min(measured, default=0) if numbers.lms > 1 else 1
        return Finding(verdict_of([test.outcome for test in tests], lms), tests)


def verdict_of(outcomes: list[Outcome], lms: int) -> Verdict:
    """By the rule at the top of this file; without tests nothing can be told."""
    if outcomes and all(outcome == "holds" for outcome in outcomes):
        return "stands" if lms >= MIN_LMS else "stands in part"
    if "holds" in outcomes and outcomes[0] != "fails":
        return "cannot be told" if outcomes[0] == "open" else "stands in part"
    return "does not stand" if "fails" in outcomes else "cannot be told"
