"""The house's rules that a machine can check: who imports whom, sizes, what the SAE needs."""

from __future__ import annotations

import ast
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from saetrack.analysis.pipeline.config import AnalyzeConfig, CompareConfig
from saetrack.chain.config import TrackConfig
from saetrack.chain.sweep import SweepConfig
from saetrack.utils.settings import Settings
from tests.checks import structure
from tests.support.child import run_code

ROOT = structure.ROOT


def test_imports_keep_their_direction() -> None:
    """The contracts of pyproject.toml: direction, the one importer of mlflow, no cycles."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("rule", structure.RULES, ids=lambda rule: rule.__name__)
def test_no_file_offends(rule: Callable[[], Iterator[str]]) -> None:
    offences = list(rule())
    assert not offences, "\n".join(offences)


def test_the_sae_and_its_step_need_torch_alone() -> None:
    run_code("""
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
from saetrack.sae.config import ReLUConfig
from saetrack.sae.step import TrainStep
from saetrack.sae.trainer import train
from saetrack.sae.warm_start import warm_start
step = TrainStep(new_sae(4, 8, torch.zeros(4), 0), ReLUConfig())
step(torch.randn(16, 4), 1e-3)
rooms = ('saetrack.sae', 'saetrack.utils')
house = sorted(name for name in sys.modules if name.startswith('saetrack.'))
assert all(name.startswith(rooms) for name in house), house
""")


def test_making_a_config_touches_nothing_outside() -> None:
    """No file, folder, server or variable: only then are configs the same on every machine."""
    run_code("""
import os, sys
from saetrack.analysis.pipeline.config import load_analyze_config, load_compare_config
from saetrack.chain.config import load_config
from saetrack.chain.sweep import load_sweep_config
from tests.support.nano import NANO_TRACK

touched = []
looks = ('open', 'os.listdir', 'os.scandir', 'socket', 'sqlite3')
def hook(event, arguments):
    # Modules that are imported only now are the house's own files.
    code = str(arguments[0]).endswith(('.py', '.pyc', '.so')) if arguments else False
    if event.startswith(looks) and not code:
        touched.append((event, arguments))
def record(name, function):
    def recorded(*given, **named):
        touched.append((name, str(given[-1])))
        return function(*given, **named)
    return recorded

OWN = {**NANO_TRACK, 'model': './checkpoints', 'corpus': {'dataset': './text.jsonl'}}
for name in ('stat', 'lstat'):  # raise no event
    setattr(os, name, record(name, getattr(os, name)))
type(os.environ).__getitem__ = record('os.environ', type(os.environ).__getitem__)
sys.addaudithook(hook)
for track in (NANO_TRACK, OWN, {**NANO_TRACK, 'model': 'pythia-410m'}):
    load_config(track)
    load_analyze_config({'track': track, 'beside': [track, 'a-chain']})
    load_compare_config({'track': track})
load_sweep_config({'track': NANO_TRACK, 'over': {'seed': [0, 1]}})
assert not touched, touched
""")


def test_every_config_field_is_read_somewhere() -> None:
    """A field that nothing reads promises what it does not keep."""
    configs = _with_what_they_hold([TrackConfig, AnalyzeConfig, CompareConfig, SweepConfig])
    names = {name for config in (*configs, Settings) for name in _field_names(config)}
    read = {
        node.attr
        for path in structure.sources()
        for node in ast.walk(structure.tree(path))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert {"matched_l0", "l1_coefficient", "learning_rate", "followed_features"} <= names
    assert names <= read, names - read


def _with_what_they_hold(configs: list[type]) -> set[type]:
    """These configs and all that are the type of a field, of a field's field, ..."""
    found: set[type] = set()
    left: list[Any] = list(configs)
    while left:
        kind = left.pop()
        left += typing.get_args(kind)
        if isinstance(kind, type) and kind not in found and _field_names(kind):
            found.add(kind)
            left += typing.get_type_hints(kind).values()
    return found


def _field_names(kind: type) -> list[str]:
    if issubclass(kind, BaseModel):
        return list(kind.model_fields)
    return [field.name for field in fields(kind)] if is_dataclass(kind) else []
