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
    """Train the nano track in an empty folder by the installed command; how many links it has."""
    folder.mkdir()
    (folder / "nano.yaml").write_text(json.dumps(NANO_TRACK))  # JSON is YAML
    command = (python.parent / "saetrack", "track", "nano.yaml", "--json", "--quiet")
    done = json.loads(call(*command, cwd=folder, SAETRACK_CACHE_DIR=str(cache_dir)))
    assert (folder / "mlruns" / "mlflow.db").is_file()
    (chain,) = done["chains"]
    return int(chain["links"])


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
