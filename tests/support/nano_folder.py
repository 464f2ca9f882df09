"""A live folder with checkpoints of the nano LM under steps of one's own, and a track over it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from saetrack.chain.config import TrackConfig, load_config
from saetrack.lm.checkpoints.source import CheckpointSource
from tests.support.nano import NANO_TRACK


def config(live: Path, **changes: Any) -> TrackConfig:
    schedule = [{"first": 0, "last": None, "tokens": 512}]
    values = {"model": str(live), "schedule": schedule, "evaluation": {"ce_tokens": 0}}
    return load_config({**NANO_TRACK, **values, **changes})


def arrive(live: Path, source: CheckpointSource, **indices: int) -> None:
    """Checkpoints of the nano LM under other steps, by `step_N=checkpoint_index`."""
    for name, index in indices.items():
        (checkpoint,) = source.resolve([index])
        shutil.copytree(source.fetch(checkpoint), live / name)
        source.tokenizer()[0].save_pretrained(live / name)
        state = {"global_step": int(name.removeprefix("step_")), "save_steps": 20}
        (live / name / "trainer_state.json").write_text(json.dumps(state))


def steps(prepared: Any) -> list[int]:
    (chain,) = prepared.track.chains
    return [link.checkpoint.lm_step for link in chain.links]
