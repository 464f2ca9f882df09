"""The rehearsal of the paper's main chain, with small shapes and without the analysis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.checks.measured import Phase
from tests.checks.rehearsal import SMALL, Rehearsal, main

QUICK = replace(SMALL, analysis=None, sparse_start=False)


def test_a_small_chain_is_killed_resumed_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(QUICK, tmp_path) == 0
    said = "\n" + capsys.readouterr().out
    for phase in ("plan", "first link", "killed link", "resumed", "later link", "export"):
        assert f"\n{phase}: " in said, phase
    folders = sorted(path.name for path in (tmp_path / "chain").iterdir())
    assert folders == ["README.md", "step0", "step1", "step2"]


def test_what_is_over_its_budget_is_a_problem(tmp_path: Path) -> None:
    rehearsal = Rehearsal(replace(QUICK, budgets_gb={"plan": 0.01}), tmp_path, "")
    rehearsal.forecast_gb = 1.0
    rehearsal.phases.append(Phase("plan", 1.0, 1.0, 0.4, 0.0, ""))
    rehearsal.phases.append(Phase("export", 1.0, 1.0, 0.4, 0.0, ""))
    (tmp_path / "cache" / "states").mkdir(parents=True)
    (tmp_path / "cache" / "states" / ".tmpAbc").touch()
    rehearsal.check()
    assert rehearsal.problems == [
        "left over: ['.tmpAbc']",
        "plan: 0.40 GB of memory, may be 0.01",
    ]
