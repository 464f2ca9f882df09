"""The GPUs of this machine."""

from __future__ import annotations

import os
import subprocess

from saetrack.utils.settings import load_settings


def gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may be set to, one device each; none where runs stay on the CPU."""
    if load_settings().device == "cpu":
        return []
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [one for one in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if one]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return listed.stdout.split()
