"""What release 0.1 registered is read under the names of this one."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from mlflow import MlflowClient

from saetrack.chain.plan import Track
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.registry.artifacts import folder_sha256
from saetrack.registry.chain_run import ChainRuns
from saetrack.registry.facts import from_params
from saetrack.registry.formats.export import export_chain
from saetrack.registry.formats.saelens import read_saelens
from saetrack.utils.settings import Settings
from tests.support.running import run_stages


def test_a_link_of_release_0_1_is_pulled_exported_and_starts_the_next(
    settings: Settings,
    track: Track,
    source: CheckpointSource,
    tmp_path: Path,
    monkeypatch,
) -> None:
    (chain,) = track.chains
    registry = Registry(settings)
    run_stages(track.jobs[:1], source, registry)
    before = registry.pull(chain.name, version=1)
    (file,) = settings.artifact_dir.rglob("cfg.json")
    cfg = json.loads(file.read_text())
    distance = cfg["residual_spread"] = cfg.pop("residual_mean_distance")
    cfg["track"]["convention"] = cfg["track"].pop("residual")
    file.write_text(json.dumps(cfg))
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    client.set_model_version_tag(chain.name, "1", "sha256", folder_sha256(file.parent))

    pulled = registry.pull(chain.name, version=1)
    assert torch.equal(pulled.sae.W_dec, before.sae.W_dec)
    assert pulled.cfg["residual_mean_distance"] == distance > 0
    assert registry.parent(chain, chain.links[1]).residual_mean_distance == distance

    monkeypatch.setattr(
        "saetrack.registry.chain_run.from_params",
        lambda params: {
            {"residual": "convention"}.get(name, name): value
            for name, value in from_params(params).items()
        },
    )
    assert "residual" in ChainRuns(client, settings).tracks()[chain.name]
    (folder,) = export_chain(registry, chain.name, tmp_path / "out")["folder"]
    assert read_saelens(tmp_path / "out" / folder).residual_mean_distance == distance
    assert (
        "trained on the residual stream less its mean" in (tmp_path / "out/README.md").read_text()
    )
