"""Python in a process of its own, where a test must see what is imported or touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def run_code(code: str) -> None:
    """Run a script in the project's root.

    Raises:
        AssertionError: it failed; with what it wrote.
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
