"""Repositories of noise for a faulty hub, and a process that downloads from it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from tests.support.faulty_hub import FaultyHub

REPO = "someone/lm"
WEIGHTS = "model.safetensors"
CONFIG = b'{"model_type": "gpt_neox"}'

DOWNLOADER = """
import sys
from pathlib import Path
from saetrack.lm.checkpoints import hub
from saetrack.lm.checkpoints.files import CHECKPOINT
repo, commit, cache = sys.argv[1:]
hub.fetch(repo, "step1", commit, CHECKPOINT, Path(cache), 10**9)
"""


def noise(seed: int, size_bytes: int = 40_000) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def downloading(server: FaultyHub, cache: Path) -> subprocess.Popen[bytes]:
    """A process that fetches the repository's checkpoint `step1` from a hub."""
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return subprocess.Popen(
        [sys.executable, "-c", DOWNLOADER, REPO, server.repos[REPO]["step1"].commit, str(cache)],
        env={**online, "HF_ENDPOINT": server.address, "NO_PROXY": "*", "HF_HOME": str(cache)},
    )
