"""The registry on a real MLflow store: one version per link, never half there."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from saetrack.chain.plan import Chain, Track
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry, claims
from saetrack.registry.link_run import LinkRun
from saetrack.registry.versions import LinkVersions
from saetrack.training.chain_page import update_chain_page
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.running import plan, run, run_jobs


@pytest.fixture(scope="module")
def client(module_settings: Settings, registry: Registry) -> MlflowClient:
    uri = module_settings.tracking_uri
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def test_one_version_per_link_with_tags_that_find_it(
    registry: Registry, client: MlflowClient, chain: Chain
) -> None:
    versions = sorted(
        client.search_model_versions(f"name = '{chain.name}'"), key=lambda v: int(v.version)
    )
    assert [v.tags["link"] for v in versions] == ["0", "1", "2", "3"]
    assert [v.tags["lm_step"] for v in versions] == ["0", "1", "4", "16"]
    assert [v.tags["parent_version"] for v in versions] == ["", "1", "2", "3"]
    assert [v.tags["identity"] for v in versions] == [link.identity for link in chain.links]
    tags = versions[2].tags
    assert (tags["lm"], tags["revision"], tags["layer"]) == ("nano", "step4", "1")
    assert (tags["direction"], tags["tokens"]) == ("forward", "4096")
    assert tags["hook_name"] == "blocks.1.hook_resid_pre"


def test_runs_are_nested_and_metrics_run_over_tokens(
    registry: Registry, client: MlflowClient, chain: Chain
) -> None:
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags["kind"] == "chain"]
    children = [run for run in runs if run.data.tags["kind"] == "link"]
    assert parent.info.run_name == chain.name
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.run_name for run in children} >= {"link 00 · step 0", "link 03 · step 16"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    (last,) = [run for run in children if run.data.tags["link"] == "3"]
    history = client.get_metric_history(last.info.run_id, "explained_variance")
    assert [point.step for point in history] == sorted({point.step for point in history})
    assert (history[0].step, history[-1].step) == (0, 4096)
    assert last.data.params["sae.l1_coefficient"] == "0.001"
    curve = client.get_metric_history(parent.info.run_id, "explained_variance")
    assert [point.step for point in curve] == [8_192, 12_288, 16_384, 20_480]


def test_the_figure_and_the_table_are_there(
    registry: Registry, client: MlflowClient, chain: Chain, tmp_path: Path
) -> None:
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'chain'")
    folder = Path(client.download_artifacts(parent.info.run_id, "", str(tmp_path)))
    assert {file.name for file in folder.iterdir()} >= {"chain.png", "chain.svg", "links.csv"}
    picture = matplotlib.image.imread(folder / "chain.png")
    assert picture[..., :3].std() > 0.05, "the figure is blank"
    assert list(registry.table(chain)["lm_step"]) == [0, 1, 4, 16]


def test_a_link_is_pulled_by_version_alias_and_step(registry: Registry, chain: Chain) -> None:
    by_version = registry.pull(chain.name, version=4)
    rows, density = registry.decoder(chain.name, 4)
    assert torch.equal(rows, by_version.sae.W_dec) and torch.equal(
        density, by_version.feature_density
    )
    by_alias = registry.pull(chain.name, alias="final")
    by_step = registry.pull(chain.name, lm_step=16)
    assert by_version.version == by_alias.version == by_step.version == 4
    assert registry.pull(chain.name, alias="first").version == 1
    assert by_step.cfg["lm_step"] == 16
    assert by_step.cfg["hook_name"] == "blocks.1.hook_resid_pre"
    assert by_step.feature_density.shape == (64,)
    assert torch.equal(by_version.sae.W_dec, by_alias.sae.W_dec)


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"lm_step": 2}, r"has no lm_step=2; it has \[0, 1, 4, 16\]"),
        ({"version": 99}, "version"),
        ({"alias": "best"}, "alias"),
        ({}, "give exactly one of version, alias, lm_step"),
    ],
)
def test_a_link_that_is_not_there_is_one_line(
    registry: Registry, chain: Chain, how: dict[str, int], line: str
) -> None:
    with pytest.raises(UserError, match=line) as caught:
        registry.pull(chain.name, **how)
    assert "\n" not in str(caught.value)


def test_the_beginning_of_a_name_is_enough_and_an_unknown_one_is_said(
    registry: Registry, chain: Chain
) -> None:
    by_beginning = registry.pull(chain.name[:8], alias="final")
    assert by_beginning.version == registry.pull(chain.name, alias="final").version
    with pytest.raises(UserError, match=r"chain='nona': no such chain is registered"):
        registry.pull("nona", lm_step=4)


def test_a_whole_name_costs_no_search_for_its_beginning(
    registry: Registry, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    search = LinkVersions.search

    def counted(self: LinkVersions, condition: str) -> Any:
        asked.append(condition)
        return search(self, condition)

    monkeypatch.setattr(LinkVersions, "search", counted)
    registry.pull(chain.name, version=1)
    assert asked == []
    registry.pull(chain.name, lm_step=4)
    assert asked == [f"name = '{chain.name}'"]


def test_two_saes_of_one_lm_step_are_said_not_chosen_from(
    registry: Registry, client: MlflowClient, chain: Chain
) -> None:
    name = "two-lms-of-one-name"
    client.create_registered_model(name)
    original = client.get_model_version(chain.name, "3")
    for identity in ("a", "b"):
        tags = {**original.tags, "identity": identity}
        client.create_model_version(name, original.source, original.run_id, tags=tags)
    with pytest.raises(UserError, match=r"more than one SAE of lm_step=4: versions 1, 2"):
        registry.pull(name, lm_step=4)
    table = registry.chains().set_index("name")
    assert table.loc[name, "registered"] == 1, "one link, though it has two SAEs"
    client.delete_registered_model(name)


def test_an_experiment_that_was_deleted_is_restored_with_its_chain(
    settings: Settings, source: CheckpointSource, corpus: Corpus
) -> None:
    track = plan(source, corpus, schedule=[{"first": 0, "last": 0, "tokens": 2_048}])
    run(track, source, Registry(settings))
    uri = settings.tracking_uri
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    longer = [{"first": 0, "last": 0, "tokens": 2_048}, {"first": 1, "last": 1, "tokens": 1_024}]
    registry = Registry(settings)
    assert run(track, source, registry) == 0
    grown = plan(source, corpus, schedule=longer)
    assert run(grown, source, registry) == 1, "the first link is taken over"
    update_chain_page(registry, grown.chains[0])
    assert client.get_experiment(experiment.experiment_id).lifecycle_stage == "active"
    assert len(client.search_runs([experiment.experiment_id], "tags.kind = 'link'")) == 2


def test_nothing_in_the_registry_is_a_pickle(registry: Registry, module_settings: Settings) -> None:
    files = [path for path in module_settings.artifact_dir.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".csv", ".png", ".svg"}
    weights = [path for path in files if path.name == "sae_weights.safetensors"]
    assert set(load_file(weights[0])) == {"W_enc", "b_enc", "W_dec", "b_dec"}


def test_a_second_run_changes_nothing(
    registry: Registry, client: MlflowClient, track: Track, source: CheckpointSource
) -> None:
    (chain,) = track.chains

    def state() -> list[tuple[str, int]]:
        versions = client.search_model_versions(f"name = '{chain.name}'")
        return sorted((v.version, v.last_updated_timestamp) for v in versions)

    before = state()
    assert run(track, source, registry) == 0
    update_chain_page(registry, chain)
    assert state() == before
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'chain'")
    assert len(client.get_metric_history(parent.info.run_id, "lm_step")) == 4


def test_changed_files_are_refused(
    settings: Settings, track: Track, source: CheckpointSource
) -> None:
    (chain,) = track.chains
    registry = Registry(settings)
    run_jobs(track.jobs[:1], source, registry)
    (weights,) = settings.artifact_dir.rglob("sae_weights.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="not those that were registered"):
        registry.pull(chain.name, version=1)


def test_a_crash_before_the_version_exists_leaves_no_trace(
    settings: Settings,
    track: Track,
    source: CheckpointSource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (chain,) = track.chains
    registry = Registry(settings)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "create_model_version", crash)
        with pytest.raises(KeyboardInterrupt):
            run_jobs(track.jobs[:1], source, registry)
    assert registry.versions(chain) == {}
    run_jobs(track.jobs[:1], source, registry)
    assert list(registry.versions(chain).values()) == [1]
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    links = client.search_runs([experiment.experiment_id], "tags.kind = 'link'")
    assert len(links) == 1, "the broken attempt's run must be gone"


def test_a_crash_after_the_version_exists_is_repaired(
    settings: Settings,
    track: Track,
    source: CheckpointSource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (chain,) = track.chains
    registry = Registry(settings)
    register = LinkRun.register

    def crash_late(self: LinkRun, trained: object) -> int:
        with monkeypatch.context() as late:
            late.setattr(MlflowClient, "set_terminated", lambda *_: None)
            register(self, trained)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(LinkRun, "register", crash_late)
        with pytest.raises(KeyboardInterrupt):
            run_jobs(track.jobs[:1], source, registry)
    run(track, source, registry)
    update_chain_page(registry, chain)
    assert sorted(registry.versions(chain).values()) == [1, 2, 3, 4]
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_links_that_another_chain_has_trained_are_taken_over(
    settings: Settings, track: Track, source: CheckpointSource, corpus: Corpus
) -> None:
    registry = Registry(settings)
    run_jobs(track.jobs[:2], source, registry)
    # A raised budget of the last link: another chain, whose first links are the same.
    schedule = [
        NANO_TRACK["schedule"][0],
        {"first": 1, "last": 1, "tokens": 4_096},
        {"first": 3, "last": 3, "tokens": 6_144},
    ]
    raised = plan(source, corpus, schedule=schedule)
    assert raised.chains[0].name != track.chains[0].name
    assert run(raised, source, registry) == 1, "exactly the link that is missing"
    (chain,) = raised.chains
    update_chain_page(registry, chain)
    assert sorted(registry.versions(chain).values()) == [1, 2, 3]
    old = registry.pull(track.chains[0].name, version=2)
    new = registry.pull(chain.name, version=2)
    assert torch.equal(old.sae.W_dec, new.sae.W_dec)
    assert list(registry.table(chain)["tokens"]) == [8_192, 4_096, 6_144]
    assert registry.table(chain)["loss"].notna().all()


def test_a_link_in_training_elsewhere_is_waited_for(
    settings: Settings, track: Track, source: CheckpointSource
) -> None:
    registry = Registry(settings)
    (chain,) = track.chains
    claim = registry.claim(chain, chain.links[0])
    assert claim is not None
    with ThreadPoolExecutor(1) as other, claim:
        waiting = other.submit(Registry(settings).claim, chain, chain.links[0])
        with pytest.raises(TimeoutError):
            waiting.result(timeout=1.5)
        # What the other one does now, it does once the claim has been given up.
        claim.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        taken = waiting.result(timeout=20)
    assert taken is not None
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'link'")
    assert len(runs) == 1, "the run that was given up is gone"


@pytest.mark.parametrize(
    ("owner", "beat_ago_s", "alive"),
    [
        ("elsewhere/boot 1@2.00", 1, True),
        ("elsewhere/boot 1@2.00", 600, False),
        ("{machine} 999999999@2.00", 1, False),  # a process of this machine that is gone
        ("{machine} {pid}@2.00", 1, False),  # its number now belongs to another
    ],
)
def test_a_claim_counts_while_its_owner_lives(
    settings: Settings, owner: str, beat_ago_s: float, alive: bool
) -> None:
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    named = owner.format(machine=claims._machine(), pid=os.getpid())
    tags = {claims.OWNER: named, claims.HEARTBEAT: str(time.time() - beat_ago_s)}
    run_of_owner = client.create_run(client.create_experiment("some"), tags=tags)
    assert claims.is_alive(run_of_owner) == alive
    client.set_terminated(run_of_owner.info.run_id)
    assert not claims.is_alive(client.get_run(run_of_owner.info.run_id))


def test_a_rival_may_delete_a_chains_run_that_has_just_begun(
    settings: Settings, track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its beginning and its parameters, the rival's run becomes the one that stands."""
    (chain,) = track.chains
    log_batch, rivals = MlflowClient.log_batch, [Registry(settings)]

    def after_the_rival(client: MlflowClient, *args: Any, **named: Any) -> None:
        if rivals:
            stands.append(rivals.pop()._runs.ids_of(chain))
        log_batch(client, *args, **named)

    stands: list[tuple[str, str]] = []
    monkeypatch.setattr(MlflowClient, "log_batch", after_the_rival)
    found = Registry(settings)._runs.ids_of(chain)
    assert [found] == stands
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    assert [run.info.run_id for run in client.search_runs([found[0]])] == [found[1]]


def test_two_tracks_at_the_same_moment_train_each_link_once(
    settings: Settings, track: Track, source: CheckpointSource
) -> None:
    (chain,) = track.chains
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run, track, source, Registry(settings)) for _ in range(2)]
        assert sum(one.result() for one in both) == 4, "each link is trained by one of them"
    registry = Registry(settings)
    update_chain_page(registry, chain)
    assert registry.versions(chain) == {link.identity: link.number + 1 for link in chain.links}
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    assert len(client.search_model_versions(f"name = '{chain.name}'")) == 4
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 5, "one for the chain and one per link"
    assert {one.info.status for one in runs} == {"FINISHED"}
