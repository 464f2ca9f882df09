"""The explorer over a real registry: cards, own text, and the command."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from mlflow import MlflowClient
from starlette.testclient import TestClient
from typer.testing import CliRunner

from saetrack.analysis.pipeline.analyze import analyze_chains, open_analyses
from saetrack.analysis.pipeline.chain_view import ChainView
from saetrack.analysis.pipeline.config import load_analyze_config
from saetrack.chain.plan import Chain, Track
from saetrack.cli.main import app
from saetrack.explorer import registry_chains, static_site
from saetrack.explorer.addresses import Servers
from saetrack.explorer.app import make_app
from saetrack.explorer.registry_chains import RegistryChains
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.registry.cards import ChainCard, ChainCards
from saetrack.registry.lives import LIVES
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.planted_analysis import QUESTIONS, without_umap
from tests.support.running import run_jobs, set_environment

ROOT = Path(__file__).parent.parent.parent
ALONE = {**QUESTIONS, "controls": {}}


@pytest.fixture
def card(registry: Registry, module_settings: Settings) -> ChainCard:
    (found,) = ChainCards(module_settings).all()
    return found


def test_a_card_has_what_the_chain_has(card: ChainCard, chain: Chain, registry: Registry) -> None:
    table = registry.links(chain.name)
    assert (card.name, card.lm, card.hook, card.layer) == (chain.name, "nano", "resid_pre.1", 1)
    assert (card.direction, card.seed, card.architecture) == (
        "forward",
        0,
        chain.config.sae.architecture,
    )
    assert (card.registered, card.planned, card.d_sae) == (4, 4, chain.config.d_sae)
    assert not card.is_training
    assert card.analysis is None
    assert card.links["lm_step"] == table["lm_step"].tolist()
    for name in ("explained_variance", "l0", "dead", "ce_loss_recovered", "nats_lost"):
        there = [None if np.isnan(value) else value for value in table[name]]
        assert card.links[name] == there


def test_a_chain_grows_while_it_is_looked_at(
    settings: Settings, track: Track, source: CheckpointSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = ChainCards(settings)
    assert cards.all() == []
    registry = Registry(settings)
    run_jobs(track.jobs[:1], source, registry)
    assert [card.registered for card in cards.all()] == [1]
    chain, link = track.chains[0], track.chains[0].links[1]
    claimed = registry.claim(chain, link)
    assert claimed is not None
    with contextlib.suppress(KeyboardInterrupt), claimed:
        (training,) = cards.all()
        assert training.is_training
        assert (training.registered, training.planned) == (1, 4)
        raise KeyboardInterrupt
    (over,) = cards.all()
    assert not over.is_training
    run_jobs(track.jobs[1:3], source, registry)
    (grown,) = cards.all()
    assert grown.registered == len(grown.links["lm_step"]) == 3
    assert grown.links["explained_variance"][-1] is not None


def test_an_analysis_is_seen_while_it_is_made(
    module_settings: Settings, registry: Registry, chain: Chain
) -> None:
    cards, client = ChainCards(module_settings), MlflowClient(module_settings.tracking_uri)
    reports = registry.reports

    def seen() -> list[str]:
        return [card.analysing.run_id for card in cards.all() if card.analysing]

    made = chain.lm_name, "made", chain.name
    with contextlib.suppress(KeyboardInterrupt), reports.announced(*made):
        (killed,) = seen()
        machine = client.get_run(killed).data.tags["owner"].split(" ")[0]
        client.set_tag(killed, "owner", f"{machine} {os.getpid()}@0.00")
        assert seen() == [], "its process is no more"
        with reports.announced(*made):
            (anew,) = seen()
            assert anew != killed
            assert client.get_run(killed).info.lifecycle_stage == "deleted"
        raise KeyboardInterrupt
    assert seen() == []
    assert all(card.analysis is None for card in cards.all())


def test_what_did_not_change_is_not_asked_again(
    module_settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = ChainCards(module_settings)
    first = cards.all()
    asked: list[str] = []

    def count(name: str) -> None:
        real = getattr(MlflowClient, name)
        monkeypatch.setattr(
            MlflowClient, name, lambda *a, **k: (asked.append(name), real(*a, **k))[1]
        )

    for name in ("search_registered_models", "get_run", "list_artifacts", "search_runs"):
        count(name)
    assert cards.all() == first
    assert asked == ["search_runs", "search_runs"], "what trains, what was analysed"


def test_a_hook_that_is_gone_and_odd_tags_are_shown_all_the_same(
    settings: Settings, track: Track, source: CheckpointSource
) -> None:
    run_jobs(track.jobs[:2], source, Registry(settings))
    name = track.chains[0].name
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    for tag, value in {"hook_name": "blocks.1.hook_gone", "layer": "x", "seed": "y"}.items():
        client.set_model_version_tag(name, "2", tag, value)
    chains = RegistryChains(settings)
    (card,) = chains.cards()
    assert (card.hook, card.layer, card.seed) == ("blocks.1.hook_gone", None, None)
    web = TestClient(make_app(chains), base_url="http://localhost")
    (shown,) = web.get("/api/home.json").json()["chains"]
    assert shown["hook"] == "blocks.1.hook_gone"
    assert not web.get(f"/api/chains/{name}/chain.json").json()["analysed"]


def test_own_text_is_what_a_notebook_gets(
    registry: Registry, module_settings: Settings, chain: Chain
) -> None:
    chains = RegistryChains(module_settings)
    view = ChainView(registry, chain.name, module_settings)
    for lm_step in (0, 4, 16, 0):
        found = chains.activations(chain.name, "The court rose.", lm_step)
        there = view.activations("The court rose.", lm_step=lm_step)
        np.testing.assert_array_equal(found.to_numpy(), there.to_numpy())
        assert list(found.index) == list(there.index)
    assert len(chains._opened) == 2
    web = TestClient(make_app(chains), base_url="http://localhost")
    asked = {"text": "The court rose.", "lm_steps": [0, 16], "features": 5}
    shown = web.post(f"/api/chains/{chain.name}/text.json", json=asked).json()
    for step in shown["steps"]:
        best = [one["feature"] for one in step["features"][: step["strongest"]]]
        most = view.activations("The court rose.", lm_step=step["lm_step"]).max()
        assert best == most.nlargest(5).index.tolist()
    for lm_step, line in ((5, "has links at [0, 1, 4, 16]"), (-1, "has links at")):
        refused = web.post(
            f"/api/chains/{chain.name}/text.json", json={"text": "a", "lm_steps": [lm_step]}
        )
        assert refused.status_code == 400
        assert line in refused.json()["error"]


def test_of_links_over_one_checkpoint_the_last_one_reads_a_text(
    registry: Registry, module_settings: Settings
) -> None:
    links = [SimpleNamespace(number=n, checkpoint=SimpleNamespace(lm_step=5)) for n in range(3)]
    standing = SimpleNamespace(
        chain=SimpleNamespace(name="still"), links=links, open=lambda one: one
    )
    assert RegistryChains(module_settings)._open(standing, 5).number == 2  # type: ignore[arg-type, attr-defined]


def test_an_lm_that_cannot_be_loaded_is_one_line(
    registry: Registry, module_settings: Settings, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory\nand more lines")

    monkeypatch.setattr("saetrack.analysis.pipeline.registered_chain.RegisteredChain.open", fail)
    with pytest.raises(
        UserError, match="its LM cannot be loaded here: RuntimeError: CUDA"
    ) as caught:
        RegistryChains(module_settings).activations(chain.name, "a", 0)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is not registered"):
        RegistryChains(module_settings).activations("nano", "a", 0)


@pytest.fixture(scope="module")
def analysed(registry: Registry, module_settings: Settings) -> str:
    """The nano chain's name, once it was analysed."""
    with pytest.MonkeyPatch.context() as patch:
        without_umap(patch)
        patch.setattr("saetrack.analysis.pipeline.analyze.draw", lambda inputs, folder: None)
        analyze_chains(load_analyze_config(ALONE), module_settings)
    (name,) = registry.chain_names()
    return name


def test_an_analysed_chain_is_served_and_written(
    analysed: str,
    module_settings: Settings,
    page: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(static_site, "PAGE", page)
    chains = RegistryChains(module_settings)
    web = TestClient(make_app(chains, servers=Servers("5000")), base_url="http://localhost")
    (shown,) = web.get("/api/home.json").json()["chains"]
    assert shown["analysed"]
    assert shown["analysis"]["mlflow"].startswith("http://localhost:5000/#/experiments/")
    run_id = shown["analysis"]["mlflow"].rpartition("/")[2]
    again = open_analyses(load_analyze_config(ALONE), module_settings)
    assert again.runs() == [{"chain": analysed, "run": run_id}]
    tags = MlflowClient(tracking_uri=module_settings.tracking_uri).get_run(run_id).data.tags
    assert f"saetrack explore {analysed}" in tags["mlflow.note.content"]
    manifest = web.get(f"/api/chains/{analysed}/chain.json").json()
    assert [link["lm_step"] for link in manifest["links"]] == [0, 1, 4, 16]
    assert web.get(f"/api/chains/{analysed}/features/0.json").json()["feature"] == 0
    set_environment(module_settings, monkeypatch)
    monkeypatch.chdir(tmp_path)
    command = ["explore", "nano", "--quiet", "--to", "site", "--json", "--features", "40"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert (said["chain"], said["features"]) == (analysed, 40)
    assert 0.5 < said["planned_bytes"] / said["bytes"] < 2
    assert (tmp_path / "site" / "api" / "chains" / analysed / "chain.json").is_file()


def test_a_new_analysis_is_served_without_a_new_start(
    analysed: str,
    module_settings: Settings,
    registry: Registry,
    chain: Chain,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    web = TestClient(make_app(RegistryChains(module_settings)), base_url="http://localhost")
    address = f"/api/chains/{analysed}/chain.json"
    before = web.get(address).json()
    assert web.get(address).json() == before
    lives = shutil.copytree(registry.reports.lives_folder(analysed), tmp_path / LIVES)
    manifest = json.loads((lives / "chain.json").read_text())
    (lives / "chain.json").write_text(json.dumps({**manifest, "notes": ["anew"]}))
    facts = {"kind": "analysis", "identity": "another", "chain": analysed}
    registry.reports.log(chain.lm_name, "another", tmp_path, metrics={}, facts=facts)
    assert web.get(address).json() == before, "the registry is not asked each time"
    monkeypatch.setattr(registry_chains, "LOOKED_S", 0.0)
    after = web.get(address).json()
    assert after["notes"] == ["anew"]
    assert after["analysis"] != before["analysis"]


def test_an_analysis_with_fewer_controls_takes_nothing_away(
    analysed: str,
    module_settings: Settings,
    registry: Registry,
    chain: Chain,
    tmp_path: Path,
) -> None:
    lives = shutil.copytree(registry.reports.lives_folder(analysed), tmp_path / LIVES)
    manifest = json.loads((lives / "chain.json").read_text())

    def log(name: str, *controls: str, release: str = "2, tables 9", versions: str = "[1]") -> None:
        (lives / "chain.json").write_text(json.dumps({**manifest, "notes": [name]}))
        facts = {"kind": "analysis", "identity": name, "chain": analysed, "release": release}
        facts |= {"controls": dict.fromkeys(controls, "a chain"), "versions": versions}
        registry.reports.log(chain.lm_name, name, tmp_path, metrics={}, facts=facts)

    def shown() -> list[str]:
        with registry.reports.of_chain(analysed) as (run_id, _):
            card = ChainCards(module_settings).analysis(analysed)
            assert card is not None and card.run.run_id == run_id
        assert [one.run_id for one in registry.reports.newest("analysis")] == [run_id]
        assert registry.reports.lives_folder(analysed).parts[-3] == run_id
        web = TestClient(make_app(RegistryChains(module_settings)), base_url="http://localhost")
        notes: list[str] = web.get(f"/api/chains/{analysed}/chain.json").json()["notes"]
        return notes

    newer = "Shown is the analysis with the most controls. Newer ones that have fewer, in MLflow: "
    log("of two", "still LM", "second seed")
    assert shown() == ["of two"]
    log("alone")
    assert shown() == ["of two", f"{newer}1."]
    log("of one", "still LM")
    assert shown() == ["of two", f"{newer}2."]
    log("of two others", "jump", "permuted")
    assert shown() == ["of two others"]
    log("of a longer chain", versions="[1, 2]")
    assert shown() == ["of a longer chain"]
    log("of other tables", release="3, tables 10", versions="[1, 2]")
    assert shown() == ["of other tables"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nobody"], "chain='nobody': no such chain is registered"),
        (["--to", "site"], "--to needs the name of a chain"),
        (["nano", "--features", "3"], "are for a static site, with --to"),
        (["nano", "--port", "99999"], "port=99999: must be a number from 0 to 65535"),
        (["nano", "--to", "site"], "was not analysed yet"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    line: str,
    settings: Settings,
    track: Track,
    source: CheckpointSource,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    run_jobs(track.jobs[:1], source, Registry(settings))
    set_environment(settings, monkeypatch)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=line) as caught:
        CliRunner().invoke(app, ["explore", "--quiet", *words], catch_exceptions=False)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.glob("site")) == []


def test_the_command_serves_until_it_is_interrupted(
    registry: Registry, module_settings: Settings, chain: Chain
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        set_environment(module_settings, patch)
        command = [sys.executable, "-m", "saetrack.cli", "explore", "nano", "--no-browser"]
        server = subprocess.Popen(
            [*command, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        watchdog = threading.Timer(60, server.kill)
        watchdog.start()
        assert server.stdout is not None
        address, _, place = server.stdout.readline().strip().partition("#")
        assert place == f"/{chain.name}"
        home = requests.get(f"{address}api/home.json", timeout=20).json()
        assert [one["name"] for one in home["chains"]] == [chain.name]
        port = address.rstrip("/").rpartition(":")[2]
        taken = subprocess.run(
            [*command, "--port", port], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert taken.returncode == 2
        starts, refused = taken.stderr.strip().splitlines()
        assert starts.endswith("opening the registry"), "nobody waits without a word"
        assert refused.startswith(f"error: port={port}: cannot be had")
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=30)
        watchdog.cancel()
        assert server.returncode == 0
        first, last = said.strip().splitlines()
        assert first.endswith("opening the registry")
        assert last.endswith("the server has ended")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0


def test_no_registry_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAETRACK_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="no MLflow server answers there"):
        CliRunner().invoke(app, ["explore", "--no-browser", "--quiet"], catch_exceptions=False)
