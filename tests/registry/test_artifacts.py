"""A link's files from a server: downloaded once, verified, kept under their hash, not for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from saetrack.registry.artifacts import IN_USE_S, SAE_FOLDER, Artifacts, folder_sha256
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings


class Server:
    """The part of MLflow's client that artifacts need; a run's file holds the run's name."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_broken = False

    def get_run(self, run_id: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(artifact_uri=f"mlflow-artifacts:/1/{run_id}"))

    def download_artifacts(self, run_id: str, path: str, dst_path: str) -> str:
        self.sent.append(run_id)
        write(Path(dst_path) / path, "broken" if self.is_broken else run_id)
        return str(Path(dst_path) / path)


def write(folder: Path, text: str) -> str:
    folder.mkdir(parents=True)
    (folder / "sae_weights.safetensors").write_text(text * 1000)
    return folder_sha256(folder)


@pytest.fixture
def served(settings: Settings, tmp_path: Path) -> Settings:
    changes = {"tracking_uri": "http://127.0.0.1:1", "cache_dir": tmp_path / "cache"}
    return settings.model_copy(update=changes)


def test_files_come_once_and_again_only_if_they_spoil(served: Settings, tmp_path: Path) -> None:
    server: Any = Server()
    sha256 = write(tmp_path / "original", "a")
    artifacts = Artifacts(server, served)
    folder = artifacts.folder("a", sha256, "link")
    assert folder_sha256(folder) == sha256
    assert artifacts.folder("a", sha256, "link") == folder
    assert server.sent == ["a"]
    (folder / "sae_weights.safetensors").write_text("spoilt")
    assert folder_sha256(artifacts.folder("a", sha256, "link")) == sha256
    assert server.sent == ["a", "a"]


def test_what_is_not_what_was_registered_is_not_kept(served: Settings, tmp_path: Path) -> None:
    server: Any = Server()
    server.is_broken = True
    sha256 = write(tmp_path / "original", "a")
    with pytest.raises(UserError, match="link: its files cannot be had") as caught:
        Artifacts(server, served).folder("a", sha256, "link")
    assert "\n" not in str(caught.value)
    assert not list((served.cache_dir / "links").iterdir())


def test_the_longest_unused_goes_first(served: Settings, tmp_path: Path) -> None:
    server: Any = Server()
    artifacts = Artifacts(server, served.model_copy(update={"fetched_bytes": 2_500}))
    hashes = {name: write(tmp_path / name, name) for name in "abcd"}
    for age, name in enumerate("abc", start=1):
        folder = artifacts.folder(name, hashes[name], name)
        long_ago = time.time() - IN_USE_S * 10 / age
        os.utime(folder.parent, (long_ago, long_ago))
    artifacts.folder("a", hashes["a"], "a")  # used again
    artifacts.folder("d", hashes["d"], "d")
    kept = {place.name for place in (served.cache_dir / "links").iterdir()}
    assert kept == {hashes["a"], hashes["d"]}
    assert (served.cache_dir / "links" / hashes["a"] / SAE_FOLDER).exists()
