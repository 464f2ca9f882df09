"""The wheel: built from a copy of the sources, put into environments of its own, and used there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.nano import NANO_TRACK

ROOT = Path(__file__).parent.parent.parent

SMOKE = """
import json, sys
from saetrack.chain.config import load_config
from saetrack.training.loop import train_missing
from saetrack.utils.settings import load_settings
n_trained, _ = train_missing(load_config(json.loads(sys.argv[1])), load_settings())
print(n_trained)
"""


def build(folder: Path) -> Path:
    """The wheel, by way of the source distribution, as `python -m build` makes both."""
    sources = folder / "sources"
    sources.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    shutil.copytree(
        ROOT / "saetrack", sources / "saetrack", ignore=shutil.ignore_patterns("__pycache__")
    )
    (sources / "flows").mkdir()
    (sources / "flows" / "__init__.py").touch()  # a checkout has it; the wheel must not
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, sources)
    (wheel,) = folder.glob("*.whl")
    return wheel


def track_nano(python: Path, folder: Path, cache_dir: Path) -> int:
    """Train the nano track in an empty folder; how many links were trained."""
    folder.mkdir(exist_ok=True)
    printed = call(
        python, "-c", SMOKE, json.dumps(NANO_TRACK), cwd=folder, SAETRACK_CACHE_DIR=str(cache_dir)
    )
    return int(printed.splitlines()[-1])


def call(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """What a command prints; a failure shows what it printed."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=known | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout
