"""A long chain of tiny links in a real registry: seconds in the registry, link by link."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.presets import mini_track
from benchmarks.rounds import resident_bytes
from saetrack.chain.config import load_config
from saetrack.lm.catalog.models import find_model
from saetrack.lm.embedded.publish import train_into_folder
from saetrack.training.chain_page import update_chain_page
from saetrack.training.loop import pending_checkpoints
from saetrack.training.prepare import prepare
from saetrack.utils.settings import Settings
from saetrack.utils.timing import timed

LINK_TOKENS = 2048


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds per link, in the registry and in all, and of the chain's page at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lm_steps = tuple(range(job["links"]))
        train_into_folder(replace(find_model("nano"), lm_steps=lm_steps), folder / "nano")
        settings = Settings(
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            artifact_dir=folder / "artifacts",
            cache_dir=folder / "cache",
            device="cpu",
        )
        return _timed_chain(_track(folder / "nano", len(lm_steps)), settings)


def _track(lm: Path, links: int) -> dict[str, Any]:
    """One link of a second or less at every checkpoint."""
    return mini_track(
        model=str(lm),
        layers=[1],
        d_sae=64,
        schedule=[{"first": 0, "last": links - 1, "tokens": LINK_TOKENS}],
        corpus={
            "dataset": "mini",
            "context_size": 32,
            "train_tokens": 16_384,
            "held_out_tokens": 2_048,
            "analysis_tokens": 2_048,
        },
        evaluation={"matched_l0": 8, "ce_tokens": 1_024},
        buffer_tokens=2_048,
    )


def _timed_chain(track: dict[str, Any], settings: Settings) -> dict[str, Any]:
    prepared = prepare(load_config(track), settings)
    registry_s, link_s = [], []
    for pending in pending_checkpoints(prepared.track, prepared.source, prepared.context):
        with timed(prepared.context.device) as timing:
            pending.train()
        spent_s = timing.spent_s()
        registry_s.append(spent_s["registry"])
        link_s.append(sum(spent_s.values()))
    began_s = time.perf_counter()
    for chain in prepared.track.chains:
        update_chain_page(prepared.registry, chain)
    return {
        "registry_s": registry_s,
        "link_s": link_s,
        "finish_s": time.perf_counter() - began_s,
        "resident_bytes": resident_bytes("VmRSS"),
    }


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    Path(given["answer"]).write_text(json.dumps(main(given)))
