"""A track over one or more layers of the mini-LM: seconds of its warm links, and memory."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from flows.parameters import deployed_parameters
from saetrack.chain import run_track
from saetrack.config import load_config
from saetrack.corpus import prepare_corpus
from saetrack.live import find_spec
from saetrack.lm.ahead import Ahead
from saetrack.lm.checkpoints import open_source
from saetrack.plan import Stage, plan_track
from saetrack.prepare import choose_device
from saetrack.settings import load_settings
from saetrack.stage import Workshop, run_stage
from tests.bench.rounds import forget_resident_peak, resident_bytes
from tests.memory_store import MemoryStore

CHECKPOINTS = (26, 28)  # the first of them trains from scratch, and is not counted


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each warm checkpoint with all its layers; the peak of memory in them."""
    first, last = CHECKPOINTS
    tokens = job["tokens"]
    config = load_config(
        {
            **deployed_parameters("track", "mini"),
            "layers": job["layers"],
            "schedule": [
                {"first": first, "last": first, "tokens": tokens},
                {"first": first + 1, "last": last, "tokens": tokens},
            ],
        }
    )
    settings = load_settings()
    source = open_source(find_spec(config.model), settings.cache_dir, settings.fetched_bytes)
    corpus = prepare_corpus(config.corpus, *source.tokenizer(), settings.cache_dir)
    seconds = []

    def timed(stage: Stage, ahead: Ahead, workshop: Workshop) -> None:
        forget_resident_peak()
        began_s = time.perf_counter()
        run_stage(stage, ahead, workshop)
        seconds.append(time.perf_counter() - began_s)

    baseline_bytes = resident_bytes("VmRSS")
    with tempfile.TemporaryDirectory() as states:
        workshop = Workshop(MemoryStore(), choose_device(settings), Path(states))
        run_track(plan_track(config, source, corpus), source, workshop, timed)
    return {"seconds": seconds[1:], "peak_bytes": resident_bytes("VmHWM") - baseline_bytes}


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    Path(given["answer"]).write_text(json.dumps(main(given)))
