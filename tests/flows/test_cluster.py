"""Six chains over three workers, one of which dies: nothing lost, nothing twice."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import torch
from mlflow import MlflowClient

from saetrack.chain.config import load_config
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.registry.claims import OWNER
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.memory_store import MemoryStore
from tests.support.nano import NANO_TRACK
from tests.support.running import plan
from tests.support.running import run as train
from tests.support.site import Site, kill_tree, postgres, postgres_bin, wait_for

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(postgres_bin() is None, reason="no PostgreSQL on this machine"),
]

# Long enough to be killed in its middle.
SCHEDULE = [
    {"first": 0, "last": 0, "tokens": 16_384},
    {"first": 1, "last": 3, "tokens": 16_384},
]
OVER = {"seed": [0, 1, 2], "layers": [[0], [1]]}
SWEEP = "import json, sys; from flows.sweep import sweep; sweep(**json.loads(sys.argv[1]))"
AGAIN = """
import json, sys
from prefect.deployments import run_deployment
run_deployment("track/one", parameters=json.loads(sys.argv[1]), timeout=0)
"""


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, source: CheckpointSource, cache_dir: Path
) -> Iterator[Site]:
    source.resolve([0])  # the nano LM is trained once, here
    with postgres(["mlflow", "prefect"]) as database:
        site = Site(tmp_path_factory.mktemp("site"), cache_dir, database)
        try:
            site.start_servers()
            yield site
        finally:
            site.stop()


@pytest.fixture
def settings(site: Site, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A client's, elsewhere."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, site.environment[name])
    return Settings(
        tracking_uri=site.environment["SAETRACK_TRACKING_URI"], cache_dir=cache_dir, device="cpu"
    )


def test_servers_let_nobody_in_without_the_password(
    site: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        f"http://127.0.0.1:{site.mlflow}/api/2.0/mlflow/experiments/search?max_results=1",
        f"http://127.0.0.1:{site.mlflow}/api/2.0/mlflow-artifacts/artifacts",
        f"http://127.0.0.1:{site.prefect}/api/deployments/name/track/one",
    ]
    for url in asked:
        assert requests.get(url, timeout=10).status_code == 401
        assert requests.get(url, auth=("reader", "wrong"), timeout=10).status_code == 401
        known = ("reader", site.password)
        assert requests.get(url, auth=known, timeout=10).status_code != 401
    Registry(settings)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(UserError, match="does not let 'reader' in: check MLFLOW_TRACKING_USERNAME"):
        Registry(settings)
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    with pytest.raises(UserError, match="asks who you are: set MLFLOW_TRACKING_USERNAME"):
        Registry(settings)
    shown = " ".join(
        " ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])
    )
    assert site.password not in shown


def test_a_worker_dies_and_nothing_is_lost_and_nothing_twice(
    site: Site, settings: Settings, source: CheckpointSource, corpus: Corpus
) -> None:
    prefect = ("-m", "prefect", "--no-prompt")
    site.run(*prefect, "work-pool", "create", "saetrack", "--type", "process")
    site.run(*prefect, "deploy", "--prefect-file", "deployments/prefect.yaml", "-n", "track/one")
    track = {**NANO_TRACK, "schedule": SCHEDULE}
    for number in range(3):
        site.start(f"worker-{number}", "-m", "flows.worker", str(number))
    site.run("-c", SWEEP, json.dumps({"track": track, "over": OVER}))
    again = load_config({**track, "layers": [0]}).model_dump(mode="json")
    site.run("-c", AGAIN, json.dumps(again))  # a second worker on one chain

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    # The first in the alphabet, who looks after the others: that must pass on, too.
    wait_for(lambda: is_training(client, site.processes["worker-0"].pid), "a chain half done")
    kill_tree(site.processes["worker-0"], signal.SIGKILL)
    wait_for(lambda: states(site) == {"COMPLETED": 7}, "seven completed runs", patience_s=600)

    runs = flow_runs(site)
    assert sum(run["run_count"] > 1 for run in runs) == 1, "the run of the dead worker, again"
    workers = Counter(run["labels"]["prefect.worker.name"].partition(".")[2] for run in runs)
    assert set(workers) == {"gpu1", "gpu2"} or set(workers) == {"gpu0", "gpu1", "gpu2"}
    require_whole(Registry(settings), client, source, corpus)
    assert not list(settings.cache_dir.rglob(".partial*"))


def is_training(client: MlflowClient, worker: int) -> bool:
    """Whether a run of the worker is in the middle of a chain."""
    experiment = client.get_experiment_by_name("nano")
    if experiment is None:
        return False
    own = {one.pid for one in psutil.Process(worker).children(recursive=True)}
    links = client.search_runs([experiment.experiment_id], "tags.kind = 'link'")
    later = [run for run in links if run.data.tags["link"] != "0"]
    owners = [run.data.tags[OWNER] for run in later if run.info.status == "RUNNING"]
    return any(int(owner.split(" ")[1].partition("@")[0]) in own for owner in owners)


def flow_runs(site: Site) -> list[dict[str, Any]]:
    answer = requests.post(
        f"http://127.0.0.1:{site.prefect}/api/flow_runs/filter",
        json={"deployments": {"name": {"any_": ["one"]}}},
        auth=("reader", site.password),
        timeout=30,
    )
    found: list[dict[str, Any]] = answer.json()
    return found


def states(site: Site) -> dict[str, int]:
    return dict(Counter(run["state_type"] for run in flow_runs(site)))


def require_whole(
    registry: Registry, client: MlflowClient, source: CheckpointSource, corpus: Corpus
) -> None:
    """Six chains as if nobody had died: versions, weights, one finished run per link."""
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert Counter(run.data.tags["kind"] for run in runs) == {"chain": 6, "link": 24}
    identities = [run.data.tags["identity"] for run in runs if run.data.tags["kind"] == "link"]
    assert len(set(identities)) == 24, "a link was trained twice"
    assert len(registry.chains()) == 6
    for seed in OVER["seed"]:
        for layers in OVER["layers"]:
            undisturbed = MemoryStore()
            ours = plan(source, corpus, schedule=SCHEDULE, seed=seed, layers=layers)
            train(ours, source, undisturbed)
            (chain,) = ours.chains
            versions = registry.versions(chain)
            assert versions == {link.identity: link.number + 1 for link in chain.links}
            assert len(client.search_model_versions(f"name = '{chain.name}'")) == 4
            assert registry.pull(chain.name, alias="final").version == 4
            for identity, version in versions.items():
                pulled = registry.pull(chain.name, version=version).sae.parameters()
                pairs = zip(pulled, undisturbed.links[identity].sae.parameters(), strict=True)
                assert all(torch.equal(a, b) for a, b in pairs), f"{chain.name} {version}"
