"""A life store on this machine is read in place; one of a server is downloaded once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from saetrack.registry.lives import LIVES, lives_in_place
from saetrack.utils.errors import UserError

FIRST, SECOND = "a" * 32, "b" * 32


class Server:
    """The part of MLflow's client that life stores need; a store's file holds its run's id."""

    def __init__(self, uri: str = "mlflow-artifacts:/1", has_lives: bool = True) -> None:
        self.uri = uri
        self.has_lives = has_lives
        self.fails = False
        self.sent: list[str] = []

    def get_run(self, run_id: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(artifact_uri=f"{self.uri}/{run_id}/artifacts"))

    def list_artifacts(self, run_id: str) -> Any:
        names = ["tables", *([LIVES] if self.has_lives else [])]
        return [SimpleNamespace(path=name) for name in names]

    def download_artifacts(self, run_id: str, path: str, dst_path: str) -> str:
        self.sent.append(run_id)
        folder = Path(dst_path) / path
        folder.mkdir()
        (folder / "chain.json").write_text(run_id)
        if self.fails:
            raise MlflowException("the connection broke")
        return str(folder)


def test_a_server_sends_a_store_once_and_earlier_ones_go(tmp_path: Path) -> None:
    server: Any = Server()
    first = lives_in_place(server, FIRST, "chain", tmp_path)
    assert lives_in_place(server, FIRST, "chain", tmp_path) == first
    assert (first / "chain.json").read_text() == FIRST and server.sent == [FIRST]
    other = lives_in_place(server, FIRST, "another chain", tmp_path)
    second = lives_in_place(server, SECOND, "chain", tmp_path)
    assert (second / "chain.json").read_text() == SECOND
    assert not first.exists() and other.exists()


def test_half_a_store_is_not_kept(tmp_path: Path) -> None:
    server: Any = Server()
    server.fails = True
    with pytest.raises(UserError, match="cannot be had: the connection broke") as caught:
        lives_in_place(server, FIRST, "chain", tmp_path)
    assert "\n" not in str(caught.value)
    server.fails = False
    again = lives_in_place(server, FIRST, "chain", tmp_path)
    assert again is not None and again.is_dir()
    assert server.sent == [FIRST, FIRST]


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_what_lies_here_is_not_copied(tmp_path: Path, prefix: str) -> None:
    here = tmp_path / "with blank" / FIRST / "artifacts" / LIVES
    here.mkdir(parents=True)
    uri = prefix + str(tmp_path / "with blank").replace(" ", "%20" if prefix else " ")
    server: Any = Server(uri)
    assert lives_in_place(server, FIRST, "chain", tmp_path / "cache") == here
    assert not (tmp_path / "cache").exists() and not server.sent


@pytest.mark.parametrize("is_served", [True, False])
def test_an_analysis_of_an_earlier_release_has_none(tmp_path: Path, is_served: bool) -> None:
    (tmp_path / FIRST / "artifacts" / "tables").mkdir(parents=True)
    uri = "mlflow-artifacts:/1" if is_served else str(tmp_path)
    server: Any = Server(uri, has_lives=False)
    assert lives_in_place(server, FIRST, "chain", tmp_path) is None
    assert not server.sent


def test_a_store_whose_folder_is_gone_is_not_called_an_old_one(tmp_path: Path) -> None:
    server: Any = Server(str(tmp_path / "moved"))
    with pytest.raises(UserError, match=r"are kept in .*/moved/.*/artifacts, which is not there"):
        lives_in_place(server, FIRST, "chain", tmp_path)


def test_a_run_that_names_a_folder_elsewhere_is_refused(tmp_path: Path) -> None:
    server: Any = Server()
    with pytest.raises(UserError, match="is no id"):
        lives_in_place(server, "../../etc", "chain", tmp_path)
