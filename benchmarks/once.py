"""A worker that does one thing and ends."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.contestant import QUIET
from benchmarks.peers import RESULTS, ROOT, Peer, UnavailableError, python_of


def run_once(peer: Peer | None, module: str, job: dict[str, Any]) -> dict[str, Any]:
    """What a worker answers, and `process_s`, from its process's start to its end.

    Raises:
        UnavailableError: it failed; the line names its log.
    """
    python = python_of(peer)
    log = RESULTS / "logs" / f"{module}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        answer = Path(name) / "answer.json"
        began_s = time.perf_counter()
        with log.open("w") as said:
            done = subprocess.run(
                [python, "-m", f"benchmarks.workers.{module}"],
                cwd=ROOT,
                env={**os.environ, **QUIET},
                input=json.dumps({**job, "answer": str(answer)}),
                stdout=said,
                stderr=said,
                text=True,
                check=False,
            )
        process_s = time.perf_counter() - began_s
        if done.returncode:
            lines = log.read_text().strip().splitlines() or ["nothing"]
            where = log.relative_to(ROOT)
            raise UnavailableError(f"{module}: left out, it ended: {lines[-1][:160]} (see {where})")
        return {**json.loads(answer.read_text()), "process_s": process_s}
