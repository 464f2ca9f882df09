"""The flow and its deployments: what a user of Prefect sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from flows.analyze import analyze
from flows.compare import compare
from flows.explain import explain
from flows.parameters import parameters_of
from flows.results import results
from flows.sweep import ONE, sweep
from flows.track import track
from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Chain
from saetrack.chain.presets import KINDS, describe_preset, load_preset, preset_names
from saetrack.registry import Registry
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK

DEPLOYMENTS = Path(__file__).parent.parent.parent / "deployments" / "prefect.yaml"
FLOWS: dict[str, Flow[Any, Any]] = {
    "track": track,
    "compare": compare,
    "analyze": analyze,
    "sweep": sweep,
    "explain": explain,
    "results": results,
}
WITHOUT_PRESETS: dict[str, dict[str, Any]] = {
    "explain/mini": {"chain": "mini.L2.forward.s0"},
    "results/all": {},
}


def run_flow(parameters: dict[str, Any]) -> State[Any]:
    state: State[Any] = track(**parameters, return_state=True)
    return state


def runs_of(state: State[Any]) -> tuple[FlowRun, list[TaskRun]]:
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(flow_run_id)
        wanted = FlowRunFilter.model_validate({"id": {"any_": [flow_run_id]}})
        return flow_run, client.read_task_runs(flow_run_filter=wanted)


@pytest.mark.usefixtures("harness", "environment")
def test_a_track_is_one_run_and_a_rerun_changes_nothing(
    settings: Settings, chain: Chain, tmp_path: Path
) -> None:
    state = run_flow(NANO_TRACK)
    assert state.is_completed()
    assert state.message == f"4 links trained, 4 registered as {chain.name}"
    flow_run, _ = runs_of(state)
    assert flow_run.name == "nano layers [1]"
    registered = Registry(settings).versions(chain)
    nano = tmp_path / "nano.yaml"
    nano.write_text(yaml.safe_dump(NANO_TRACK))
    again = run_flow({"preset": str(nano)})
    assert again.message == f"0 links trained, 4 registered as {chain.name}"
    assert Registry(settings).versions(chain) == registered


@pytest.mark.usefixtures("harness", "environment")
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"layers": [9]}, "layers=[9]: nano has layers 0 to 1"),
        ({"model": "pythia-410m-deduped"}, "EleutherAI/pythia-410m-deduped at step0 and 4 more"),
        ({"preset": "pythia-9b"}, "track='pythia-9b': no such preset; there are mini, mini-"),
    ],
)
def test_a_mistake_fails_the_run_with_one_line(change: dict[str, Any], line: str) -> None:
    state = run_flow({**NANO_TRACK, **change})
    assert state.is_failed()
    assert line in str(state.message)
    assert "\n" not in str(state.message)
    assert line in state.name  # what `--watch` prints


@pytest.mark.usefixtures("harness", "environment")
def test_results_of_nothing_are_one_line() -> None:
    state: State[Any] = results(return_state=True)
    assert state.is_failed() and "no registry" in str(state.message)
    assert "\n" not in str(state.message)


def deployments() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(DEPLOYMENTS.read_text())["deployments"]
    return found


@pytest.mark.parametrize("deployment", deployments(), ids=lambda d: f"{d['tags'][0]}-{d['name']}")
def test_every_deployment_names_its_preset_and_is_scheduled(deployment: dict[str, Any]) -> None:
    _, _, kind = deployment["entrypoint"].partition(":")
    name = deployment["name"]
    (schedule,) = deployment["schedules"]
    CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    assert schedule["slug"] == "nightly"
    validate(deployment["parameters"], FLOWS[kind].parameters.model_dump(), raise_on_error=True)
    if f"{kind}/{name}" in WITHOUT_PRESETS:
        assert deployment["parameters"] == WITHOUT_PRESETS[f"{kind}/{name}"]
    elif f"{kind}/{name}" != ONE:
        assert deployment["parameters"] == {"preset": name}
        assert deployment["concurrency_limit"]["limit"] == 1
        assert deployment["description"] == describe_preset(kind, name)  # type: ignore[arg-type]


def test_every_preset_is_deployed() -> None:
    found = {(d["entrypoint"].partition(":")[2], d["name"]) for d in deployments()}
    assert found - {("track", "one"), ("explain", "mini"), ("results", "all")} == {
        (kind, name) for kind in KINDS for name in preset_names(kind)
    }


def test_a_field_beside_a_preset_overrides_it() -> None:
    given = {"preset": "pythia-410m", "layers": [8], "corpus": {"context_size": 256}, "seed": None}
    values = parameters_of("track", given)
    base = load_preset("track", "pythia-410m")
    assert values.pop("layers") == [8]
    assert values.pop("corpus") == {**base.pop("corpus"), "context_size": 256}
    del base["layers"]
    assert values == base
    validate(given, track.parameters.model_dump(), raise_on_error=True)
    with pytest.raises(ValidationError, match="d_sae"):
        validate({"d_sae": 0}, track.parameters.model_dump(), raise_on_error=True)


def test_prefect_knows_every_field_of_the_config() -> None:
    schema = parameter_schema(track)
    assert list(schema.properties) == ["preset", *TrackConfig.model_fields]
    assert schema.required == []
    assert {"type": "integer", "exclusiveMinimum": 0} in schema.properties["d_sae"]["anyOf"]
