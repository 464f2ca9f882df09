"""The first use of a registry, by several processes at the same moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient

CODE = """
import sys, time
from pathlib import Path
from saetrack.registry import connection
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
connection.connect(sys.argv[1])
"""


def test_processes_that_come_first_together_make_the_tables_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    start = tmp_path / "start"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, uri, str(start)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        start.touch()
        for process in processes:
            _, said = process.communicate(timeout=120)
            assert process.returncode == 0, said
    finally:  # none may wait for a start that does not come
        for process in processes:
            process.kill()
    assert [found.name for found in MlflowClient(uri).search_experiments()] == ["Default"]
