"""Commands that train and analyse: their result, their exit status, their one line."""

from __future__ import annotations

import errno
import json
import logging
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from mlflow.exceptions import MlflowException
from safetensors import SafetensorError

from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.chain.plan import Chain
from saetrack.cli import main as command_line
from saetrack.cli.analyze import base_of, tracks_of
from saetrack.registry import Registry
from saetrack.sae import files
from saetrack.training import loop
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK

Status = Callable[..., int]


@pytest.fixture
def nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of a user's own, in the folder of the command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano.yaml").write_text(yaml.safe_dump(NANO_TRACK))
    return "nano.yaml"


@pytest.fixture
def status(environment: None, monkeypatch: pytest.MonkeyPatch) -> Status:
    """The exit status of a command line."""

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["saetrack", *words])
        return command_line.run()

    return run


def test_a_track_is_trained_once_and_says_so(
    status: Status, nano: str, settings: Settings, chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("track", nano, "--json") == 0
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert result["trained_links"] == 4
    assert [(one["name"], one["links"]) for one in result["chains"]] == [(chain.name, 4)]
    assert "4 of 4 links done" in told.err, "progress does not mix with the result"
    assert len(Registry(settings).versions(chain)) == 4
    assert status("track", nano, "--quiet") == 0
    told = capsys.readouterr()
    assert f"0 links trained, 4 registered as {chain.name}" in told.out
    assert told.err == ""


def test_a_sweep_trains_one_track_after_another(
    status: Status, nano: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = [{"first": 0, "last": 1, "tokens": 1_024}]
    Path("sweep.yaml").write_text(
        yaml.safe_dump({"track": {"extends": nano, "schedule": schedule}, "over": {"seed": [0, 1]}})
    )
    assert status("sweep", "sweep.yaml", "--json") == 0
    assert list(json.loads(capsys.readouterr().out)) == ["seed=0", "seed=1"]
    assert len(Registry(settings).chains()) == 2
    assert status("sweep", "sweep.yaml", "--set", "over.layers=[[1], [9]]") == 2
    assert "error: layers=[9]: nano has layers 0 to 1" in capsys.readouterr().err


def test_ctrl_c_says_what_stays_and_how_to_go_on(
    status: Status, nano: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train_missing", interrupt)
    assert status("track", nano, "--set", "seed=1") == 130
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "finished links are registered, the one in training is saved every 0.1 s" in told
    assert "to go on: saetrack track nano.yaml --set seed=1" in told


def test_what_is_no_mistake_of_the_users_keeps_its_traceback(
    status: Status, nano: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(loop, "train_missing", fail)
    monkeypatch.setattr(sys, "argv", ["saetrack", "track", nano])
    with pytest.raises(RuntimeError, match="a bug"):
        command_line.run()  # Python then exits with 1


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
        MlflowException("(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT]"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_is_one_line_that_says_how_to_go_on(
    full: Exception,
    status: Status,
    nano: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(*_: object) -> None:
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(files, "save_file", write)
        assert status("track", nano, "-q") == 1
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("error: the disk of the registry, the cache or of temporary files")
    assert not any("Traceback" in line for line in told)


DATABASE = (
    "(sqlite3.OperationalError) {}\n[SQL: INSERT INTO runs]\n(Background: https://sqlalche.me)"
)


@pytest.mark.parametrize(
    ("failed", "line"),
    [
        (
            MlflowException(DATABASE.format("attempt to write a readonly database")),
            r"the registry's database \(SAETRACK_TRACKING_URI=.*db\): attempt to write a readonly",
        ),
        (
            MlflowException(DATABASE.format("disk I/O error")),
            "the registry's database .*: disk I/O",
        ),
        (
            sqlite3.OperationalError("unable to open database file"),
            "the registry's database .*: un",
        ),
        (
            OSError(errno.EFBIG, "File too large", "/cache/a"),
            "/cache/a: File too large; check that",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/b"), "/b: Permission denied; check"),
        (
            OSError(errno.EROFS, "Read-only file system"),
            "a file of the registry or the cache: Read",
        ),
        (OSError(errno.EIO, "Input/output error"), "a file of the registry or the cache: Input"),
        (
            SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
            "a file of the registry or the cache: File too large",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_machine_refuses_is_one_line_that_says_what_to_do(
    failed: Exception,
    line: str,
    status: Status,
    nano: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        try:
            raise failed
        except Exception as error:
            raise RuntimeError("what a library makes of it") from error

    monkeypatch.setattr(loop, "train_missing", fail)
    assert status("track", nano, "-q") == 1
    told = capsys.readouterr().err
    assert re.match(f"error: {line}", told) and told.count("\n") == 1, told
    assert told.endswith("then run the same command again: it goes on from what was saved\n")
    page = logging.getLogger("mlflow.store.db.utils")
    assert not page.isEnabledFor(logging.ERROR), "MLflow would print its own traceback before"
    assert status("track", nano, "--verbose") == 1
    told = capsys.readouterr().err
    assert "Traceback" in told and told.splitlines()[-1].startswith("error: "), "for who asks"


def test_paths_of_a_config_elsewhere_count_from_the_commands_folder(
    status: Status, nano: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("my-texts").mkdir()
    Path("below").mkdir()
    monkeypatch.chdir("below")
    monkeypatch.setattr(loop, "train_missing", None)  # it is said before that
    for change in ("corpus.dataset=./my-texts", "model=./my-lm"):
        for command in ("track", "plan"):
            assert status(command, "../nano.yaml", "--set", change) == 2
            told = capsys.readouterr().err
            assert f"counts from the folder of the command, {Path.cwd()}, not from the c" in told


def test_an_analysis_with_controls_trains_them_first(
    status: Status, nano: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from saetrack.analysis.pipeline import analyze

    Path("study.yaml").write_text(
        yaml.safe_dump(
            {
                "track": nano,
                "controls": {
                    "second seed": {"role": "replicate", "track": {"extends": nano, "seed": 1}}
                },
            }
        )
    )
    done: list[object] = []
    monkeypatch.setattr(
        "saetrack.cli.analyze.train_here", lambda config: done.append(("train", config.seed))
    )

    def open_analyses(config: AnalyzeConfig, _: Settings) -> SimpleNamespace:
        done.append(tracks_of(config, base_of(config)))
        return SimpleNamespace(run=lambda: ["analysed"], runs=list)

    monkeypatch.setattr(analyze, "open_analyses", open_analyses)
    assert status("analyze", "study.yaml", "--with-controls", "--json") == 0
    assert done[:2] == [("train", 0), ("train", 1)]
    assert len(done) == 3, "the analysis comes last"
    assert json.loads(capsys.readouterr().out) == {"done": ["analysed"], "runs": []}
    del done[:]
    assert status("analyze", "study.yaml") == 0
    assert len(done) == 1, "without the option nothing is trained"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["track", "pythia-9b"], "track='pythia-9b': no such preset; there are mini, mini-"),
        (["track", "none.yaml"], r"track='none.yaml': cannot be read \(No such file"),
        (["track", "mini", "--set", "sead=1"], "sead=1: unknown name"),
        (["track", "mini", "--set", "seed=x"], "seed='x': input should be a valid integer"),
        (["track", "mini", "--set", "seed"], "--set 'seed': must be NAME=VALUE"),
        (["track", "mini", "--set", "layers=[9]"], r"layers=\[9\]: mini has layers 0 to 3"),
        (["compare", "mini", "--set", "seeds=[0]"], "seeds="),
        (["compare", "mini", "--set", "seeds=[0, 0]"], r"seeds=\[0, 0\]: must be different"),
        (["families", "no-such-lm", "--json"], "no-such-lm"),
        (
            ["analyze", "gpt"],
            "analyze='gpt': no such preset, and no such .* no chain is registered",
        ),
        (["analyze", "mini", "gpt"], "track='gpt': no such preset, and no such registered chain"),
        (
            ["analyze", "mini", "--set", "controls={a: own.yaml}"],
            r"controls.a='own.yaml': must be \{role: noise, replicate or order, track: ",
        ),
        (
            ["analyze", "mini", "--with-controls", "--set", "track.layers=[3]"],
            r"controls.still random LM.track: layers=\[2\]: must have a hook .* layers=\[3\]",
        ),
        (["sweep", "mini", "--set", "over.sead=[0]"], "sead: no field of a track"),
        (["track"], "Missing argument 'NAME-OR-FILE'"),
        (["trak"], "No such command 'trak'"),
        (["track", "mini", "--sett"], "No such option"),
    ],
)
def test_a_mistake_is_one_line(
    status: Status, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert status(*words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert re.search(line, told.err), told.err


KINDS_OF_FILE = {
    "track": NANO_TRACK,
    "compare": {"track": "nano.yaml", "seeds": [0, 1]},
    "analyze": {"extends": "mini", "controls": {}},
    "sweep": {"track": "nano.yaml", "over": {"seed": [0, 1]}},
}


@pytest.mark.parametrize("command", ["track", "plan", "compare", "analyze", "sweep"])
def test_a_file_for_another_command_is_told_which(
    status: Status, nano: str, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for kind, values in KINDS_OF_FILE.items():
        if kind == ("track" if command == "plan" else command):
            continue
        if (kind, command) == ("track", "analyze"):
            continue  # an analysis of that track
        Path("study.yaml").write_text(yaml.safe_dump(values))
        assert status(command, "study.yaml") == 2
        told = capsys.readouterr().err
        assert told.endswith(f": give it to `saetrack {kind}`\n"), (kind, told)
        assert told.startswith("error: study.yaml: its fields (") and told.count("\n") == 1
    Path("study.yaml").write_text("trak: nano.yaml")
    assert status(command, "study.yaml") == 2
    assert "trak=" in capsys.readouterr().err, "what fits no command is a mistake in writing"


def test_bad_settings_are_one_line(
    status: Status, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAETRACK_DEVICE", "tpu")
    assert status("track", "mini") == 2
    assert "SAETRACK_DEVICE='tpu'" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from saetrack.cli import main; from typer.testing import CliRunner\n"
        "for words in (['--help'], ['track', '--help']):\n"
        "    assert CliRunner().invoke(main.app, words).exit_code == 0\n"
        "heavy = {'torch', 'pandas', 'numpy', 'mlflow', 'transformers', 'prefect'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_shells_complete_presets_and_chains(
    status: Status, registry: Registry, chain: Chain
) -> None:
    from saetrack.cli.options import _complete_chain, _complete_preset

    assert _complete_preset("compare")("py") == ["pythia-410m"]
    assert _complete_chain("no such") == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("corpus.exclude_tokens=[zzzzqq]", "corpus.exclude_tokens='zzzzqq': must be one token"),
        ("start=foo", "start='foo': no such SAE was imported"),
        ("corpus={dataset: ./own.txt, text_field: foo}", "corpus.text_field='foo': means nothing"),
        ("corpus={dataset: ./own.jsonl, separator: x}", "corpus.separator='x': means nothing"),
        ("corpus.exclude_first_positions=32", "corpus.exclude_first_positions=32: must be less"),
        ("model=./nope", "model='./nope': no such folder"),
        ("batch_token=3", "batch_token=3: unknown name; did you mean batch_tokens,"),
        ("corpus.dataset=./own.txt", "corpus.train_tokens=16384: at most "),
        ("corpus.dataset=./rows.jsonl", "corpus.dataset='./rows.jsonl': rows.jsonl: line 2: its"),
        ("schedule=[{first: 6, last: 6, tokens: 9}]", "schedule: nano has no checkpoint 6; it has"),
        ("sae={architecture: topk, k: 65}", "sae.k=65: must be at most d_sae=64"),
    ],
)
def test_a_plan_refuses_what_a_track_refuses(
    status: Status, nano: str, capsys: pytest.CaptureFixture[str], change: str, line: str
) -> None:
    Path("own.txt").write_text("one\n\ntwo\n")
    Path("own.jsonl").write_text('{"text": "one"}\n')
    Path("rows.jsonl").write_text('{"text": "one"}\n{"text": null}\n')
    said = []
    for command in ("plan", "track"):
        assert status(command, nano, "--set", change) == 2
        said.append(capsys.readouterr().err)
    of_plan, of_track = (told.splitlines()[-1] for told in said)
    assert of_plan.startswith(f"error: {line}")
    assert of_plan == of_track


def test_a_chain_that_runs_backward_says_so(
    status: Status, nano: str, capsys: pytest.CaptureFixture[str]
) -> None:
    backward = "schedule=[{first: 3, last: 1, tokens: 512}]"
    assert status("plan", nano, "--set", backward) == 0
    assert "3 over 3 checkpoints, from LM step 4 back to 1;" in capsys.readouterr().out
    assert status("track", nano, "--set", backward) == 0
    assert "schedule: backward, from LM step 4 to 1\n" in capsys.readouterr().err


def test_a_plan_warns_of_what_has_hardly_an_effect(
    status: Status, nano: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change = "first_link={learning_rate: 1.0e-3, warmup_steps: 5000}"
    assert status("plan", nano, "--set", change) == 0
    assert (
        "warning          first_link.warmup_steps=5,000: a link of 8,192 tokens has 32 steps"
        in (capsys.readouterr().out)
    )
