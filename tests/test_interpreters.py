"""Every supported Python of this machine: an environment with the locked versions, and a track.

Not in the default run (`make test-interpreters`): each environment takes minutes, and gigabytes
where torch brings CUDA.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.wheel import ROOT, build, call, track_nano

LOCK = ROOT / "deployments" / "requirements.lock"


def interpreters() -> dict[str, Path]:
    """Of each supported release the first that answers: on the search path, or pyenv's own."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    folders += sorted(pyenv.glob("versions/*/bin"))
    found: dict[str, Path] = {}
    for release in ("3.11", "3.12", "3.13", "3.14"):
        for python in (folder / f"python{release}" for folder in folders):
            if release not in found and python.exists() and answers(python):
                found[release] = python
    return found


def answers(python: Path) -> bool:
    """A version manager's command may exist and fail."""
    return not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode


@pytest.mark.interpreters
@pytest.mark.parametrize("release", interpreters())
def test_the_locked_versions_train_a_chain_from_the_wheel(release: str, tmp_path: Path) -> None:
    (tmp_path / "wheel").mkdir()
    wheel = build(tmp_path / "wheel")
    maker = ROOT / "deployments" / "make_venv.sh"
    call(maker, tmp_path / "env", PYTHON=str(interpreters()[release]))
    python = tmp_path / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    call(*pip, "--constraint", LOCK, wheel)
    assert release in call(python, "--version")
    assert track_nano(python, tmp_path / "empty", tmp_path / "cache") == 4
