"""The comparison of chains with conventional SAEs, from the registry to the page in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from saetrack.analysis.pipeline.compare import (
    compare_chains,
    compared_saes,
    comparison_tables,
)
from saetrack.analysis.pipeline.config import CompareConfig, load_compare_config
from saetrack.chain.plan import Chain, plan_track, scheduled
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.running import run

TRACK: dict[str, Any] = {
    **NANO_TRACK,
    "schedule": [
        {"first": 0, "last": 0, "tokens": 4_096},
        {"first": 4, "last": 5, "tokens": 1_024},
    ],
}


@pytest.fixture(scope="module")
def compare_config() -> CompareConfig:
    return load_compare_config({"track": TRACK, "checkpoints": [0, 5], "seeds": [0, 1]})


@pytest.fixture(scope="module")
def compared(
    compare_config: CompareConfig,
    module_settings: Settings,
    source: CheckpointSource,
    corpus: Corpus,
) -> tuple[Registry, list[Chain], list[Chain]]:
    registry = Registry(module_settings)
    kinds: list[list[Chain]] = []
    for configs in (compare_config.chains(), compare_config.conventional()):
        tracks = [plan_track(one, source, scheduled(one, source), corpus) for one in configs]
        for track in tracks:
            run(track, source, registry)
        kinds.append([track.chains[0] for track in tracks])
    return registry, *kinds


def test_what_is_trained_by_default(source: CheckpointSource) -> None:
    config = load_compare_config({"track": NANO_TRACK})
    assert [one.seed for one in config.chains()] == [0, 1, 2]
    conventional = [(one.schedule[0].first, one.seed) for one in config.conventional()]
    # First, middle and last of the checkpoints 0, 1, 3, 5.
    assert conventional == [(index, seed) for index in (0, 3, 5) for seed in (0, 1, 2)]
    assert {one.schedule[0].tokens for one in config.conventional()} == {8_192}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"checkpoints": [2]}, r"checkpoints=\[2\]: 2 is not in the track's schedule"),
        ({"seeds": [0]}, r"seeds=\(0,\)|seeds=\[0\]"),
    ],
)
def test_a_mistake_is_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        load_compare_config({"track": TRACK, **changes})
    assert "\n" not in str(caught.value)


def test_the_tables_are_what_the_registry_holds(
    compared: tuple[Registry, list[Chain], list[Chain]],
) -> None:
    registry, chains, conventional = compared
    tables = comparison_tables(registry, compared_saes(registry, chains, conventional))
    pairs = tables["pairs"].set_index(["checkpoint_index", "seed"])
    table = registry.table(chains[1]).set_index("checkpoint_index")
    assert pairs.loc[(5, 1), "link_loss"] == table.loc[5, "loss"]
    assert pairs.loc[(5, 1), "link_tokens"] == 1_024
    assert pairs.loc[(5, 1), "conventional_tokens"] == 4_096
    assert pairs["own_yardstick"].to_dict() == {
        (0, 0): True,
        (0, 1): True,
        (5, 0): False,
        (5, 1): False,
    }
    kinds = tables["matching"].groupby("comparison")["seeds"].apply(list).to_dict()
    assert kinds == {
        "link_conventional": ["0", "1"],
        "conventional_seeds": ["0, 1", "0, 1"],
        "random_directions": ["0", "1", "0", "1"],
    }
    assert "ce_loss_recovered" in tables["curves"]
    assert (tables["curves"].groupby(["kind", "lm_step", "seed"]).size() >= 4).all()


def test_the_page_has_figures_tables_and_the_versions_that_were_read(
    compared: tuple[Registry, list[Chain], list[Chain]], module_settings: Settings, tmp_path: Path
) -> None:
    registry, chains, conventional = compared
    for _ in range(2):  # the second time changes nothing
        compare_chains(registry, chains, conventional)
    client = MlflowClient(tracking_uri=module_settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    (report,) = client.search_runs([experiment.experiment_id], "tags.kind = 'comparison'")
    assert report.info.status == "FINISHED"
    assert report.info.run_name == "compare · nano L1 · 2 seeds"
    assert chains[0].name in report.data.tags["versions"]
    assert conventional[-1].name in report.data.tags["versions"]
    folder = Path(client.download_artifacts(report.info.run_id, "", str(tmp_path)))
    names = {file.name for file in folder.iterdir()}
    assert names >= {"pairs.csv", "summary.csv", "matching.csv", "curves.parquet"}
    assert names >= {
        f"{name}.{kind}" for name in ("curves", "speed", "matching") for kind in ("png", "svg")
    }
    assert len(pd.read_csv(folder / "pairs.csv")) == 4
    assert "equal_quality_token_ratio_mean" in report.data.metrics
