"""An install without extras: everything loads, and an analysis asks for what is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from saetrack.utils.extras import MODULES
from tests.support.wheel import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

HIDING = """
from importlib.machinery import PathFinder
import sys
find = PathFinder.find_spec
PathFinder.find_spec = staticmethod(
    lambda name, *rest: None if name.split('.')[0] in {hidden!r} else find(name, *rest)
)
"""
EXTRAS = {*MODULES["analysis"], "prefect", "supervisor", "psycopg", "boto3", "sphinx", "jaxtyping"}
# MLflow and TransformerLens bring these themselves.
BROUGHT = {"scipy", "sklearn", "threadpoolctl", "jaxtyping"}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "umap": "umap-learn"}


def run_without(
    hidden: set[str], code: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDING.format(hidden=hidden) + code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_module_can_be_imported_without_extras() -> None:
    done = run_without(
        EXTRAS - BROUGHT,
        """
import importlib
from pathlib import Path
for path in sorted(Path("saetrack").rglob("*.py")):
    if not {"kernels", "__main__.py"} & set(path.parts):
        importlib.import_module(".".join(path.with_suffix("").parts))
""",
    )
    assert done.returncode == 0, done.stderr


def test_an_analysis_names_the_command_that_installs_what_it_lacks(tmp_path: Path) -> None:
    done = run_without(
        {"umap"},
        "sys.argv = ['saetrack', 'analyze', 'mini']\nfrom saetrack.cli.main import main\nmain()",
        SAETRACK_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db",
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: the analysis needs umap, not installed here: pip install 'saetrack[analysis]'"
    )
    assert not list(tmp_path.iterdir())  # said before any work


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_brings_the_modules_that_are_asked_for(extra: str) -> None:
    named = {re.split(r"[<>=\[]", text)[0] for text in PYPROJECT["optional-dependencies"][extra]}
    assert named == {DISTRIBUTIONS.get(module, module) for module in MODULES[extra]}
