"""A sweep: which tracks it makes, and what they run on."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from flows import sweep as flow
from saetrack.chain.sweep import load_sweep_config
from saetrack.registry import Registry
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK

SHORT: dict[str, Any] = {
    **NANO_TRACK,
    "schedule": [{"first": 0, "last": 1, "tokens": 1_024}],
}
BACK = [{"first": 5, "last": 3, "tokens": 1_024}]


def test_a_sweep_is_every_combination() -> None:
    over = {"seed": [0, 1, 2], "layers": [[0], [1]], "schedule": [SHORT["schedule"], BACK]}
    tracks = load_sweep_config({"track": SHORT, "over": over}).tracks()
    made = [(one.seed, one.layers, one.direction) for one in tracks]
    directions = ("forward", "reverse")
    assert made == [(s, (n,), d) for s in (0, 1, 2) for n in (0, 1) for d in directions]
    assert {one.d_sae for one in tracks} == {SHORT["d_sae"]}, "the rest is the track's"


@pytest.mark.parametrize(
    ("over", "line"),
    [
        ({"sead": [0, 1]}, "sead: no field of a track; did you mean seed"),
        ({"seed": [0, "one"]}, "seed='one'"),
        ({"seed": []}, "over.seed"),
        ({"model": ["nano", "gpt-9"]}, "model='gpt-9'"),
    ],
)
def test_a_bad_combination_is_one_line_before_any_run(over: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        load_sweep_config({"track": SHORT, "over": over}).require_lms()
    assert "\n" not in str(caught.value)


def test_a_missing_task_runner_is_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prefect_ray", None)
    with pytest.raises(UserError, match=r"pip install 'saetrack\[ray\]'"):
        flow.task_runner(settings.model_copy(update={"runner": "ray"}))


@pytest.mark.usefixtures("harness", "environment")
@pytest.mark.parametrize("runner", ["here", "dask", "ray"])
def test_a_sweep_trains_every_track(
    runner: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"prefect_{runner}"
    if runner != "here" and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is an optional extra that is not installed")
    monkeypatch.setenv("SAETRACK_RUNNER", runner)
    state = flow.sweep(track=SHORT, over={"seed": [0, 1]}, return_state=True)
    assert state.message == "2 tracks are whole"
    registry = Registry(settings)
    names = sorted(registry.chains()["name"])
    assert [name.split(".")[3] for name in names] == ["s0", "s1"]
    assert all(registry.pull(name, alias="final").version == 2 for name in names)


@pytest.mark.usefixtures("harness", "environment")
def test_workers_that_are_not_deployed_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAETRACK_RUNNER", "workers")
    state = flow.sweep(track=SHORT, over={"seed": [0, 1]}, return_state=True)
    assert "track/one: not deployed on this server; `make deploy` does it" in str(state.message)
