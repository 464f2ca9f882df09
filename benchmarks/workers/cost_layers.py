"""A track over one or more layers of the mini-LM: seconds of its warm links, and memory."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.rounds import forget_resident_peak, resident_bytes
from saetrack.chain.config import load_config
from saetrack.chain.plan import CheckpointJob, plan_track, scheduled
from saetrack.chain.presets import load_preset
from saetrack.data.corpus import prepare_corpus
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.checkpoints.folder_layout import find_lm
from saetrack.lm.open import open_source
from saetrack.training.checkpoint import TrainingContext, train_checkpoint
from saetrack.training.loop import train_track
from saetrack.training.prepare import choose_device
from saetrack.utils.settings import load_settings
from tests.support.memory_store import MemoryStore

CHECKPOINTS = (26, 28)  # the first of them trains from scratch, and is not counted


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each warm checkpoint with all its layers; the peak of memory in them."""
    first, last = CHECKPOINTS
    tokens = job["tokens"]
    config = load_config(
        {
            **load_preset("track", "mini"),
            "layers": job["layers"],
            "schedule": [
                {"first": first, "last": first, "tokens": tokens},
                {"first": first + 1, "last": last, "tokens": tokens},
            ],
        }
    )
    settings = load_settings()
    source = open_source(find_lm(config.model), settings.cache_dir, settings.fetched_bytes)
    corpus = prepare_corpus(config.corpus, *source.tokenizer(), settings.cache_dir)
    seconds = []

    def timed(job: CheckpointJob, ahead: Ahead, training_context: TrainingContext) -> None:
        forget_resident_peak()
        began_s = time.perf_counter()
        train_checkpoint(job, ahead, training_context)
        seconds.append(time.perf_counter() - began_s)

    baseline_bytes = resident_bytes("VmRSS")
    with tempfile.TemporaryDirectory() as states:
        training_context = TrainingContext(MemoryStore(), choose_device(settings), Path(states))
        train_track(
            plan_track(config, source, scheduled(config, source), corpus),
            source,
            training_context,
            timed,
        )
    return {"seconds": seconds[1:], "peak_bytes": resident_bytes("VmHWM") - baseline_bytes}


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    Path(given["answer"]).write_text(json.dumps(main(given)))
