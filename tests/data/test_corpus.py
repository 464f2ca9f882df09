"""Rows of a corpus: made once, of the sizes asked for, no row in two splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from saetrack.data.config import CorpusConfig
from saetrack.data.corpus import Corpus, prepare_corpus
from saetrack.data.splits import SPLITS
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.utils.errors import UserError


def test_every_row_begins_with_bos_and_has_the_size_asked_for(
    corpus: Corpus, config_tokens: dict[str, int]
) -> None:
    for split in SPLITS:
        rows = corpus.rows(split)
        assert isinstance(rows, np.memmap)
        assert rows.shape == (config_tokens[split] // 32, 32)
        assert (rows[:, 0] == corpus.bos_token_id).all()


@pytest.fixture
def config_tokens() -> dict[str, int]:
    return {"train": 16_384, "held_out": 2_048, "analysis": 2_048}


def test_splits_share_no_row(corpus: Corpus) -> None:
    seen = {split: {row.tobytes() for row in corpus.rows(split)} for split in SPLITS}
    assert not seen["train"] & seen["held_out"]
    assert not seen["train"] & seen["analysis"]
    assert not seen["held_out"] & seen["analysis"]


def jsonl(path: Path, n_documents: int) -> None:
    words = ["alpha", "beta", "gamma", "delta", "import", "return", "value"]
    lines = [
        json.dumps({"text": " ".join(words[(i * j) % 7] for j in range(60)) + f" {i}"})
        for i in range(n_documents)
    ]
    path.write_text("\n".join(lines))


def test_local_files_are_read_once_and_found_again(
    tmp_path: Path, source: CheckpointSource
) -> None:
    jsonl(tmp_path / "some.jsonl", 300)
    config = CorpusConfig(
        dataset=str(tmp_path / "some.jsonl"),
        context_size=16,
        train_tokens=4_000,
        held_out_tokens=160,
        analysis_tokens=160,
    )
    first = prepare_corpus(config, *source.tokenizer(), tmp_path / "cache")
    written = (first.folder / "train.u32").stat().st_mtime_ns
    again = prepare_corpus(config, *source.tokenizer(), tmp_path / "cache")
    assert first == again
    assert (again.folder / "train.u32").stat().st_mtime_ns == written
    jsonl(tmp_path / "some.jsonl", 301)  # other text must not be taken for the cached one
    other = prepare_corpus(config, *source.tokenizer(), tmp_path / "cache")
    assert other.folder != first.folder


def test_plain_text_files_are_read(tmp_path: Path, source: CheckpointSource) -> None:
    for index in range(200):
        (tmp_path / f"{index}.txt").write_text(f"document {index}\n" + "some words here. " * 20)
    config = CorpusConfig(
        dataset=str(tmp_path),
        context_size=16,
        train_tokens=1_600,
        held_out_tokens=32,
        analysis_tokens=32,
    )
    corpus = prepare_corpus(config, *source.tokenizer(), tmp_path / "cache")
    assert corpus.rows("train").shape == (100, 16)


def test_too_little_text_says_how_much_there_is(tmp_path: Path, source: CheckpointSource) -> None:
    jsonl(tmp_path / "few.jsonl", 40)
    config = CorpusConfig(
        dataset=str(tmp_path / "few.jsonl"),
        context_size=16,
        train_tokens=10**6,
        held_out_tokens=16,
        analysis_tokens=16,
    )
    with pytest.raises(UserError, match=r"corpus.train_tokens=1000000: at most \d+ can be had"):
        prepare_corpus(config, *source.tokenizer(), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.u32")), "a failed corpus must leave nothing"


def test_a_hub_dataset_out_of_reach_is_one_line(tmp_path: Path, source: CheckpointSource) -> None:
    config = CorpusConfig(dataset="pile", context_size=32)
    with pytest.raises(UserError, match=r"corpus.dataset='pile': cannot be read: .+") as caught:
        prepare_corpus(config, *source.tokenizer(), tmp_path)
    assert "\n" not in str(caught.value)
