"""Saved views: of the form that MLflow's pages read, on every experiment that holds chains."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from saetrack.chain.plan import Chain
from saetrack.registry import Registry, views
from saetrack.training.chain_page import update_chain_page
from saetrack.utils.settings import Settings
from tests.support.site import free_port, kill_tree, wait_for

NAMES = ["Chains", "Links over tokens", "Chain against conventional"]
TAG_CHARACTERS = 5000  # what MLflow's column holds


def client_of(settings: Settings) -> MlflowClient:
    return MlflowClient(settings.tracking_uri, settings.tracking_uri)


def tags_of(settings: Settings) -> dict[str, str]:
    experiment = client_of(settings).get_experiment_by_name("nano")
    assert experiment is not None
    return dict(experiment.tags)


def state_of(envelope: str) -> dict[str, Any]:
    """As MLflow's pages read it."""
    head, text = json.loads(envelope)["state"].split(";")
    assert head == "deflate"
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(text)))
    return state


def test_the_states_are_of_the_form_that_mlflow_reads() -> None:
    saved = {k: v for k, v in views.experiment_tags("7").items() if k.startswith(views.TAG)}
    envelopes = [json.loads(value) for value in saved.values()]
    assert [envelope["name"] for envelope in envelopes] == NAMES
    created = [envelope["createdAt"] for envelope in envelopes]
    assert created == sorted(created, reverse=True), "the first view is the first of the menu"
    for value in saved.values():
        assert len(value) < TAG_CHARACTERS
        state = state_of(value)
        assert state["searchFilter"] == "tags.kind = 'chain'"
        assert "metrics.`explained_variance`" in state["selectedColumns"]
        assert set(state["columnWidths"]) == set(state["columnOrder"])
        assert all(re.fullmatch(r"(metrics|tags)\.`\w+`", c) for c in state["selectedColumns"])
        sections = {section["uuid"] for section in state["compareRunSections"] or []}
        charts = state["compareRunCharts"] or []
        assert {chart["metricSectionId"] for chart in charts} <= sections
        assert len({chart["uuid"] for chart in charts}) == len(charts)


def test_every_column_and_chart_has_values(
    registry: Registry, module_settings: Settings, chain: Chain
) -> None:
    client = client_of(module_settings)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.kind = 'chain'")
    known = {f"metrics.`{name}`" for name in run.data.metrics}
    known |= {f"tags.`{name}`" for name in run.data.tags}
    known |= {"metrics.`ce_loss_recovered`"}  # undefined where the LM is no better than no LM
    assert set(views.COLUMNS) <= known
    assert {f"metrics.`{name}`" for name in views.CHART_METRICS} <= known
    curve = client.get_metric_history(run.info.run_id, "chain_tokens")
    assert [point.value for point in curve] == [8_192, 12_288, 16_384, 20_480]


def test_an_old_registry_gets_views_once_and_what_people_changed_stays(
    registry: Registry, module_settings: Settings, chain: Chain
) -> None:
    client = client_of(module_settings)
    whole = tags_of(module_settings)
    keys = {views.TAG + view.key for view in views.views()}
    assert keys <= set(whole)
    assert whole["mlflow.experimentKind"] == "custom_model_development"
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    missing = views.TAG + "saetrack-links"
    client.delete_experiment_tag(experiment.experiment_id, missing)
    client.set_experiment_tag(experiment.experiment_id, views.NOTE_TAG, "mine")
    update_chain_page(registry, chain)
    after = tags_of(module_settings)
    assert after[views.NOTE_TAG] == "mine"
    assert state_of(after[missing]) == state_of(whole[missing])
    others = set(whole) - {missing, views.NOTE_TAG}
    assert {name: after[name] for name in others} == {name: whole[name] for name in others}
    client.set_experiment_tag(experiment.experiment_id, views.NOTE_TAG, whole[views.NOTE_TAG])


@pytest.mark.parametrize("is_mine", [False, True])
def test_a_view_of_an_earlier_release_gets_todays_columns(
    is_mine: bool, registry: Registry, module_settings: Settings, chain: Chain
) -> None:
    client = client_of(module_settings)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    key = views.TAG + "saetrack-chains"
    today = tags_of(module_settings)[key]
    old = json.loads(json.dumps(state_of(today)).replace("tags.`hook_name`", "tags.`layer`"))
    if is_mine:
        old["selectedColumns"] = ["tags.`layer`"]
    packed = base64.b64encode(zlib.compress(json.dumps(old).encode())).decode()
    envelope = json.dumps({**json.loads(today), "state": f"deflate;{packed}"})
    client.set_experiment_tag(experiment.experiment_id, key, envelope)
    update_chain_page(registry, chain)
    assert state_of(tags_of(module_settings)[key]) == (old if is_mine else state_of(today))
    client.set_experiment_tag(experiment.experiment_id, key, today)


def test_addresses_name_the_view(registry: Registry, module_settings: Settings) -> None:
    addresses = views.view_addresses("1")
    assert list(addresses) == NAMES
    for address in addresses.values():
        assert address.startswith("#/experiments/1/runs?")
        key = re.search(r"viewStateShareKey=([a-z-]+)", address)
        assert key is not None
        assert views.TAG + key[1] in tags_of(module_settings)


@pytest.fixture
def server(module_settings: Settings, tmp_path: Path) -> Iterator[str]:
    """MLflow's own server on the registry."""
    import requests

    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", module_settings.tracking_uri]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return requests.get(f"{address}/health", timeout=2).ok
            except requests.RequestException:
                return False

        wait_for(answers, "MLflow's server", 300)
        yield address
    finally:
        kill_tree(process, 9)


@pytest.mark.browser
def test_a_browser_shows_a_chains_metrics(
    browser: Any, registry: Registry, chain: Chain, server: str
) -> None:
    """The note of an experiment's first page leads to the views, and each shows numbers."""
    explained_variance = registry.table(chain)["explained_variance"].iloc[-1]
    patience_ms = 180_000

    def check(page: Any, name: str) -> None:
        page.get_by_text("1 matching run").wait_for(timeout=patience_ms)
        page.get_by_role("link", name=chain.name).first.wait_for(timeout=patience_ms)
        if name == "Chains":
            page.get_by_text(str(explained_variance)[:7]).first.wait_for(timeout=patience_ms)
        else:  # axes of the charts, with the chain in their legends
            page.locator("svg.main-svg .scatterlayer .point").first.wait_for(
                state="attached", timeout=patience_ms
            )
            page.get_by_text(f"{chain.name} (explained_variance)").first.wait_for(
                timeout=patience_ms
            )

    with browser.new_context(viewport={"width": 1600, "height": 900}) as context:
        page = context.new_page()
        page.goto(f"{server}/#/experiments")
        page.get_by_test_id("experiment-list-item").get_by_text("nano", exact=True).click(
            timeout=patience_ms
        )
        for name in NAMES:
            link = page.locator(f'a:text-is("{name}")')
            link.wait_for(state="attached", timeout=patience_ms)
            with context.expect_page() as opened:
                link.dispatch_event("click")  # a hint of MLflow's may lie over it
            check(opened.value, name)
            opened.value.close()
