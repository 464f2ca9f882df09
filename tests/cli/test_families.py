"""`saetrack families`: what a person sees of the catalogue and of the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from saetrack.cli.main import app
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.utils.errors import UserError
from tests.support.hub_cache import put_in_hub_cache


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a hub cache, a cache and a file of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAETRACK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SAETRACK_MODELS_FILE", str(tmp_path / "models.yaml"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "models.yaml").write_text(
        "models:\n  - name: my-lm\n    repo: me/my-lm\n    revision: step{lm_step}\n"
    )
    return tmp_path


def publish(home: Path, repo: str, revision: str) -> None:
    files = {"config.json": b"{}", "model.safetensors": revision.encode()}
    put_in_hub_cache(home / "hub", repo, revision, files)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["families", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def row(output: str, name: str) -> list[str]:
    """An LM's; where its family has the same name, the second one."""
    return [line for line in output.splitlines() if line.strip().startswith(f"{name} ")][-1].split()


def test_the_table_tells_of_each_lm_what_is_here(home: Path) -> None:
    for revision in ("step0", "step1000", "main"):  # main is none of Pythia's checkpoints
        publish(home, "EleutherAI/pythia-160m-deduped", revision)
    publish(home, "allenai/OLMo-1B-hf", "step1000-tokens4B")
    publish(home, "allenai/OLMo-1B-hf", "main")
    put_in_hub_cache(home / "hub", "facebook/opt-125m", "main", {"config.json": b"{}"})
    output = run()
    name = "pythia-160m[-deduped]"
    repo = "EleutherAI/pythia-160m[-deduped]"
    assert row(output, name) == [
        *(name, repo, "154", "2", "12", "x", "768", "4", "centred", "0.45", "0.65")
    ]
    assert row(output, "olmo-1b")[1:6] == ["allenai/OLMo-1B-hf", "on", "the", "hub", "1"]
    assert row(output, "amber")[2:4] == ["360", "-"]
    assert row(output, "opt-125m")[2:5] == ["final", "only", "-"]
    assert row(output, "olmo-2-1b")[-3] == "raw"
    assert row(output, "crystal")[-4:-2] == ["not", "loaded"]
    assert "pythia-160m-seed1 to -seed9" in output
    assert row(output, "mini")[1:3] == ["29", "-"]
    assert row(output, "my-lm")[1:6] == ["me/my-lm", "on", "the", "hub", "-"]


def test_embedded_lms_are_counted_too(
    home: Path, source: CheckpointSource, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAETRACK_CACHE_DIR", str(cache_dir))
    assert row(run(), "nano")[1:3] == ["6", "6"]


def test_an_lm_by_its_name(home: Path) -> None:
    output = run("pythia-410m")
    for fact in ("blocks.4.hook_resid_pre", "0 to 143,000", "24 x 1024", "apache-2.0", "the Pile"):
        assert fact in output
    assert "only its final" not in output
    assert "no checkpoints of its training are public" in run("gemma-2-2b")
    assert "needs code of its repository" in run("crystal")


def test_a_family_by_its_name(home: Path) -> None:
    output = run("olmo-2")
    assert "olmo-2-13b" in output
    assert "pythia" not in output
    assert "stage1-step{lm_step}-tokens*B, as the hub lists them" in output


def test_a_list_is_renewed_and_shown(home: Path) -> None:
    assert "not known here" in run("my-lm").replace("\n", " ")
    publish(home, "me/my-lm", "step5")
    publish(home, "me/my-lm", "step1")
    assert row(run("my-lm"), "checkpoints") == ["checkpoints", "2"]
    publish(home, "me/my-lm", "step9")
    lines = run("my-lm", "--checkpoints").splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["0", "1", "step1"],
        ["1", "5", "step5"],
        ["2", "9", "step9"],
    ]


def test_mistakes_are_one_line(home: Path) -> None:
    for arguments, line in [
        (["pythia-17b"], "model='pythia-17b': not in the catalogue.*pythia-1"),
        (["--checkpoints"], "--checkpoints: of which LM"),
        (["my-lm", "--checkpoints"], "model: me/my-lm: which checkpoints it has is not known here"),
    ]:
        with pytest.raises(UserError, match=line) as caught:
            run(*arguments)
        assert "\n" not in str(caught.value)
