"""The other projects: which release, and an environment of its own for each, made on first use.

One environment for all would not do: their dependencies exclude each other's, and this project's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "mlruns" / "bench"
TORCH = "2.13.0"


class UnavailableError(Exception):
    """A peer cannot take part; the text is one line."""


@dataclass(frozen=True)
class Peer:
    """A project measured against, in the newest release that its registry had.

    Attributes:
        name: as a person says it.
        package: in the registry.
        version: pinned.
        without: what its dependencies install but does not import beside a torch built for the
            CPU, and what it does not need.
    """

    name: str
    package: str
    version: str
    without: tuple[str, ...] = ()


SAE_LENS = Peer("SAELens", "sae-lens", "6.54.12")
DICTIONARY_LEARNING = Peer(
    "dictionary_learning", "dictionary-learning", "0.1.0", without=("torchvision",)
)
SPARSIFY = Peer("sparsify", "eai-sparsify", "1.3.3")


def python_of(peer: Peer | None) -> Path:
    """The interpreter of a peer's environment; None means this project's.

    Raises:
        UnavailableError: the environment could not be made.
    """
    if peer is None:
        return Path(sys.executable)
    folder = RESULTS / "envs" / peer.package
    pins = f"torch=={TORCH} {peer.package}=={peer.version}"
    made = folder / "pins"
    python = folder / "bin" / "python"
    if not made.exists() or made.read_text() != pins:
        say(f"{peer.name}: making its environment, once: a few minutes")
        _make(peer, folder, python)
        made.write_text(pins)
    return python


def _make(peer: Peer, folder: Path, python: Path) -> None:
    """Torch first and then held: a peer's dependencies would bring a CUDA build of several GB."""
    held = folder.parent / "held.txt"
    held.parent.mkdir(parents=True, exist_ok=True)
    held.write_text(f"torch=={TORCH}\n")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q"]
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*pip, "install", f"torch=={TORCH}"],
        [*pip, "install", f"{peer.package}=={peer.version}"],
    ]
    if peer.without:
        commands.append([*pip, "uninstall", "-y", *peer.without])
    for command in commands:
        done = subprocess.run(
            command,
            env={**os.environ, "PIP_CONSTRAINT": str(held)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["no reason"]
            raise UnavailableError(f"{peer.name}: left out, cannot be installed: {lines[-1]}")


def say(line: str) -> None:
    """A line of progress, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
