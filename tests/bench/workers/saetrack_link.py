"""One link of a chain, as `make track` trains it; or its training alone, without registry."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from saetrack.activations import MixedBatches, ResidualStream
from saetrack.chain import run_track
from saetrack.config import TrackConfig, load_config
from saetrack.lm.ahead import Ahead
from saetrack.lm.residual import ResidualLM
from saetrack.plan import Stage
from saetrack.prepare import prepare
from saetrack.sae.files import save_tensors
from saetrack.sae.model import SAE
from saetrack.sae.step import TrainStep
from saetrack.sae.training import Training, train
from saetrack.settings import Settings
from saetrack.stage import Workshop, run_stage


def main(job: dict[str, Any]) -> dict[str, float]:
    """Seconds of the part that the job asks for, imports left out."""
    config = load_config(job["track"])
    settings = Settings(**job["settings"])
    return _whole(config, settings) if job["part"] == "whole" else _training(config, settings, job)


def _whole(config: TrackConfig, settings: Settings) -> dict[str, float]:
    """A link from loading its LM to its version in the registry; the parent is in there.

    What a track does once, however long its chains, is left to the process's own seconds:
    connecting, planning, the chain's page.
    """
    ready = prepare(config, settings)
    seconds = 0.0

    def timed(stage: Stage, ahead: Ahead, workshop: Workshop) -> None:
        nonlocal seconds
        began_s = time.perf_counter()
        run_stage(stage, ahead, workshop)
        seconds += time.perf_counter() - began_s

    run_track(ready.track, ready.source, ready.workshop, timed)
    for chain in ready.track.chains:
        ready.registry.finish(chain)
    return {"whole_s": seconds}


def _training(config: TrackConfig, settings: Settings, job: dict[str, Any]) -> dict[str, float]:
    """LM and SAE from the first token to the last."""
    ready = prepare(config, settings)
    chain, link = ready.track.stages[-1].links[0]
    device = ready.workshop.device
    folder = ready.source.fetch(link.checkpoint)
    lm = ResidualLM(folder, [chain.layer], convention=config.convention, device=device)
    start = load_file(Path(job["start"]))
    sae = SAE(*start["W_enc"].shape)
    sae.load_state_dict(start)
    step = TrainStep(sae.to(device), config.objective)
    training = Training(step, link.optimiser, config.revival)
    began_s = time.perf_counter()
    stream = ResidualStream(lm, chain.corpus, config.corpus.exclude_bos, config.seed)
    batches = MixedBatches(stream, link.tokens, config.batch_tokens, config.buffer_tokens)
    train([training], batches, lambda: None)
    if device.type == "cuda":
        torch.cuda.synchronize()
    train_s = time.perf_counter() - began_s
    save_tensors(Path(job["final"]), dict(sae.named_parameters()))
    return {"train_s": train_s}


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    Path(given["answer"]).write_text(json.dumps(main(given)))
