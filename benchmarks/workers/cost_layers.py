"""A track over one or more layers of the mini-LM: seconds of its warm links, and memory."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.presets import mini_track
from benchmarks.rounds import forget_resident_peak, resident_bytes
from saetrack.chain.config import load_config
from saetrack.training.loop import pending_checkpoints
from saetrack.training.prepare import prepare
from saetrack.utils.settings import Settings
from saetrack.utils.timing import timed

CHECKPOINTS = (26, 28)  # the first of them trains from scratch, and is not counted


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each warm checkpoint with all its layers; the peak of memory in them."""
    first, last = CHECKPOINTS
    tokens = job["tokens"]
    schedule = [
        {"first": first, "last": first, "tokens": tokens},
        {"first": first + 1, "last": last, "tokens": tokens},
    ]
    config = load_config(mini_track(layers=job["layers"], schedule=schedule))
    seconds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(
            tracking_uri=f"sqlite:///{folder}/mlflow.db", artifact_dir=folder / "artifacts"
        )
        prepared = prepare(config, settings)
        baseline_bytes = resident_bytes("VmRSS")
        for pending in pending_checkpoints(prepared.track, prepared.source, prepared.context):
            forget_resident_peak()
            with timed(prepared.context.device) as timing:
                pending.train()
            spent_s = timing.spent_s()
            seconds.append(sum(spent_s.values()) - spent_s["registry"])
    return {"seconds": seconds[1:], "peak_bytes": resident_bytes("VmHWM") - baseline_bytes}


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    Path(given["answer"]).write_text(json.dumps(main(given)))
