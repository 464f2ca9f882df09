"""One link of a chain, as `make track` trains it; or its training alone, without registry."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from saetrack.chain.config import TrackConfig, load_config
from saetrack.lm.hooked import HookedLM
from saetrack.sae.files import save_tensors
from saetrack.sae.model import SAE
from saetrack.sae.step import TrainStep
from saetrack.sae.trainer import Training, train
from saetrack.training.activations_store import ActivationsStore
from saetrack.training.chain_page import update_chain_page
from saetrack.training.loop import pending_checkpoints
from saetrack.training.mixing_buffer import MixingBuffer
from saetrack.training.prepare import prepare
from saetrack.utils.settings import Settings


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
    prepared = prepare(config, settings)
    chain, link = prepared.track.jobs[-1].links[0]
    HookedLM(prepared.source.fetch(link.checkpoint), [chain.hook])  # imports transformers' module
    seconds = 0.0
    for pending in pending_checkpoints(prepared.track, prepared.source, prepared.context):
        began_s = time.perf_counter()
        pending.train()
        seconds += time.perf_counter() - began_s
    for chain in prepared.track.chains:
        update_chain_page(prepared.registry, chain)
    return {"whole_s": seconds}


def _training(config: TrackConfig, settings: Settings, job: dict[str, Any]) -> dict[str, float]:
    """LM and SAE from the first token to the last."""
    prepared = prepare(config, settings)
    chain, link = prepared.track.jobs[-1].links[0]
    device = prepared.context.device
    folder = prepared.source.fetch(link.checkpoint)
    lm = HookedLM(folder, [chain.hook], residual=config.residual, device=device)
    start = load_file(Path(job["start"]))
    sae = SAE(*start["W_enc"].shape)
    sae.load_state_dict(start)
    step = TrainStep(sae.to(device), config.sae)
    training = Training(step, link.optimiser)
    began_s = time.perf_counter()
    store = ActivationsStore(lm, chain.corpus, config.corpus.exclude_bos, config.seed)
    batches = MixingBuffer(store, link.tokens, config.batch_tokens, config.buffer_tokens)
    for _ in train([training], batches):
        pass
    if device.type == "cuda":
        torch.cuda.synchronize()
    train_s = time.perf_counter() - began_s
    save_tensors(Path(job["final"]), dict(sae.named_parameters()))
    return {"train_s": train_s}


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    Path(given["answer"]).write_text(json.dumps(main(given)))
