"""Text of this machine: every kind of file, and what is wrong with one in one line."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import csv, ipc, parquet

from saetrack.data.config import CorpusConfig
from saetrack.data.datasets import (
    Documents,
    dataset_version,
    describe_dataset,
    hub_repo,
    require_dataset,
)
from saetrack.utils.errors import UserError

TEXTS = ["one", 'zwei, "drei"\nvier', "fünf", ""]


def config(path: Path, **fields: Any) -> CorpusConfig:
    return CorpusConfig(dataset=str(path), **fields)


def documents(path: Path, **fields: Any) -> list[str]:
    return list(Documents(config(path, **fields)))


def refusal(path: Path, **fields: Any) -> str:
    with pytest.raises(UserError) as caught:
        documents(path, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def write_table(path: Path, kind: str, texts: list[str]) -> None:
    table = pa.table({"id": list(range(len(texts))), "text": texts})
    if kind == ".jsonl":
        path.write_text(as_lines(*table.to_pylist()))
    elif kind == ".json":
        path.write_text(json.dumps(table.to_pylist(), indent=1))
    elif kind == ".csv":
        csv.write_csv(table, str(path))
    elif kind == ".parquet":
        parquet.write_table(table, path)
    else:
        with ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".parquet", ".arrow"])
def test_tables_are_read_packed_or_not(tmp_path: Path, kind: str, packing: str) -> None:
    plain = tmp_path / f"plain{kind}"
    write_table(plain, kind, TEXTS)
    path = tmp_path / f"some{kind}{packing}"
    if packing == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    elif packing == ".zst":
        path.write_bytes(pa.compress(plain.read_bytes(), codec="zstd", asbytes=True))
    else:
        plain.rename(path)
    assert documents(path) == TEXTS


def test_both_of_arrows_formats_are_read(tmp_path: Path) -> None:
    table = pa.table({"text": TEXTS})
    with ipc.new_file(str(tmp_path / "some.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    assert documents(tmp_path / "some.arrow") == TEXTS


def test_files_of_json_may_hold_one_object_or_lines(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps({"text": "one"}, indent=2))
    (tmp_path / "two.json").write_text(as_lines({"text": "two"}, {"text": "three"}))
    assert documents(tmp_path) == ["one", "two", "three"]


def test_a_folder_may_mix_kinds_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "a.md").write_text("# Title\n\nText.\n")
    (tmp_path / "b.txt").write_text("more")
    write_table(tmp_path / "deeper" / "c.parquet", ".parquet", ["of a table"])
    (tmp_path / ".hidden.txt").write_text("not this")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert documents(tmp_path) == ["# Title\n\nText.\n", "more", "of a table"]
    assert "1 .md, 1 .parquet, 1 .txt" in describe_dataset(config(tmp_path))


def test_a_text_file_that_stands_alone_is_cut_at_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes("\ufeffone\r\nstill one\r\n \t\r\n\r\n\r\ntwo\r\n".encode())
    assert documents(path) == ["one\nstill one", "two"]
    assert documents(path, separator="still") == ["one", " one\n \t\n\n\ntwo"]
    (tmp_path / "other.txt").write_text("three\n\nstill three\n")
    assert documents(tmp_path)[1:] == ["three\n\nstill three\n"], "one of several is one document"


def test_a_separator_may_stand_anywhere_and_span_lines(tmp_path: Path) -> None:
    path = tmp_path / "stories.txt"
    path.write_text("one<|end|>two\n<|end|>\n\n<|end|>thr\n\nee")
    assert documents(path, separator="<|end|>") == ["one", "two", "thr\n\nee"]
    path.write_text("one\n---\ntwo\n--\n---\nthree")
    assert documents(path, separator="\n---\n") == ["one", "two\n--", "three"]


def test_cutting_a_large_file_takes_time_linear_in_it(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"

    def read_s(megabytes: int, **fields: Any) -> float:
        path.write_text("word " * (200_000 * megabytes) + "\n" + "a line\n" * 150_000 * megabytes)
        began_s = time.process_time()
        list(Documents(config(path, **fields)))
        return time.process_time() - began_s

    for fields in ({}, {"separator": "<|end|>"}):
        short_s = min(read_s(1, **fields) for _ in range(3))
        assert read_s(10, **fields) < 40 * short_s + 0.2


def test_a_folder_of_save_to_disk_is_read(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"id": [1, 2], "text": ["one", "two"]})
    rows.save_to_disk(str(tmp_path / "plain"))
    assert documents(tmp_path / "plain") == ["one", "two"]
    both = datasets.DatasetDict(train=rows, test=rows.select([1]))
    both.save_to_disk(str(tmp_path / "splits"))
    assert documents(tmp_path / "splits", split="test") == ["two"]
    assert "its splits are test, train" in refusal(tmp_path / "splits", split="validation")
    assert "the fields are id, text" in refusal(tmp_path / "plain", text_field="content")
    assert dataset_version(config(tmp_path / "plain")) != dataset_version(
        config(tmp_path / "splits")
    )


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".parquet", ".arrow"])
def test_a_missing_field_names_file_and_fields_before_any_work(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"some{kind}"
    write_table(path, kind, TEXTS)
    with pytest.raises(UserError, match=r"has no field 'content'.*; the fields are id, text") as no:
        require_dataset(config(path, text_field="content"))
    assert f"some{kind}: " in str(no.value)
    assert documents(path, text_field="text") == TEXTS


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        (["a"], "a list"),
        (3, "a number"),
        (True, "true or false"),
        ({}, "an object"),
    ],
)
def test_what_is_no_text_never_becomes_one(tmp_path: Path, value: object, kind: str) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(as_lines({"text": "one"}, {"text": value, "id": 1}, {"text": "three"}))
    told = refusal(path)
    assert f"some.jsonl: line 2: its field 'text' is {kind}, not a text" in told
    assert "the fields are text, id" in told


def test_nulls_and_lists_in_columns_are_refused_with_their_row(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["one", None]}), tmp_path / "null.parquet")
    assert "null.parquet: row 2: its field 'text' is null" in refusal(tmp_path / "null.parquet")
    parquet.write_table(pa.table({"text": [["one"]]}), tmp_path / "list.parquet")
    assert "list.parquet: row 1: its field 'text' is a list" in refusal(tmp_path / "list.parquet")
    (tmp_path / "short.csv").write_text("id,text\n1,one\n2\n")
    assert "short.csv: line 3: its field 'text' is null" in refusal(tmp_path / "short.csv")


def test_bad_rows_are_left_out_and_counted_by_choice(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_bytes(b'{"text": "one"}\n{"text": null}\n{"te\n\xe9\n{"text": "two"}\n')
    found = Documents(config(path, skip_bad_rows=True))
    for _ in range(2):
        assert list(found) == ["one", "two"]
        assert found.left_out_line() == (
            f"3 rows were left out; the first: {path}: line 2: its field 'text' is null, not a "
            "text (corpus.text_field; the fields are text)"
        )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", "one\nré\n".encode("latin-1"), r"line 2: is not UTF-8 \(byte 0xe9 at column 2\)"),
        ("a.jsonl", b'{"text": "one"}\n{"text": \n', r"line 2: is not JSON: Expecting value"),
        (
            "a.jsonl",
            b'{"text": "\\ud800"}\n',
            r"line 1: its field 'text' holds half of a character",
        ),
        ("a.jsonl", b'"only a text"\n', r"line 1: is a text, not an object with a field 'text'"),
        ("a.jsonl", b"[" * 100_000 + b"\n", r"line 1: is not JSON: .*recursion"),
        ("a.json", b'[{"text": "one"},\n}]', r"line 2 is not JSON: Expecting value at column 1"),
        ("a.csv", "id,text\n1,one\n2,é\n".encode("latin-1"), r"line 3 is not UTF-8"),
        ("a.csv", b'id,text\n1,"one\n', r"is not CSV: unexpected end of data"),
        ("a.parquet", b"no parquet", r"a\.parquet: .*Parquet"),
        ("a.arrow", b"no arrow at all", r"a\.arrow: "),
        ("a.jsonl.gz", b"no gzip", r"a\.jsonl\.gz: Not a gzipped file"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "one"}\n' * 9, mtime=0)[:-9],
            r"a\.jsonl\.gz: .*ended",
        ),
        ("a.jsonl.zst", b"no zstd", r"a\.jsonl\.zst: "),
    ],
)
def test_what_is_broken_is_one_line_with_file_and_line(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        documents(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("corpus.dataset=")
    assert name in str(caught.value)


def test_only_the_text_of_a_later_file_with_other_columns_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(as_lines({"text": "one", "meta": {"id": 1}}))
    (tmp_path / "b.jsonl").write_text(as_lines({"meta": "other", "more": [1], "text": "two"}))
    assert documents(tmp_path) == ["one", "two"]


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (
            "no/such/folder",
            "unknown dataset; must be mini, pile, openwebtext, or a path that exists, or own",
        ),
        ("x" * 600, "unknown dataset; must be"),
        ("~nobody-of-this-name/texts", "unknown dataset; must be"),
        ("a\0b", "unknown dataset; must be"),
    ],
)
def test_a_name_that_is_nothing_is_one_short_line(dataset: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        require_dataset(CorpusConfig(dataset=dataset))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_folder_without_text_says_which_files_are_taken(tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_bytes(b"PK")
    assert "those taken are .txt, .md, .jsonl, .json, .csv, .parquet, .arrow" in refusal(tmp_path)


def test_fields_that_mean_nothing_for_a_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    assert "corpus.revision='v2': means nothing for" in refusal(tmp_path, revision="v2")
    assert "corpus.split='test': means nothing for" in refusal(tmp_path, split="test")
    with pytest.raises(UserError, match=r"corpus.separator='x': means nothing for"):
        require_dataset(CorpusConfig(dataset="someone/stories", separator="x"))


def test_a_path_that_exists_is_a_path_even_if_a_hub_could_have_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_repo("someone/stories") == "someone/stories"
    assert hub_repo("pile") == "EleutherAI/the_pile_deduplicated"
    (tmp_path / "someone" / "stories").mkdir(parents=True)
    assert hub_repo("someone/stories") is None
    for path in ("../stories", "/someone/stories", "~/stories", "a/b/c", "a/..", "a", "mini"):
        assert hub_repo(path) is None


def test_fields_that_are_left_as_they_are_change_no_name() -> None:
    written = CorpusConfig().model_dump(mode="json")
    assert set(written) == {
        *("dataset", "context_size", "exclude_bos"),
        *("train_tokens", "held_out_tokens", "analysis_tokens"),
    }
    chosen = CorpusConfig(text_field="content", exclude_tokens=(3, "the"))
    assert CorpusConfig.model_validate(chosen.model_dump(mode="json")) == chosen
