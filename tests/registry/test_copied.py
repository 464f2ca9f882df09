"""A registry whose files are elsewhere by now is refused before any work; nothing is written."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from saetrack.analysis.pipeline.analyze import analyze_chains
from saetrack.analysis.pipeline.config import load_analyze_config
from saetrack.analysis.pipeline.results import newest_groups
from saetrack.chain.config import load_config
from saetrack.chain.plan import Chain
from saetrack.cli import main as command_line
from saetrack.registry import Registry
from saetrack.registry.opened_track import open_track
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.planted_analysis import QUESTIONS
from tests.support.running import set_environment


@pytest.fixture(scope="module")
def analysed(registry: Registry, chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An analysis, as the registry keeps it."""
    folder = tmp_path_factory.mktemp("analysis")
    (folder / "sheet.csv").write_text("feature,label\n0,\n")
    facts = {"kind": "analysis", "identity": "an analysis", "chain": chain.name}
    registry.reports.log(chain.lm_name, "analyze", folder, metrics={}, facts=facts)


@pytest.fixture
def copied(
    analysed: None, module_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """The file of a registry alone, for a machine that has nothing else."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(module_settings.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    return Settings(
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", cache_dir=tmp_path / "cache", device="cpu"
    )


def test_a_copy_without_its_files_is_refused_before_any_work(
    copied: Settings, module_settings: Settings, chain: Chain, tmp_path: Path
) -> None:
    there = module_settings.artifact_dir
    away = there.rename(there.with_name("away"))
    before = sorted(tmp_path.rglob("*"))
    for asked in (QUESTIONS, {"chain": chain.name}):
        with pytest.raises(
            UserError, match=f"files of nano's chains are kept in {there}, which is not there"
        ) as caught:
            analyze_chains(load_analyze_config(asked), copied)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="which is not there"):
        open_track(load_config(NANO_TRACK), copied)
    with pytest.raises(UserError, match="which is not there"):
        newest_groups(Registry(copied))
    of_link = f"its files are kept in {there}/.*, which is not there; put that folder back"
    with pytest.raises(UserError, match=of_link):
        Registry(copied).pull(chain.name, lm_step=16)
    made = set(tmp_path.rglob("*")) - set(before)
    assert {path.name for path in made} <= {"mlflow.db.lock"}, "no LM, no text, no folder of files"
    there.symlink_to(away)
    assert Registry(copied).pull(chain.name, lm_step=16).version == 4, "a link to it will do"
    there.unlink()
    away.rename(there)


def test_an_analysis_makes_no_registry(tmp_path: Path) -> None:
    nowhere = Settings(
        tracking_uri=f"sqlite:///{tmp_path}/none/mlflow.db",
        cache_dir=tmp_path / "cache",
        device="cpu",
    )
    with pytest.raises(UserError, match="there is no registry yet"):
        analyze_chains(load_analyze_config(QUESTIONS), nowhere)
    assert [path.name for path in tmp_path.rglob("*")] == ["cache"]


def test_files_go_beside_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "elsewhere"
    beside = Settings(tracking_uri=f"sqlite:///{place}/mlflow.db")
    assert beside.artifact_dir == place / "artifacts"
    assert Settings().artifact_dir == tmp_path / "mlruns" / "artifacts"
    chosen = Settings(tracking_uri=f"sqlite:///{place}/mlflow.db", artifact_dir=tmp_path / "here")
    assert chosen.artifact_dir == tmp_path / "here"


@pytest.mark.parametrize(
    "words",
    [
        *(["export", "nano", "--all", "--to", "new/out"], ["explore", "nano", "--no-browser"]),
        *(["export", "nano", "--alias", "final", "--to", "new/out"], ["explain", "nano"]),
        *(
            ["explore", "nano", "--to", "new/site"],
            ["sheet", "nano"],
            ["agreement", "nano", "a.csv"],
        ),
        *(["results"], ["analyze", "nano"]),
    ],
    ids=lambda words: "-".join(words[:1] + words[2:3]),
)
def test_every_command_that_reads_files_says_where_they_were(
    words: list[str],
    copied: Settings,
    module_settings: Settings,
    chain: Chain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_environment(copied, monkeypatch)
    (tmp_path / "a.csv").write_text("feature,label\n0,token\n")
    monkeypatch.setattr("saetrack.explorer.serving.serve", lambda *_: None)  # else for ever
    there = module_settings.artifact_dir
    away = there.rename(there.with_name("away"))
    try:
        monkeypatch.setattr(sys, "argv", ["saetrack", *words])
        assert command_line.run() == 2
    finally:
        away.rename(there)
    told = capsys.readouterr()
    assert told.out == ""
    lines = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and f"kept in {there}" in lines[0] and "Errno" not in lines[0]
    assert not (tmp_path / "new").exists()


def test_what_the_registry_holds_itself_is_shown_without_files(
    copied: Settings, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(copied, monkeypatch)
    for words in (["show", "nano"], ["chains"]):
        assert chain.name in CliRunner().invoke(command_line.app, words).stdout


def test_a_copy_beside_the_first_one_is_read_but_not_added_to(
    copied: Settings,
    module_settings: Settings,
    chain: Chain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, folder = module_settings.tracking_uri, module_settings.artifact_dir
    before = sorted(folder.rglob("*"))
    registry = Registry(copied)
    assert registry.pull(chain.name, lm_step=16).version == 4
    assert registry.reports.has(chain.lm_name, "an analysis")
    assert not registry.reports.has("never tracked", "an analysis")
    told = (
        f"{copied.tracking_uri}: is a copy of .* go to {folder}, .* SAETRACK_TRACKING_URI={first},"
    )
    monkeypatch.setattr("saetrack.registry.opened_track.plan", None)  # work, as a reader sees it
    for asked in (QUESTIONS, {"chain": chain.name}):
        with pytest.raises(UserError, match=told):
            analyze_chains(load_analyze_config(asked), copied)
    with pytest.raises(UserError, match=told):
        open_track(load_config(NANO_TRACK), copied)
    with pytest.raises(UserError, match=told):
        registry.reports.log(chain.lm_name, "a report", tmp_path, metrics={}, facts={})
    set_environment(copied, monkeypatch)
    (tmp_path / "a.csv").write_text("feature,label\n0,token\n")
    monkeypatch.setattr(sys, "argv", ["saetrack", "agreement", chain.name, "a.csv"])
    assert command_line.run() == 2
    assert "is a copy of another registry" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_who_shares_a_folder_knowingly_may(
    copied: Settings, module_settings: Settings, chain: Chain, tmp_path: Path
) -> None:
    shared = copied.model_copy(update={"artifact_dir": module_settings.artifact_dir})
    Registry(shared).require_files(chain.lm_name, writes=True)
    link = tmp_path / "link"
    link.symlink_to(module_settings.artifact_dir.parent)
    linked = Settings(tracking_uri=f"sqlite:///{link}/mlflow.db", cache_dir=copied.cache_dir)
    Registry(linked).require_files(chain.lm_name, writes=True)
    with pytest.raises(UserError, match="is a copy of another registry"):
        Registry(copied).require_files(chain.lm_name, writes=True)


@pytest.fixture
def read_only(
    analysed: None, module_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Settings:
    """A registry that belongs to others; a superuser is not refused by modes of files."""
    access, place = os.access, module_settings.artifact_dir.parent

    def refused(path: Path, mode: int) -> bool:
        return not (mode & os.W_OK and Path(path).is_relative_to(place)) and access(path, mode)

    monkeypatch.setattr(os, "access", refused)
    monkeypatch.chdir(tmp_path)
    own = module_settings.model_copy(update={"cache_dir": tmp_path / "cache"})
    set_environment(own, monkeypatch)
    return own


@pytest.mark.parametrize(
    "words",
    [
        *(["chains"], ["show", "nano"], ["export", "nano", "--all", "--to", "new"]),
        *(["plan", "nano.yaml"], ["agreement", "nano", "a.csv"]),
    ],
    ids=lambda words: words[0],
)
def test_a_registry_that_cannot_be_written_is_read(
    words: list[str], read_only: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nano.yaml").write_text(yaml.safe_dump(NANO_TRACK))
    (tmp_path / "a.csv").write_text("feature,label\n0,token\n")
    before = sorted(read_only.artifact_dir.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["saetrack", *words])
    # `agreement` keeps what it finds.
    assert command_line.run() == (2 if words[0] == "agreement" else 0)
    assert sorted(read_only.artifact_dir.rglob("*")) == before


def test_what_would_write_to_it_says_so_before_any_work(
    read_only: Settings, chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("saetrack.registry.opened_track.plan", None)  # work, as a reader sees it
    folder = read_only.artifact_dir.parent
    refused = f"^SAETRACK_TRACKING_URI: {folder} is not writable; to write, name a registry of your"
    for asked in (QUESTIONS, {"chain": chain.name}):
        with pytest.raises(UserError, match=refused):
            analyze_chains(load_analyze_config(asked), read_only)
    with pytest.raises(UserError, match=refused):
        open_track(load_config(NANO_TRACK), read_only)
    with pytest.raises(UserError, match=refused):
        Registry.existing(read_only).require_files("results", writes=True)
