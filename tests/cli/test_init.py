"""`saetrack init`: a config that `plan` and `track` take as it is, for the text that it names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from saetrack.chain.config import load_config
from saetrack.cli.main import app
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.training.prepare import prepare
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.tiny_lm import tiny_llama

TEXT = "The parser reads a line, and the line has a name.\n"


@pytest.fixture
def my_lm(
    environment: None, source: CheckpointSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A folder of two checkpoints of a Llama, in the folder of the command."""
    monkeypatch.chdir(tmp_path)
    tokenizer, _ = source.tokenizer()
    for step in (0, 10):
        tiny_llama(len(tokenizer), seed=step).save_pretrained(f"my-lm/checkpoint-{step}")
        tokenizer.save_pretrained(f"my-lm/checkpoint-{step}")
    return "my-lm"


def write_text(n_documents: int) -> None:
    rows = [json.dumps({"text": f"{number}. {TEXT * 3}"}) for number in range(n_documents)]
    Path("text.jsonl").write_text("\n".join(rows))


def says(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_a_short_text_is_taken_whole(my_lm: str, settings: Settings) -> None:
    write_text(400)
    done = says("init", "a.yaml", "--model", my_lm, "--text", "text.jsonl", "-y")
    assert done.exit_code == 0, done.output
    config = load_config(yaml.safe_load(Path("a.yaml").read_text()))
    assert config.model == "./my-lm", "the folder, though no slash was written"
    corpus = config.corpus
    assert 0 < corpus.held_out_tokens < corpus.analysis_tokens < corpus.train_tokens < 100_000
    assert f"train_tokens {corpus.train_tokens:,}, held_out_tokens" in done.output
    assert config.evaluation.ce_tokens == corpus.held_out_tokens
    assert [piece.tokens for piece in config.pieces] == [
        4 * corpus.train_tokens,
        min(4 * corpus.train_tokens, 60_000),
    ]
    planned = says("plan", "a.yaml")
    assert planned.exit_code == 0, planned.output
    prepared = prepare(config, settings)
    for split in ("train", "held_out", "analysis"):
        rows = prepared.track.chains[0].corpus.rows(split)  # type: ignore[arg-type]
        assert rows.size == getattr(corpus, f"{split}_tokens")


def test_a_text_of_too_few_documents_is_refused_before_anything_is_written(my_lm: str) -> None:
    write_text(2)
    done = says("init", "a.yaml", "--model", "./my-lm", "--text", "text.jsonl", "-y")
    assert isinstance(done.exception, UserError)
    assert "Give more documents, or shorter ones" in str(done.exception)
    assert not Path("a.yaml").exists()


def test_a_folder_is_told_to_a_config_that_names_it_alone(my_lm: str) -> None:
    done = says("plan", "mini", "--set", f"model={my_lm}")
    line = "model='my-lm': not in the catalogue; for the folder of that name write ./my-lm"
    assert str(done.exception) == line
    Path("nano").mkdir()
    assert says("plan", "mini", "--set", "model=nano", "--set", "layers=[1]").exit_code != 0
    done = says("init", "b.yaml", "--model", "nano", "-y")
    assert yaml.safe_load(Path("b.yaml").read_text())["model"] == "nano", "the catalogue has it"


def test_a_folder_of_an_odd_name_is_read_back(my_lm: str) -> None:
    Path(my_lm).rename("my lm: #2")
    write_text(400)
    done = says("init", "a.yaml", "--model", "my lm: #2", "--text", "text.jsonl", "-y")
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(Path("a.yaml").read_text())["model"] == "./my lm: #2"


def test_a_folder_that_may_still_grow_has_a_schedule_without_end(my_lm: str) -> None:
    words = ("--model", my_lm, "--text", "mini", "-y")
    assert says("init", "young.yaml", *words).exit_code == 0
    content = Path("young.yaml").read_text()
    assert load_config(yaml.safe_load(content)).pieces[-1].last is None
    assert "# last: null takes those that are still to come" in content
    for path in Path(my_lm).iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    assert says("init", "old.yaml", *words).exit_code == 0
    content = Path("old.yaml").read_text()
    assert load_config(yaml.safe_load(content)).pieces[-1].last == 1
    assert "last: null" not in content
