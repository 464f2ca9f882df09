"""The flow and its deployments: what a user of Prefect sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.utilities.callables import parameter_schema

from flows.parameters import DEPLOYMENTS, deployed_parameters
from flows.sweep import ONE
from flows.terminal import run_here
from flows.track import track
from saetrack.analysis.pipeline.config import load_analyze_config, load_compare_config
from saetrack.chain.config import TrackConfig, load_config
from saetrack.chain.plan import Chain
from saetrack.chain.sweep import load_sweep_config
from saetrack.registry import Registry
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK

PAPER = {
    # deployment: (model, layer, d_sae, corpus, links, last checkpoint index)
    "pythia-160m": ("pythia-160m-deduped", 4, 49_152, "pile", 30, 153),
    "pythia-410m": ("pythia-410m-deduped", 4, 65_536, "pile", 29, 153),
    "pythia-1.4b": ("pythia-1.4b-deduped", 3, 131_072, "pile", 30, 153),
    "stanford-gpt2-small-a": ("stanford-gpt2-small-a", 5, 49_152, "openwebtext", 46, 608),
    "stanford-gpt2-medium-a": ("stanford-gpt2-medium-a", 6, 65_536, "openwebtext", 46, 608),
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
def test_a_track_is_one_run_and_a_rerun_changes_nothing(settings: Settings, chain: Chain) -> None:
    state = run_flow(NANO_TRACK)
    assert state.is_completed()
    assert state.message == f"4 links trained, 4 registered as {chain.name}"
    flow_run, _ = runs_of(state)
    assert flow_run.name == "nano layers [1]"
    registered = Registry(settings).versions(chain)
    again = run_flow(NANO_TRACK)
    assert again.message == f"0 links trained, 4 registered as {chain.name}"
    assert Registry(settings).versions(chain) == registered


@pytest.mark.usefixtures("harness", "environment")
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"layers": [9]}, "layers=[9]: nano has layers 0 to 1"),
        ({"model": "pythia-410m-deduped"}, "EleutherAI/pythia-410m-deduped at step0 and 4 more"),
    ],
)
def test_a_mistake_fails_the_run_with_one_line(change: dict[str, Any], line: str) -> None:
    state = run_flow({**NANO_TRACK, **change})
    assert state.is_failed()
    assert line in str(state.message)
    assert "\n" not in str(state.message)
    assert line in state.name  # what `--watch` prints


@pytest.mark.parametrize("deployment", PAPER)
def test_deployments_are_the_papers(deployment: str) -> None:
    model, layer, d_sae, dataset, n_links, last = PAPER[deployment]
    config = load_config(deployed_parameters("track", deployment))
    assert (config.model, config.layers, config.d_sae) == (model, (layer,), d_sae)
    assert config.corpus.dataset == dataset
    assert config.corpus.context_size == 128
    budgets = dict(config.budgets(1_000))
    assert len(budgets) == n_links
    assert (min(budgets), max(budgets)) == (0, last)
    assert budgets[0] == 300_000_000
    assert {budgets[index] for index in range(1, 5)} == {5_000_000}
    assert {tokens for index, tokens in budgets.items() if index > 4} == {15_000_000}
    assert config.loss.l1_coefficient == 8e-5
    assert (config.first_link.learning_rate, config.first_link.warmup_steps) == (4e-4, 5000)
    assert (config.later_links.learning_rate, config.later_links.warmup_steps) == (4e-5, 3)
    assert (config.batch_tokens, config.buffer_tokens) == (4096, 524_288)


def test_the_main_chain_has_the_papers_steps_and_cost() -> None:
    config = load_config(deployed_parameters("track", "pythia-410m"))
    expected = [*range(12), *range(13, 32, 2), *range(33, 154, 20)]
    assert [index for index, _ in config.budgets(1_000)] == expected
    assert sum(tokens for _, tokens in config.budgets(1_000)) == 680_000_000


def test_the_mini_deployment_tracks_every_checkpoint() -> None:
    config = load_config(deployed_parameters("track", "mini"))
    assert [index for index, _ in config.budgets(1_000)] == list(range(29))


@pytest.mark.parametrize("deployment", ["mini", "pythia-410m"])
def test_reverse_deployments_visit_the_same_checkpoints_backward(deployment: str) -> None:
    forward = load_config(deployed_parameters("track", deployment))
    reverse = load_config(deployed_parameters("track", f"{deployment}-reverse"))
    assert (forward.direction, reverse.direction) == ("forward", "reverse")
    (ahead, back) = (config.budgets(1_000) for config in (forward, reverse))
    assert [index for index, _ in back] == [index for index, _ in ahead][::-1]
    assert back[0][1] == ahead[0][1]


def deployments() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(DEPLOYMENTS.read_text())["deployments"]
    return found


@pytest.mark.parametrize("deployment", deployments(), ids=lambda d: f"{d['tags'][0]}-{d['name']}")
def test_every_deployment_is_sound_and_scheduled(
    deployment: dict[str, Any], tmp_path: Path
) -> None:
    parameters = dict(deployment["parameters"])
    if "live" in deployment["tags"]:
        parameters["model"] = str(tmp_path)  # a folder that its training run makes
    _, _, flow = deployment["entrypoint"].partition(":")
    loads: dict[str, Any] = {
        "track": load_config,
        "compare": load_compare_config,
        "analyze": load_analyze_config,
        "sweep": load_sweep_config,
    }
    loads[flow](parameters)
    (schedule,) = deployment["schedules"]
    CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    assert schedule["slug"] == "nightly"
    if f"{flow}/{deployment['name']}" != ONE:
        assert deployment["concurrency_limit"]["limit"] == 1


def test_a_track_of_several_layers_is_one_pass_per_checkpoint() -> None:
    config = load_config(deployed_parameters("track", "mini-layers"))
    assert config.layers == (1, 2, 3)


def test_prefect_knows_every_field_of_the_config() -> None:
    schema = parameter_schema(track)
    assert set(schema.properties) == set(TrackConfig.model_fields)
    assert set(schema.required) == {"model", "layers", "d_sae", "schedule"}
    assert schema.properties["d_sae"]["exclusiveMinimum"] == 0


def test_an_unknown_deployment_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(track, load_config, "pythia-9b") == 2
    said = capsys.readouterr().out.strip()
    assert "deployment='pythia-9b': unknown; there are mini, mini-reverse, one" in said
    assert "\n" not in said


def test_bad_settings_stop_the_track_before_any_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SAETRACK_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("SAETRACK_DEVICE", "tpu")
    assert run_here(track, load_config, "mini") == 2
    assert "SAETRACK_DEVICE='tpu'" in capsys.readouterr().out
