"""A chain beside a crosscoder: nano, from the config to the page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from saetrack.analysis.pipeline import compare_crosscoder
from saetrack.analysis.pipeline.compare import compare_trained
from saetrack.analysis.pipeline.config import CompareConfig, load_compare_config
from saetrack.chain.crosscoder import plan_crosscoder
from saetrack.chain.plan import Track, plan_track, scheduled
from saetrack.chain.presets import load_preset
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.sae.crosscoder import load_crosscoder
from saetrack.training.crosscoder import train_crosscoders
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.running import CPU, broken_off, run, set_environment

VALUES: dict[str, Any] = {
    "track": NANO_TRACK,
    "checkpoints": [0, 3, 5],
    "crosscoder": {
        "tokens": 8_192,
        "l1_coefficient": 2e-4,
        "learning_rate": 4e-3,
        "warmup_steps": 3,
    },
    "seeds": [0, 1],
}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"checkpoints": [0, 2]}, r"checkpoints=\[0, 2\]: 2 is not"),
        ({"checkpoints": [5]}, r"checkpoints=\[5\]: a crosscoder needs two"),
        ({"architectures": {"a": {}, "b": {}}}, "either architectures or crosscoder"),
        ({"crosscoder": {"tokens": 1, "l1_coefficient": -1, "learning_rate": 1}}, "l1_coefficient"),
    ],
)
def test_a_mistake_is_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        load_compare_config(VALUES | changes)
    assert "\n" not in str(caught.value)


def test_the_rival_has_the_crosscoders_checkpoints_with_the_tracks_budgets() -> None:
    config = load_compare_config(load_preset("compare", "mini-crosscoder"))
    chain, *beside = config.all_tracks()
    assert chain == config.track
    assert [track.seed for track in beside] == [0, 1]
    budgets = dict(chain.planned or ())
    for track in beside:
        assert track.planned == [(at, budgets[at]) for at in (0, 7, 12, 17, 22, 28)]


@pytest.fixture(scope="module")
def trained(
    module_settings: Settings, source: CheckpointSource, corpus: Corpus
) -> tuple[CompareConfig, list[Track], list[Any]]:
    """Chains and crosscoders; one of these was broken off and begun anew."""
    config = load_compare_config(VALUES)
    registry = Registry(module_settings)
    tracks = [
        plan_track(one, source, scheduled(one, source), corpus) for one in config.all_tracks()
    ]
    for track in tracks:
        run(track, source, registry)
    context = SimpleNamespace(device=CPU)
    prepared: list[Any] = [
        SimpleNamespace(track=track, source=source, registry=registry, context=context)
        for track in tracks[1:]
    ]
    assert config.crosscoder is not None
    with broken_off(after_batches=2):
        train_crosscoders(prepared, config.crosscoder)
    assert train_crosscoders(prepared, config.crosscoder) == 2
    return config, tracks, prepared


def test_a_trained_crosscoder_is_found_again_and_its_seed_decides_its_weights(
    trained: tuple[CompareConfig, list[Track], list[Any]], source: CheckpointSource
) -> None:
    config, tracks, prepared = trained
    assert config.crosscoder is not None
    assert train_crosscoders(prepared, config.crosscoder) == 0
    found = []
    for one in prepared:
        planned = plan_crosscoder(one.track.chains[0], config.crosscoder, source.lm_identity)
        with one.registry.reports.files("nano", planned.identity) as folder:
            found.append(load_crosscoder(folder))
    (first, density, cfg), (second, *_) = found
    assert not torch.equal(first.W_dec, second.W_dec)
    assert density.shape == (64,)
    history = pd.DataFrame(cfg["history"])
    last = history[history["tokens"] == 8_192]
    steps = [link.checkpoint.lm_step for link in tracks[1].chains[0].links]
    assert last["lm_step"].tolist() == steps
    assert (last["explained_variance"] > 0.4).all()
    assert last["ce_loss_spliced"].notna().all()
    other = config.crosscoder.model_copy(update={"l1_coefficient": 3e-4})
    chain = tracks[1].chains[0]
    identities = {
        plan_crosscoder(chain, one, source.lm_identity).identity
        for one in (config.crosscoder, other)
    }
    assert len(identities) == 2


def test_the_page_has_tables_and_a_figure_and_is_made_once(
    trained: tuple[CompareConfig, list[Track], list[Any]],
    module_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    config, tracks, _ = trained
    set_environment(module_settings, monkeypatch)
    (said,) = compare_trained(config, tracks, module_settings)
    assert said.startswith(
        "compare crosscoder · nano L1 · 2 seeds: in MLflow's experiment nano, run "
    )
    # Once there are moments, it is compared anew: here every feature forms at a step of its own.
    moments = pd.DataFrame(
        {"of": "features", "feature": np.tile(np.arange(64), 2)}
        | {"moment": np.repeat(["forms", "causes"], 64), "lm_step": np.arange(128.0)}
    )
    monkeypatch.setattr(compare_crosscoder, "_moments", lambda _: (moments, "an analysis"))
    for _ in range(2):  # the second time changes nothing
        compare_trained(config, tracks, module_settings)
    client = MlflowClient(tracking_uri=module_settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    reports = client.search_runs([experiment.experiment_id], "tags.kind = 'comparison'")
    assert len(reports) == 2
    folder = Path(client.download_artifacts(reports[0].info.run_id, "", str(tmp_path)))
    tables = {path.stem: pd.read_csv(path) for path in folder.glob("*.csv")}
    summary = tables["summary"].set_index("rival")
    assert summary["seeds"].to_dict() == {
        "chain": 1,
        "chain of these checkpoints": 2,
        "crosscoder": 2,
    }
    # 8,192 and three times 4,096; the same without a link; and three checkpoints at a time.
    assert summary["lm_tokens_mean"].tolist() == [20_480, 16_384, 24_576]
    table = Registry(module_settings).table(tracks[0].chains[0]).set_index("lm_step")
    of_chain = tables["quality"][tables["quality"]["rival"] == "chain"].set_index("lm_step")
    assert len(of_chain) == 3
    for step, row in of_chain.iterrows():
        assert row["explained_variance"] == pytest.approx(table.loc[step, "explained_variance"])
    matched = tables["matching"].groupby("matched")["median_cosine"].mean()
    assert matched["crosscoder, chain"] > matched["crosscoder, random directions"]
    assert set(tables["agreement"]["moment"]) == {
        "forms",
        "causes",
        "emerges in the crosscoder of another seed",
    }
    assert {path.name for path in folder.iterdir()} >= {"crosscoder.png", "page.html"}
