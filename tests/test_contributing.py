"""The worked examples of CONTRIBUTING.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from saetrack.analysis.geometry.inputs import Residuals
from saetrack.lm.catalog.entry import load_entries
from saetrack.utils.figures.steps import Setting

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()


def run_example(name: str) -> dict[str, Any]:
    """What the blocks of an example define, one after another as if in one file."""
    blocks = re.findall(rf"<!-- example: {name} -->\n```python\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    defined: dict[str, Any] = {}
    for block in blocks:
        exec(block, defined)
    return defined


def test_the_architecture_trains() -> None:
    run_example("architecture")


def test_the_analysis_makes_a_table_and_a_figure(tmp_path: Path) -> None:
    defined = run_example("analysis")
    residuals = [Residuals(step, i, torch.ones(5, 4) * step) for i, step in enumerate((1, 2, 8))]
    table = defined["norm_table"](residuals)
    expected = pd.DataFrame({"lm_step": [1, 2, 8], "median_norm": [2.0, 4.0, 16.0]})
    pd.testing.assert_frame_equal(table, expected)
    defined["norm_figure"](table, Setting("norms", "planted"), tmp_path / "norms")
    assert {path.name for path in tmp_path.iterdir()} == {"norms.png", "norms.svg"}


@pytest.mark.parametrize("entries", re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
def test_the_entries_are_of_the_catalogue_s_form(entries: str, tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(entries)
    assert len(load_entries(path, str(path))) == 1


def test_what_it_says_of_a_file_is_there() -> None:
    of_files = re.findall(r"`(\w+)` in\s+`([\w/]+\.py)`", TEXT)
    assert len(of_files) > 3
    root = Path(__file__).parent.parent
    for name, file in of_files:
        assert re.search(rf"\b{name}\b", (root / file).read_text()), f"{name} in {file}"
