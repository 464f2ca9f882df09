"""The registry on a real MLflow store: one version per link, never half there."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from saetrack.chain import run_chain
from saetrack.errors import UserError
from saetrack.link import run_link
from saetrack.lm.checkpoints import CheckpointSource
from saetrack.plan import Chain
from saetrack.registry import LinkRun, Registry
from saetrack.settings import Settings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def module_settings(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Settings:
    folder = tmp_path_factory.mktemp("registry")
    return Settings(
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        artifact_dir=folder / "artifacts",
        cache_dir=cache_dir,
    )


@pytest.fixture(scope="module")
def registry(module_settings: Settings, chain: Chain, source: CheckpointSource) -> Registry:
    """A registry that holds the whole nano chain."""
    registry = Registry(module_settings)
    run_chain(chain, source, registry, CPU)
    registry.finish(chain)
    return registry


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
    assert {run.info.run_name for run in children} >= {"link 0 · step 0", "link 3 · step 16"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    (last,) = [run for run in children if run.data.tags["link"] == "3"]
    history = client.get_metric_history(last.info.run_id, "explained_variance")
    assert [point.step for point in history] == sorted({point.step for point in history})
    assert (history[0].step, history[-1].step) == (0, 4096)
    assert last.data.params["objective.l1_coefficient"] == "0.001"
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


def test_nothing_in_the_registry_is_a_pickle(registry: Registry, module_settings: Settings) -> None:
    files = [path for path in module_settings.artifact_dir.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".csv", ".png", ".svg"}
    weights = [path for path in files if path.name == "sae_weights.safetensors"]
    assert set(load_file(weights[0])) == {"W_enc", "b_enc", "W_dec", "b_dec"}


def test_a_second_run_changes_nothing(
    registry: Registry, client: MlflowClient, chain: Chain, source: CheckpointSource
) -> None:
    def state() -> list[tuple[str, int]]:
        versions = client.search_model_versions(f"name = '{chain.name}'")
        return sorted((v.version, v.last_updated_timestamp) for v in versions)

    before = state()
    assert run_chain(chain, source, registry, CPU) == 0
    registry.finish(chain)
    assert state() == before
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'chain'")
    assert len(client.get_metric_history(parent.info.run_id, "lm_step")) == 4


def test_changed_files_are_refused(
    settings: Settings, chain: Chain, source: CheckpointSource
) -> None:
    registry = Registry(settings)
    run_link(chain, chain.links[0], source, registry, CPU)
    (weights,) = settings.artifact_dir.rglob("sae_weights.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="not those that were registered"):
        registry.pull(chain.name, version=1)


def test_a_crash_before_the_version_exists_leaves_no_trace(
    settings: Settings,
    chain: Chain,
    source: CheckpointSource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry(settings)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "create_model_version", crash)
        with pytest.raises(KeyboardInterrupt):
            run_link(chain, chain.links[0], source, registry, CPU)
    assert registry.versions(chain) == {}
    run_link(chain, chain.links[0], source, registry, CPU)
    assert list(registry.versions(chain).values()) == [1]
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    links = client.search_runs([experiment.experiment_id], "tags.kind = 'link'")
    assert len(links) == 1, "the broken attempt's run must be gone"


def test_a_crash_after_the_version_exists_is_repaired(
    settings: Settings,
    chain: Chain,
    source: CheckpointSource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
            run_link(chain, chain.links[0], source, registry, CPU)
    run_chain(chain, source, registry, CPU)
    registry.finish(chain)
    assert sorted(registry.versions(chain).values()) == [1, 2, 3, 4]
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
