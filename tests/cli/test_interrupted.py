"""Ctrl-C late in an analysis: one line, status 130, and no look back at threads."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from saetrack.chain.plan import Chain
from saetrack.cli import main as command_line
from saetrack.registry import Registry
from saetrack.registry.analyses import Reports
from saetrack.utils.settings import Settings
from tests.support.planted_analysis import QUESTIONS
from tests.support.running import set_environment

ROOT = Path(__file__).parent.parent.parent
MODULE = "saetrack.analysis.pipeline.analyze"
# What stands in for a library that crashes while the interpreter is taken apart around it, and for
# a thread that writes what was done.
PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs aside ignores it
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from saetrack.cli import main as command_line
from saetrack.cli.terminal import resumable

class Crashing:
    def __del__(self, end=os._exit):
        end(11)

def work():
    global crashing
    crashing = Crashing()
    written = Path(sys.argv[1])
    ThreadPoolExecutor().submit(lambda: (time.sleep(0.5), written.write_text("whole")))
    with resumable("all"):
        print("at work", flush=True)
        time.sleep(60)

command_line.app = lambda standalone_mode: work()
command_line.main()
"""


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """What a shell runs aside ignores Ctrl-C, and so do tests there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt(*_: Any, **__: Any) -> None:
    signal.raise_signal(signal.SIGINT)


def interrupt_in_a_callback(*_: Any, **__: Any) -> None:
    """As LLVM calls Python while numba compiles: ctypes drops what the callback raises."""
    ctypes.CFUNCTYPE(None)(interrupt)()
    time.sleep(20)


def interrupt_as_another_error(*_: Any, **__: Any) -> None:
    try:
        interrupt()
    except KeyboardInterrupt:
        raise RuntimeError("a library's own error") from None


MOMENTS: list[tuple[str, Callable[..., None]]] = [
    (f"{MODULE}._tables", interrupt_in_a_callback),
    (f"{MODULE}.save_tables", interrupt_as_another_error),
    (f"{MODULE}.draw", interrupt),
    (f"{Reports.__module__}.Reports.log", interrupt),
]
# Before and between these an analysis only takes time.
STUBS: dict[str, Any] = {
    "checkpoints_to_read": lambda analysis: [],
    "_tables": lambda analysis, folder: SimpleNamespace(tables={}),
    "draw": lambda inputs, folder: None,
    "write_analysis_page": lambda inputs, folder: None,
    "analysis_metrics": lambda tables: {},
}


def ask_for(
    analysis: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Let the command line make an analysis, of which little is computed."""
    set_environment(settings, monkeypatch)
    for name, stub in STUBS.items():
        monkeypatch.setattr(f"{MODULE}.{name}", stub)
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(analysis))
    monkeypatch.setattr(sys, "argv", ["saetrack", "analyze", str(file)])


def test_an_analysis_that_is_interrupted_late_leaves_nothing_half(
    registry: Registry,
    module_settings: Settings,
    chain: Chain,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    ask_for({**QUESTIONS, "controls": {}}, module_settings, monkeypatch, tmp_path)
    client = MlflowClient(module_settings.tracking_uri)
    experiment = client.get_experiment_by_name(chain.lm_name).experiment_id
    for place, how in MOMENTS:
        with monkeypatch.context() as patch:
            patch.setattr(place, how)
            assert command_line.run() == command_line.INTERRUPTED, place
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.splitlines()[-1].startswith("stopped; every checkpoint that was read"), (
            place
        )
        assert "Traceback" not in told.err
        assert client.search_runs([experiment], "tags.kind = 'analysis'") == [], place


def test_an_interrupt_after_all_is_registered_says_so(
    registry: Registry,
    module_settings: Settings,
    chain: Chain,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    ask_for(
        {**QUESTIONS, "controls": {}, "sampled_features": 9}, module_settings, monkeypatch, tmp_path
    )
    with monkeypatch.context() as patch:
        patch.setattr(f"{MODULE}._where", interrupt)  # once the run is FINISHED
        assert command_line.run() == command_line.INTERRUPTED
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("stopped, with all results registered: nothing is left to do; ")
    assert command_line.run() == 0
    assert "was analysed before" in capsys.readouterr().out


def test_the_process_leaves_before_the_interpreter_is_taken_apart(tmp_path: Path) -> None:
    written = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(written)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == f"stopped; all; to go on: saetrack {written}\n"
    assert written.read_text() == "whole", "what was being written is"
