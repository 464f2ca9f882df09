"""The worker of one machine: `python -m flows.worker`. It begins by clearing up after a lost one.

A worker that dies with its runs (SIGKILL, power) leaves them Running, and their concurrency slots
taken: every later run of these deployments would be cancelled. supervisord starts the next worker
at once, and before that one works nothing can be running but what has outlived the last.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flows.lost import crash_lost_runs

COMMAND = ["worker", "start", "--pool", "saetrack", "--type", "process", "--name", "saetrack"]


def main() -> None:
    """Clear up, then become Prefect's worker."""
    crash_lost_runs()
    prefect = str(Path(sys.executable).parent / "prefect")
    os.execv(prefect, [prefect, *COMMAND])  # noqa: S606  (no shell is wanted)


if __name__ == "__main__":
    main()
