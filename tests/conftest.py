"""What several tests share: the nano LM, a tiny corpus, a small track, a clean registry."""

from __future__ import annotations

import os

# Before any library reads them: no test may wait for a hub or report to anyone.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    MLFLOW_DISABLE_TELEMETRY="true",
)
for name in [name for name in os.environ if name.startswith("SAETRACK_")]:
    del os.environ[name]

from pathlib import Path
from typing import Any

import pytest
import torch

from saetrack.config import TrackConfig, load_config
from saetrack.corpus import Corpus, prepare_corpus
from saetrack.lm.catalog import find_model
from saetrack.lm.checkpoints import CheckpointSource, open_source
from saetrack.plan import Chain, plan_chain
from saetrack.settings import Settings

# Large enough to learn something, small enough for a second or two a link.
NANO_TRACK: dict[str, Any] = {
    "model": "nano",
    "layer": 1,
    "d_sae": 64,
    "corpus": {
        "dataset": "mini",
        "context_size": 32,
        "train_tokens": 16_384,
        "held_out_tokens": 2_048,
        "analysis_tokens": 2_048,
    },
    "objective": {"l1_coefficient": 1e-3},
    "schedule": [
        {"first": 0, "last": 0, "tokens": 8_192},
        {"first": 1, "last": 5, "stride": 2, "tokens": 4_096},
    ],
    "first_link": {"learning_rate": 4e-3, "warmup_steps": 10},
    "later_links": {"learning_rate": 2e-3, "warmup_steps": 3},
    "batch_tokens": 256,
    "buffer_tokens": 2_048,
}


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests: the nano LM is trained once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def source(cache_dir: Path) -> CheckpointSource:
    """The nano LM's checkpoints."""
    return open_source(find_model("nano"), cache_dir)


@pytest.fixture(scope="session")
def config() -> TrackConfig:
    """A track of four links over the nano LM."""
    return load_config(NANO_TRACK)


@pytest.fixture(scope="session")
def corpus(config: TrackConfig, source: CheckpointSource, cache_dir: Path) -> Corpus:
    """The embedded text in the nano LM's tokens."""
    return prepare_corpus(config.corpus, *source.tokenizer(), cache_dir)


@pytest.fixture(scope="session")
def chain(config: TrackConfig, source: CheckpointSource, corpus: Corpus) -> Chain:
    """The plan of the nano track."""
    return plan_chain(config, source, corpus)


@pytest.fixture
def settings(tmp_path: Path, cache_dir: Path) -> Settings:
    """A registry of its own for each test, the shared cache."""
    return Settings(
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
        artifact_dir=tmp_path / "artifacts",
        cache_dir=cache_dir,
        device="cpu",
    )


@pytest.fixture
def device() -> torch.device:
    """Where tests run."""
    return torch.device("cpu")
