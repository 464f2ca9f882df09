"""A command of saetrack in a process of its own, measured phase by phase."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

POLL_S = 0.01
# In a command's folder: LMs that the catalogue lacks.
MODELS_FILE = "models.yaml"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Phase:
    """What a part of a command took.

    Attributes:
        name: of the phase.
        wall_s: from its begin to its end.
        processor_s: of all threads.
        peak_gb: most memory; without files that are mapped into it, which the system can drop.
        disk_gb: by which its folder is larger than before.
        parts: seconds of its longest parts, by what the command logs of a link.
    """

    name: str
    wall_s: float
    processor_s: float
    peak_gb: float
    disk_gb: float
    parts: str


class Command:
    """One command, from its start."""

    def __init__(self, words: Sequence[str], folder: Path, hub: str) -> None:
        """Start it.

        Args:
            words: behind `saetrack`.
            folder: of its registry and its cache, and of whatever else it writes.
            hub: address of the model hub.
        """
        self._folder = folder
        self._said = folder / "stderr.txt"
        self._result = folder / "stdout.txt"
        self._disk_bytes = disk_bytes(folder)
        self._began_s, self._processor_s, self._before_s = time.monotonic(), 0.0, 0.0
        self._peak_gb = 0.0
        self._links = 0
        with self._said.open("w") as err, self._result.open("w") as out:
            self._process = psutil.Popen(
                [sys.executable, "-m", "saetrack.cli", *words],
                env={**os.environ, **environment(folder, hub)},
                cwd=folder,
                stdout=out,
                stderr=err,
            )

    def until(self, line: str, name: str) -> Phase:
        """Measure until it logs a line."""
        while not self.has_said(line):
            assert self._sample(), self._failure()
        return self._phase(name)

    def kill_once(self, states: Path, name: str) -> Phase:
        """Measure until a state of its training is on disk, then kill it."""
        while not any(states.glob("*.safetensors")):
            assert self._sample(), self._failure()
        phase = self._phase(name)
        self._process.kill()
        self._process.wait()
        return phase

    def end(self, name: str) -> Phase:
        """Measure until it ends; it must end well."""
        while self._sample():
            pass
        assert self._process.wait() == 0, self._failure()
        return self._phase(name)

    def output(self) -> str:
        """What it wrote to stdout."""
        return self._result.read_text()

    def has_said(self, text: str) -> bool:
        """Whether it has logged this."""
        return text in self._said.read_text()

    def _sample(self) -> bool:
        """Look at what it uses; whether it still runs."""
        time.sleep(POLL_S)
        if self._process.poll() is not None:
            return False
        try:
            times = self._process.cpu_times()
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except (psutil.Error, OSError):
            return True
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        if found:  # not of one that ends just now
            self._processor_s = times.user + times.system
            self._peak_gb = max(self._peak_gb, int(found[1]) * 1024 / 1e9)
        return True

    def _phase(self, name: str) -> Phase:
        """What it took since the phase before; the next one begins here."""
        now_s, size_bytes = time.monotonic(), disk_bytes(self._folder)
        shares = re.findall(r"time of this one: (.*)", self._said.read_text())
        is_new, self._links = len(shares) > self._links, len(shares)
        phase = Phase(
            name,
            now_s - self._began_s,
            self._processor_s - self._before_s,
            self._peak_gb,
            (size_bytes - self._disk_bytes) / 1e9,
            in_seconds(shares[-1], now_s - self._began_s) if is_new else "",
        )
        self._began_s, self._before_s, self._disk_bytes = now_s, self._processor_s, size_bytes
        self._peak_gb = 0.0
        say(f"{name}: {phase.wall_s:.0f} s, {phase.peak_gb:.1f} GB {phase.parts}")
        return phase

    def _failure(self) -> str:
        return "\n".join(self._said.read_text().splitlines()[-15:])


def in_seconds(shares: str, of_s: float) -> str:
    """Shares of a time, such as `step 50 %, LM 20 %`, in seconds."""
    found = re.findall(r"([A-Za-z][A-Za-z ]*?) (\d+) %", shares)
    return ", ".join(f"{name} {int(share) / 100 * of_s:.1f}" for name, share in found)


def environment(folder: Path, hub: str) -> dict[str, str]:
    """Of a command that asks this hub, and knows nothing beyond its folder."""
    own = folder / MODELS_FILE
    return {
        **({"SAETRACK_MODELS_FILE": str(own)} if own.exists() else {}),
        "HF_ENDPOINT": hub,
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_OFFLINE": "0",
        "HF_DATASETS_OFFLINE": "0",
        "NO_PROXY": "*",
        "PYTHONPATH": str(Path(__file__).parent.parent.parent),
        "SAETRACK_TRACKING_URI": f"sqlite:///{folder}/registry/mlflow.db",
        "SAETRACK_ARTIFACT_DIR": str(folder / "registry" / "artifacts"),
        "SAETRACK_CACHE_DIR": str(folder / "cache"),
        "SAETRACK_DEVICE": "cpu",
    }


def disk_bytes(folder: Path) -> int:
    """What the files of a folder take."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:  # gone meanwhile
            continue
    return total
