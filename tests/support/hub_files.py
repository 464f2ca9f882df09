"""A repository for the tests of downloads, and a process that fetches it, to be killed."""

from __future__ import annotations

import random

REPO = "someone/lm"
WEIGHTS = "model.safetensors"
CONFIG = b'{"model_type": "gpt_neox"}'


def noise(seed: int, size_bytes: int = 40_000) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


DOWNLOADER = """
import sys
from pathlib import Path
from saetrack.lm.checkpoints import hub
from saetrack.lm.checkpoints.files import CHECKPOINT
hub.fetch(sys.argv[1], "step1", sys.argv[2], CHECKPOINT, Path(sys.argv[3]), 10**9)
"""
