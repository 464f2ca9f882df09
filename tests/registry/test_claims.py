"""Claims under rivalry: whatever the delays of the registry's answers, one holder at a time."""

from __future__ import annotations

import copy
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from saetrack.registry import claims

IDENTITY = "0123"


class SlowRegistry:
    """The part of MLflow's client that claims need; every request takes its time, both ways."""

    def __init__(self, seed: int, delay_s: float) -> None:
        self._runs: dict[str, Any] = {}
        self._chance = random.Random(seed)
        self._delay_s = delay_s
        self._lock = threading.Lock()

    def _travel(self) -> None:
        time.sleep(self._chance.random() ** 3 * self._delay_s)

    def _request(self, act: Any) -> Any:
        self._travel()
        with self._lock:
            answer = copy.deepcopy(act())
        self._travel()
        return answer

    def create_run(self, experiment_id: str, run_name: str, tags: dict[str, str]) -> Any:
        run_id = f"{self._chance.random()}"
        info = SimpleNamespace(
            run_id=run_id,
            status="RUNNING",
            lifecycle_stage="active",
            # Machines' clocks differ.
            start_time=int(time.time() * 1e3 + self._chance.uniform(-1e4, 1e4)),
        )
        run = SimpleNamespace(info=info, data=SimpleNamespace(tags=dict(tags)))
        return self._request(lambda: self._runs.setdefault(run_id, run))

    def search_runs(self, *_: Any) -> list[Any]:
        found: list[Any] = self._request(lambda: list(self._runs.values()))
        return found

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self._request(lambda: self._runs[run_id].data.tags.update({key: value}))

    def delete_run(self, run_id: str) -> None:
        self._request(lambda: self._runs.pop(run_id))

    def search_model_versions(self, *_: Any) -> list[Any]:
        return []


@pytest.mark.parametrize("seed", range(6))
def test_rivals_never_hold_a_claim_together(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LOOK_S", 0.005)
    registry: Any = SlowRegistry(seed, delay_s=0.04)
    holders: list[int] = []
    held_at_once, turns = [], []
    give_up_s = time.monotonic() + 20

    def contend(number: int) -> None:
        while number not in turns and time.monotonic() < give_up_s:
            run_id = claims.take_claim(registry, "1", IDENTITY, "link", {"identity": IDENTITY})
            if run_id is not None:
                holders.append(number)
                time.sleep(0.01)
                held_at_once.append(len(holders))
                holders.remove(number)
                registry.delete_run(run_id)
                turns.append(number)
            time.sleep(random.Random(seed * 100 + number + len(turns)).uniform(0, 0.02))

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(contend, number) for number in range(6)]:
            done.result(timeout=30)
    assert sorted(turns) == list(range(6)), "everyone's turn comes"
    assert set(held_at_once) == {1}, "two held the claim at the same moment"


def test_what_the_dead_left_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Any = SlowRegistry(0, delay_s=0.0)
    long_ago = {"identity": IDENTITY, claims.OWNER: "elsewhere/boot 1@2.00", claims.HEARTBEAT: "0"}
    dead = registry.create_run("1", "link", {**long_ago, claims.HELD: "yes"})
    ours = claims.take_claim(registry, "1", IDENTITY, "link", {"identity": IDENTITY})
    assert ours is not None
    assert [run.info.run_id for run in registry.search_runs()] == [ours]
    assert ours != dead.info.run_id
