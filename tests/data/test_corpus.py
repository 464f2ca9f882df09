"""Rows of a corpus: made once, of the sizes asked for, no row in two splits."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saetrack.data import corpus as corpus_module
from saetrack.data.config import CorpusConfig
from saetrack.data.corpus import Corpus, prepare_corpus
from saetrack.data.splits import SPLITS, split_of
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


SMALL = {"context_size": 16, "train_tokens": 1_600, "held_out_tokens": 160, "analysis_tokens": 160}


def words(n_documents: int, of_each: int = 40) -> list[str]:
    return [" ".join(f"word{(i * j) % 97}" for j in range(of_each)) for i in range(n_documents)]


def text_file(folder: Path, documents: list[str], end: str = "\n\n") -> Path:
    path = folder / "text.txt"
    path.write_text(end.join(documents))
    return path


def test_one_large_text_is_cut_into_documents_of_all_splits(
    tmp_path: Path, source: CheckpointSource
) -> None:
    path = text_file(tmp_path, words(200))
    config = CorpusConfig(dataset=str(path), **SMALL)
    corpus = prepare_corpus(config, *source.tokenizer(), tmp_path / "cache")
    assert {split: len(corpus.rows(split)) for split in SPLITS} == {
        "train": 100,
        "held_out": 10,
        "analysis": 10,
    }


def test_too_little_text_says_what_each_split_got_why_and_how_much_is_needed(
    tmp_path: Path, source: CheckpointSource
) -> None:
    path = text_file(tmp_path, words(60))
    config = CorpusConfig(dataset=str(path), **{**SMALL, "train_tokens": 100_000})
    with pytest.raises(UserError) as caught:
        prepare_corpus(config, *source.tokenizer(), tmp_path / "cache")
    told = str(caught.value)
    found = re.search(r"train ([\d,]+) of 100,000 tokens from (\d+) documents", told)
    assert found, told
    tokens, documents = int(found[1].replace(",", "")), int(found[2])
    assert documents == [split_of(document) for document in words(60)].count("train")
    assert "Of its 60 documents 80 % are for train, 5 % for held_out and 15 % for analysis" in told
    assert f"Give about {100_000 / tokens:,.1f} times as much text" in told
    assert not list((tmp_path / "cache" / "corpora").iterdir())


def test_one_document_says_that_there_must_be_more(
    tmp_path: Path, source: CheckpointSource
) -> None:
    path = text_file(tmp_path, words(60), end="\n")
    config = CorpusConfig(dataset=str(path), **SMALL)
    with pytest.raises(UserError, match=r"Of its 1 documents .* Give more documents, or shorter"):
        prepare_corpus(config, *source.tokenizer(), tmp_path / "cache")


KILLED = """
import os, signal, sys
from pathlib import Path
from saetrack.data import corpus, draft
from saetrack.data.config import CorpusConfig
from transformers import PreTrainedTokenizerFast

draft.SAVE_EVERY_S = 0
batches = corpus.tokenised
def until_killed(*args):
    for number, batch in enumerate(batches(*args)):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
corpus.tokenised = until_killed
config = CorpusConfig.model_validate_json(sys.argv[1])
tokenizer = PreTrainedTokenizerFast(tokenizer_file=sys.argv[2], bos_token="<|endoftext|>")
corpus.prepare_corpus(config, tokenizer, "a tokenizer", Path(sys.argv[3]))
"""


def test_a_killed_tokenisation_goes_on_where_it_was_and_leaves_nothing(
    tmp_path: Path,
    source: CheckpointSource,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer, _ = source.tokenizer()
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    path = text_file(tmp_path, words(2_000))
    wanted = {**SMALL, "train_tokens": 160_000}
    config = CorpusConfig(dataset=str(path), **wanted)
    cache = tmp_path / "cache"
    arguments = [config.model_dump_json(), str(tmp_path / "tokenizer.json"), str(cache)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    (draft,) = (cache / "corpora").iterdir()
    assert draft.name.startswith(".partial-")
    (draft / "train.u32").open("ab").write(b"a row that is not wh")
    documents_read = []
    tokenise = corpus_module.tokenised

    def counted(*args: Any) -> Any:
        for batch in tokenise(*args):
            documents_read.extend(batch)
            yield batch

    monkeypatch.setattr(corpus_module, "tokenised", counted)
    caplog.set_level("INFO")
    resumed = prepare_corpus(config, tokenizer, "a tokenizer", cache)
    assert "tokenising goes on after" in caplog.text
    n_resumed = len(documents_read)
    assert n_resumed
    whole = prepare_corpus(config, tokenizer, "a tokenizer", tmp_path / "another cache")
    assert n_resumed < len(documents_read) - n_resumed, "it must not have started over"
    assert resumed.sha256 == whole.sha256
    assert [file.name for file in (cache / "corpora").iterdir()] == [resumed.folder.name]
    assert sorted(file.name for file in resumed.folder.iterdir()) == sorted(
        file.name for file in whole.folder.iterdir()
    )


def test_drafts_that_nobody_goes_on_with_are_deleted(
    tmp_path: Path, source: CheckpointSource
) -> None:
    corpora = tmp_path / "cache" / "corpora"
    for name, age_s in ((".partial-old", 2 * 86_400), (".partial-young", 60)):
        (corpora / name).mkdir(parents=True)
        (corpora / name / "train.u32").write_bytes(b"1234")
        for path in (corpora / name / "train.u32", corpora / name):
            os.utime(path, (time.time() - age_s,) * 2)
    config = CorpusConfig(dataset=str(text_file(tmp_path, words(200))), **SMALL)
    corpus = prepare_corpus(config, *source.tokenizer(), tmp_path / "cache")
    assert {path.name for path in corpora.iterdir()} == {".partial-young", corpus.folder.name}


def test_a_second_process_waits_for_the_first(tmp_path: Path, source: CheckpointSource) -> None:
    config = CorpusConfig(dataset=str(text_file(tmp_path, words(200))), **SMALL)
    with ThreadPoolExecutor() as pool:
        tokenizers = [source.tokenizer() for _ in range(4)]
        made = list(
            pool.map(lambda of: prepare_corpus(config, *of, tmp_path / "cache"), tokenizers)
        )
    assert len({corpus.sha256 for corpus in made}) == 1
    assert len(list((tmp_path / "cache" / "corpora").iterdir())) == 1


def test_empty_documents_and_documents_of_one_token_are_packed_like_others(
    tmp_path: Path, source: CheckpointSource
) -> None:
    tokenizer, tokenizer_id = source.tokenizer()
    (letter,) = tokenizer("c", add_special_tokens=False)["input_ids"]
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in words(200)))
    config = CorpusConfig(dataset=str(path), **SMALL)
    path.write_text('{"text": ""}\n{"text": "c"}\n' * 200 + path.read_text())
    rows = prepare_corpus(config, tokenizer, tokenizer_id, tmp_path / "cache").rows
    bos = tokenizer.bos_token_id
    assert (split_of(""), split_of("c")) == ("train", "analysis")
    assert (rows("train")[:12] == bos).all()
    assert (rows("analysis") == [bos, letter] * 8).all()


def test_a_tokenizer_without_bos_begins_with_eos_and_one_without_both_is_refused(
    tmp_path: Path, source: CheckpointSource
) -> None:
    tokenizer = copy.deepcopy(source.tokenizer()[0])
    config = CorpusConfig(dataset=str(text_file(tmp_path, words(200))), **SMALL)
    tokenizer.bos_token, tokenizer.eos_token = None, "a"
    corpus = prepare_corpus(config, tokenizer, "no BOS", tmp_path / "cache")
    assert corpus.bos_token_id == tokenizer.convert_tokens_to_ids("a")
    assert (corpus.rows("train")[:, 0] == corpus.bos_token_id).all()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="neither a BOS nor an EOS token"):
        prepare_corpus(config, tokenizer, "neither", tmp_path / "cache")


@pytest.mark.parametrize("special_tokens", ["kept", "removed"])
def test_special_tokens_of_a_chat_are_kept_or_removed(
    tmp_path: Path, source: CheckpointSource, special_tokens: Any
) -> None:
    tokenizer = copy.deepcopy(source.tokenizer()[0])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    marks = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    chats = [f"<|im_start|>user {text}<|im_end|>" for text in words(200)]
    path = text_file(tmp_path, chats)
    config = CorpusConfig(dataset=str(path), special_tokens=special_tokens, **SMALL)
    rows = prepare_corpus(config, tokenizer, "chat", tmp_path / "cache").rows("train")
    assert np.isin(rows, marks).any() == (special_tokens == "kept")
    assert (rows[:, 0] == tokenizer.bos_token_id).all()


def test_excluded_tokens_and_first_positions_are_named_and_counted(
    tmp_path: Path, source: CheckpointSource, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer, tokenizer_id = source.tokenizer()
    caplog.set_level("INFO")
    letter = tokenizer.convert_tokens_to_ids("w")
    common = CorpusConfig(dataset=str(text_file(tmp_path, words(200))), **SMALL)
    plain = prepare_corpus(common, tokenizer, tokenizer_id, tmp_path / "cache")
    assert "left out" not in caplog.text
    chosen = common.model_copy(
        update={"exclude_tokens": (5, "w"), "exclude_first_positions": 2, "exclude_bos": True}
    )
    corpus = prepare_corpus(chosen, tokenizer, tokenizer_id, tmp_path / "cache")
    assert corpus.folder == plain.folder, "what is left out changes no token"
    tokens = torch.from_numpy(corpus.rows("train").astype(np.int64))
    kept = corpus.kept(tokens, exclude_bos=True)
    left_out = np.isin(tokens, [5, letter, corpus.bos_token_id])
    left_out[:, :2] = True
    assert np.array_equal(kept, ~left_out)
    share = 100 * left_out.mean()
    assert (
        f"{left_out.sum():,} of {left_out.size:,} training positions ({share:.1f} %)" in caplog.text
    )
    assert f"'{tokenizer.decode([corpus.bos_token_id])}' 1" in caplog.text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"exclude_tokens": ("word1 word2",)},
            r"'word1 word2': must be one token .* is \d+ tokens",
        ),
        ({"exclude_tokens": (10**6,)}, r"exclude_tokens=1000000: .* has ids 0 to \d+"),
        ({"exclude_tokens": tuple(range(300))}, r"exclude_tokens: leave nothing of the text"),
    ],
)
def test_what_cannot_be_excluded_is_one_line(
    tmp_path: Path, source: CheckpointSource, changes: dict[str, Any], reason: str
) -> None:
    path = text_file(tmp_path, ["a b c d e f g h " * 9 + str(i) for i in range(300)])
    config = CorpusConfig(dataset=str(path), **SMALL, **changes)
    tokenizer, tokenizer_id = source.tokenizer()
    if len(changes.get("exclude_tokens", ())) == 300:
        config = config.model_copy(update={"exclude_tokens": tuple(range(len(tokenizer)))})
    with pytest.raises(UserError, match=reason):
        prepare_corpus(config, tokenizer, tokenizer_id, tmp_path / "cache")
