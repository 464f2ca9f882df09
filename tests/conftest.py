"""What several tests share: the nano LM, a tiny corpus, a small track, a clean registry."""

from __future__ import annotations

import os

# Before any library reads them: no test may wait for a hub or report to anyone, and workers that
# share the cores must not have threads that spin while they wait for one.
os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    HF_DATASETS_OFFLINE="1",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    MLFLOW_DISABLE_TELEMETRY="true",
)
for name in [name for name in os.environ if name.startswith("SAETRACK_")]:
    del os.environ[name]

# Triton decides when it is imported; TRITON_INTERPRET=0 tests the kernels on a GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from saetrack.chain.config import TrackConfig, load_config
from saetrack.chain.plan import Chain, Track, plan_track, scheduled
from saetrack.data.corpus import Corpus, prepare_corpus
from saetrack.lm.checkpoints import folder
from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.folder_layout import find_lm
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.open import open_source
from saetrack.registry import Registry
from saetrack.training.chain_page import update_chain_page
from saetrack.utils.settings import Settings
from tests.support.chromium import ABSENT, ARGUMENTS, CHROMIUM
from tests.support.faulty_hub import FaultyHub, point_client_at, serve
from tests.support.live_folder import look_into
from tests.support.nano import NANO_TRACK
from tests.support.running import run, set_environment

LOGGERS = ("saetrack", "saetrack.utils.progress", "mlflow")


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that a test runs in this process sets up logging, as for a terminal."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(one.handlers[:], one.propagate, one.level) for one in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window, one for all tests of a worker: playwright has no second one."""
    if ABSENT:
        pytest.skip(ABSENT)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


MakeOnce = Callable[[str, Callable[[Path], object]], None]


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests of a worker."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> MakeOnce:
    """Makes something in a cache that the first worker makes, and the others copy."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # that of all workers of this run

    def make_once(name: str, make: Callable[[Path], object]) -> None:
        made = root / f"made-{name}"
        with FileLock(root / f"made-{name}.lock"):
            if not made.exists():
                make(root / "draft" / name)
                (root / "draft" / name).rename(made)
        shutil.copytree(made, cache_dir, dirs_exist_ok=True)

    return make_once


@pytest.fixture(scope="session")
def source(cache_dir: Path, made_once: MakeOnce) -> CheckpointSource:
    """The nano LM's checkpoints."""

    def open_nano(cache: Path) -> CheckpointSource:
        return open_source(find_lm("nano"), cache, limit_bytes=10**9)

    made_once("nano", open_nano)
    return open_nano(cache_dir)


@pytest.fixture(scope="session")
def config() -> TrackConfig:
    """A track of four links over the nano LM."""
    return load_config(NANO_TRACK)


@pytest.fixture(scope="session")
def corpus(
    config: TrackConfig,
    source: CheckpointSource,
    cache_dir: Path,
    made_once: MakeOnce,
) -> Corpus:
    """The embedded text in the nano LM's tokens."""

    def prepare(cache: Path) -> Corpus:
        return prepare_corpus(config.corpus, *source.tokenizer(), cache)

    made_once("corpus", prepare)
    return prepare(cache_dir)


@pytest.fixture(scope="session")
def track(config: TrackConfig, source: CheckpointSource, corpus: Corpus) -> Track:
    """The plan of the nano track: one chain."""
    return plan_track(config, source, scheduled(config, source), corpus)


@pytest.fixture(scope="session")
def chain(track: Track) -> Chain:
    """Its chain."""
    return track.chains[0]


@pytest.fixture(scope="module")
def module_settings(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Settings:
    """A registry that the tests of a file share."""
    return registry_in(tmp_path_factory.mktemp("registry"), cache_dir)


@pytest.fixture
def settings(tmp_path: Path, cache_dir: Path) -> Settings:
    """A registry of its own for each test, the shared cache."""
    return registry_in(tmp_path, cache_dir)


def registry_in(place: Path, cache_dir: Path) -> Settings:
    return Settings(
        tracking_uri=f"sqlite:///{place}/mlflow.db",
        artifact_dir=place / "artifacts",
        cache_dir=cache_dir,
        device="cpu",
    )


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """An empty folder for a training run to write checkpoints into."""
    path = tmp_path / "nano-live"
    path.mkdir()
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Live folders are looked into often, and believed at once."""
    monkeypatch.setattr(folder, "POLL_S", 0.02)
    monkeypatch.setattr(folder, "SETTLED_S", 0.0)


@pytest.fixture
def look(live: Path, tmp_path: Path) -> Callable[[], FolderSource]:
    """Opens the live folder anew, as each round of a track does."""
    return lambda: look_into(live, tmp_path / "cache")


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of this test, for flows and commands, which read the environment."""
    set_environment(settings, monkeypatch)


@pytest.fixture(scope="module")
def harness() -> Iterator[None]:
    """A Prefect server for the tests of a file."""
    from prefect.testing.utilities import prefect_test_harness  # takes seconds to import

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def registry(module_settings: Settings, track: Track, source: CheckpointSource) -> Registry:
    """A registry that holds the whole nano chain."""
    registry = Registry(module_settings)
    run(track, source, registry)
    update_chain_page(registry, track.chains[0])
    return registry


@pytest.fixture(scope="module")
def running() -> Iterator[FaultyHub]:
    """A hub, and this process' client pointed at it."""
    with serve() as server, pytest.MonkeyPatch.context() as patch:
        point_client_at(server.address, patch)
        yield server
