"""A long chain of tiny links in a real registry: seconds in the registry, link by link."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.rounds import resident_bytes
from saetrack.chain.config import load_config
from saetrack.chain.link_store import Recorder, TrainedLink
from saetrack.chain.plan import Chain, CheckpointJob, Link
from saetrack.lm.catalog.models import find_model
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.embedded.publish import train_into_folder
from saetrack.registry import Registry
from saetrack.sae.warm_start import Parent
from saetrack.training.chain_page import update_chain_page
from saetrack.training.checkpoint import TrainingContext, train_checkpoint
from saetrack.training.loop import train_track
from saetrack.training.prepare import prepare
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK

LINK_TOKENS = 2048


@dataclass
class Stopwatch:
    """Adds up seconds while it is held."""

    seconds: float = 0.0
    _began_s: float = field(default=0.0, init=False)

    def __enter__(self) -> None:
        self._began_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began_s


class TimedStore:
    """The registry as a chain knows it (saetrack.training.link.LinkStore), with a stopwatch around it."""

    def __init__(self, registry: Registry, watch: Stopwatch) -> None:
        self._registry = registry
        self._watch = watch

    def versions(self, chain: Chain) -> dict[str, int]:
        with self._watch:
            return self._registry.versions(chain)

    def adopt(self, chain: Chain, link: Link) -> int | None:
        with self._watch:
            return self._registry.adopt(chain, link)

    def parent(self, chain: Chain, link: Link) -> Parent:
        with self._watch:
            return self._registry.parent(chain, link)

    def claim(self, chain: Chain, link: Link) -> Recorder | None:
        with self._watch:
            claimed = self._registry.claim(chain, link)
        return None if claimed is None else TimedRecorder(claimed, self._watch)


class TimedRecorder(AbstractContextManager["TimedRecorder"]):
    """A claimed link's recorder, with the same stopwatch."""

    def __init__(self, recorder: Recorder, watch: Stopwatch) -> None:
        self._recorder = recorder
        self._watch = watch

    def __enter__(self) -> Self:
        with self._watch:
            self._recorder.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._watch:
            self._recorder.__exit__(kind, error, trace)

    def log(self, metrics: dict[str, float], done_tokens: int) -> None:
        with self._watch:
            self._recorder.log(metrics, done_tokens)

    def register(self, trained: TrainedLink) -> int:
        with self._watch:
            return self._recorder.register(trained)


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds per link, in the registry and in all, and of the chain's page at the end."""
    links = job["links"]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        spec = replace(find_model("nano"), lm_steps=tuple(range(links)))
        train_into_folder(spec, place / "nano")
        track = {
            **NANO_TRACK,
            "model": str(place / "nano"),
            "schedule": [{"first": 0, "last": links - 1, "tokens": LINK_TOKENS}],
        }
        settings = Settings(
            tracking_uri=f"sqlite:///{place}/mlflow.db",
            artifact_dir=place / "artifacts",
            cache_dir=place / "cache",
            device="cpu",
        )
        return _timed_chain(track, settings)


def _timed_chain(track: dict[str, Any], settings: Settings) -> dict[str, Any]:
    ready = prepare(load_config(track), settings)
    watch = Stopwatch()
    training_context = replace(ready.context, store=TimedStore(ready.registry, watch))
    registry_s, link_s = [], []

    def timed(job: CheckpointJob, ahead: Ahead, training_context: TrainingContext) -> None:
        watch.seconds = 0.0
        began_s = time.perf_counter()
        train_checkpoint(job, ahead, training_context)
        link_s.append(time.perf_counter() - began_s)
        registry_s.append(watch.seconds)

    train_track(ready.track, ready.source, training_context, timed)
    began_s = time.perf_counter()
    for chain in ready.track.chains:
        update_chain_page(ready.registry, chain)
    return {
        "registry_s": registry_s,
        "link_s": link_s,
        "finish_s": time.perf_counter() - began_s,
        "resident_bytes": resident_bytes("VmRSS"),
    }


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    Path(given["answer"]).write_text(json.dumps(main(given)))
