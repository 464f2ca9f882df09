"""An install without extras: the library works, and an analysis asks for what is missing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

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
BROUGHT = {"scipy", "sklearn", "jaxtyping"}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "umap": "umap-learn"}


def run_without(hidden: set[str], code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDING.format(hidden=hidden) + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_but_the_analysis_does_without_extras() -> None:
    done = run_without(
        EXTRAS - BROUGHT,
        """
import importlib
from pathlib import Path
for path in sorted(Path("saetrack").rglob("*.py")):
    if not {"analysis", "kernels", "__main__.py"} & set(path.parts):
        importlib.import_module(".".join(path.with_suffix("").parts))
""",
    )
    assert done.returncode == 0, done.stderr


def test_an_analysis_names_the_command_that_installs_what_it_lacks() -> None:
    done = run_without({"umap"}, "import saetrack.analysis.pipeline.config")
    last = done.stderr.splitlines()[-1]
    assert last == (
        "saetrack.utils.errors.UserError: the analysis needs umap, not installed here: "
        "pip install 'saetrack[analysis]'"
    )


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_brings_the_modules_that_are_asked_for(extra: str) -> None:
    named = {re.split(r"[<>=\[]", text)[0] for text in PYPROJECT["optional-dependencies"][extra]}
    assert named == {DISTRIBUTIONS.get(module, module) for module in MODULES[extra]}
