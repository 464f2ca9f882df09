"""`make kills`: twenty SIGKILLs at random moments of a whole track over two layers.

The track is started again after each, and in the end the registry is held against that of an
undisturbed track: versions, weights, held-out metrics, runs.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.nano import NANO_TRACK

TRACK: dict[str, Any] = {
    **NANO_TRACK,
    "layers": [0, 1],
    "schedule": [
        {"first": 0, "last": 0, "tokens": 65_536},
        {"first": 1, "last": 5, "tokens": 32_768},
    ],
    "corpus": {**NANO_TRACK["corpus"], "train_tokens": 65_536},
    "save_every_s": 0.2,
}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def train() -> None:
    """The track, in the registry that the environment names."""
    import logging

    from saetrack.chain.config import load_config
    from saetrack.training.chain_page import update_chain_page
    from saetrack.training.loop import train_track
    from saetrack.training.prepare import prepare
    from saetrack.utils.settings import load_settings

    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
    logging.getLogger("saetrack").setLevel(logging.INFO)
    ready = prepare(load_config(TRACK), load_settings())
    train_track(ready.track, ready.source, ready.context)
    for chain in ready.track.chains:
        update_chain_page(ready.registry, chain)


class Child:
    """The track in a process of its own."""

    def __init__(self, registry: Path, cache: Path) -> None:
        self.lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.checks.random_kills", "--train"],
            env={**os.environ, **environment(registry, cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line.strip())
            self.lines.put(line)
        self.lines.put("")

    def wait_until_it_trains(self) -> None:
        while line := self.lines.get():
            if "links to train" in line:
                return

    def kill_after(self, delay_s: float) -> bool:
        """Whether it still ran."""
        time.sleep(delay_s)
        if self._process.poll() is not None:
            return False
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        return True

    def wait(self) -> int:
        return self._process.wait()


def environment(registry: Path, cache: Path) -> dict[str, str]:
    return {
        "SAETRACK_TRACKING_URI": f"sqlite:///{registry}/mlflow.db",
        "SAETRACK_ARTIFACT_DIR": str(registry / "artifacts"),
        "SAETRACK_CACHE_DIR": str(cache),
        "SAETRACK_DEVICE": "cpu",
        "HF_HUB_OFFLINE": "1",
    }


def contents(registry: Path, cache: Path) -> dict[str, Any]:
    """Everything of a registry that must not depend on kills."""
    from mlflow import MlflowClient

    from saetrack.registry import Registry
    from saetrack.utils.settings import Settings

    uri = f"sqlite:///{registry}/mlflow.db"
    client = MlflowClient(tracking_uri=uri)
    settings = Settings(
        tracking_uri=uri, artifact_dir=registry / "artifacts", cache_dir=cache, device="cpu"
    )
    (experiment,) = [e for e in client.search_experiments() if e.name == "nano"]
    runs = client.search_runs([experiment.experiment_id])
    found: dict[str, Any] = {"runs": sorted((r.info.run_name, r.info.status) for r in runs)}
    for model in client.search_registered_models():
        for version in client.search_model_versions(f"name = '{model.name}'"):
            pulled = Registry(settings).pull(model.name, version=int(version.version))
            history = Registry(settings).history(model.name, int(version.version))
            weights = {n: t.numpy().tobytes() for n, t in pulled.sae.state_dict().items()}
            times = ["train_s", "tokens_per_s"]
            found[f"{model.name} {version.version}"] = (
                version.tags["identity"],
                weights,
                history.drop(columns=times).to_csv(),
            )
    return found


def standing(registry: Path, cache: Path) -> str:
    """How far a track had come when it was killed."""
    # To write, too: the journal that a kill has left is rolled back by the next who opens it.
    with closing(sqlite3.connect(registry / "mlflow.db")) as database:
        (links,) = database.execute("select count(*) from model_versions").fetchone()
        (open_runs,) = database.execute(
            "select count(*) from runs where status = 'RUNNING' and lifecycle_stage = 'active'"
        ).fetchone()
    states = len(list((cache / "states").glob("*.safetensors")))
    return f"{links:2d} links registered, {open_runs} open runs, {states} saved states"


def killed_round(registry: Path, cache: Path, delays_s: list[float]) -> int:
    """Kill and start again until no delay is left or the track ends by itself; kills done."""
    for number, delay_s in enumerate(delays_s):
        child = Child(registry, cache)
        child.wait_until_it_trains()
        if not child.kill_after(delay_s):
            say("the track ended by itself")
            return number
        say(f"  killed {delay_s:4.1f} s into the training; {standing(registry, cache)}")
    child = Child(registry, cache)
    assert child.wait() == 0, child.said[-3:]
    return len(delays_s)


def main(kills: int, seed: int) -> int:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        whole, cache = Path(name) / "whole", Path(name) / "cache"
        undisturbed = Child(whole, cache)
        undisturbed.wait_until_it_trains()
        began_s = time.monotonic()
        assert undisturbed.wait() == 0, undisturbed.said[-3:]
        took_s = time.monotonic() - began_s
        expected = contents(whole, cache)
        say(f"undisturbed: {len(expected) - 1} links in {took_s:.1f} s")
        done = rounds = failures = 0
        while done < kills:
            rounds += 1
            say(f"round {rounds}, a new registry")
            registry = Path(name) / f"round-{rounds}"
            delays_s = [chance.uniform(0.0, took_s / 4) for _ in range(kills - done)]
            done += killed_round(registry, cache, delays_s)
            left = [path.name for path in cache.rglob(".partial*")]
            left += [path.name for path in (cache / "states").glob("*")]
            same = contents(registry, cache) == expected
            failures += bool(left) or not same
            say(f"after {done} kills: registries are equal: {same}; left over: {left or 'nothing'}")
        return min(failures, 1)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--train", action="store_true")
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    if given.train:
        train()
    else:
        sys.exit(main(given.kills, given.seed))
