"""The house's rules that a machine can check: who imports whom, sizes, what the SAE needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path for part in ("saetrack", "flows", "deployments") for path in (ROOT / part).rglob("*.py")
)


def test_imports_keep_their_direction() -> None:
    """The contracts of pyproject.toml: direction, the one importer of mlflow, no cycles."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_sae_and_its_step_need_torch_alone() -> None:
    code = """
from importlib.machinery import PathFinder
import sys
hidden = {'pydantic', 'safetensors', 'jaxtyping', 'pandas', 'transformers', 'mlflow', 'prefect',
          'matplotlib', 'triton'}
find = PathFinder.find_spec
# As if they were not installed; torch itself looks for some of them.
PathFinder.find_spec = staticmethod(
    lambda name, *rest: None if name.split('.')[0] in hidden else find(name, *rest)
)
import warnings; warnings.simplefilter('ignore')
import torch
from saetrack.sae.model import new_sae
from saetrack.sae.loss import LossConfig
from saetrack.sae.step import TrainStep
from saetrack.sae.trainer import train
from saetrack.sae.warm_start import warm_start
step = TrainStep(new_sae(4, 8, torch.zeros(4), 0), LossConfig())
step(torch.randn(16, 4), 1e-3)
house = sorted(name for name in sys.modules if name.startswith('saetrack.'))
assert all(name.startswith('saetrack.sae') for name in house), house
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_fit_a_reader(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 450
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 50, f"{node.name} has {lines} lines: more than a screen"


def test_flows_hold_no_science() -> None:
    for path in (ROOT / "flows").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            heavy = {"torch", "numpy", "mlflow", "pandas"}
            assert not {name.split(".")[0] for name in modules} & heavy, path.name


def test_every_config_field_is_read_somewhere() -> None:
    """A field that nothing reads promises what it does not keep."""
    from dataclasses import fields

    from saetrack.analysis.pipeline.config import CompareConfig
    from saetrack.chain.config import EvaluationConfig, Piece, TrackConfig
    from saetrack.chain.sweep import SweepConfig
    from saetrack.data.config import CorpusConfig
    from saetrack.sae.loss import LossConfig
    from saetrack.sae.trainer import Optimiser
    from saetrack.sae.warm_start import WarmStart
    from saetrack.utils.settings import Settings

    names = {
        name
        for model in (
            *(CompareConfig, CorpusConfig, EvaluationConfig, Piece, TrackConfig),
            *(Settings, SweepConfig),
        )
        for name in model.model_fields
    }
    names |= {field.name for kind in (LossConfig, WarmStart, Optimiser) for field in fields(kind)}
    read = {
        node.attr
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert names <= read, names - read
