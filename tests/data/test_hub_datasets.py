"""Datasets of a hub: any repository, its text alone, and one line where it cannot be had."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import datasets
import pyarrow as pa
import pytest
from huggingface_hub import constants
from pyarrow import parquet

from saetrack.data.config import CorpusConfig
from saetrack.data.datasets import Documents
from saetrack.data.labelled_texts import labelled_sets
from saetrack.utils.errors import UserError
from tests.support.faulty_hub import Fault, FaultyHub, point_client_at, serve

REPO = "someone/stories"


@pytest.fixture(scope="module")
def hub_of_this_file() -> Iterator[FaultyHub]:
    with serve() as server, pytest.MonkeyPatch.context() as patch:
        point_client_at(server.address, patch)
        patch.setattr(datasets.config, "HF_ENDPOINT", server.address)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture
def hub(hub_of_this_file: FaultyHub) -> FaultyHub:
    hub_of_this_file.reset()
    return hub_of_this_file


def as_parquet(**columns: list[Any]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def as_jsonl(*records: dict[str, Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def documents(repo: str = REPO, **fields: Any) -> list[str]:
    return list(Documents(CorpusConfig(dataset=repo, **fields)))


def test_only_the_text_of_parquet_files_is_read(hub: FaultyHub) -> None:
    files = {"data/train-0.parquet": as_parquet(story=["one", "two"], other=[1, 2])}
    files["data/train-1.parquet"] = as_parquet(story=["three"], other=["not a number"])
    files["data/test-0.parquet"] = as_parquet(story=["four"], other=[4])
    hub.add(REPO, "main", files)
    assert documents(text_field="story") == ["one", "two", "three"]
    assert documents(text_field="story", split="test") == ["four"]


def test_a_later_file_with_one_more_column_is_read(hub: FaultyHub) -> None:
    files = {"train-0.jsonl": as_jsonl({"text": "one"})}
    files["train-1.jsonl"] = as_jsonl({"text": "two", "source": "elsewhere"})
    hub.add(REPO, "main", files)
    assert documents() == ["one", "two"]


def test_a_configuration_and_a_revision_are_chosen(hub: FaultyHub) -> None:
    card = """---
configs:
- {config_name: small, data_files: small.jsonl}
- {config_name: large, data_files: large.jsonl}
---
"""
    files = {"README.md": card.encode(), "small.jsonl": as_jsonl({"text": "small"})}
    files["large.jsonl"] = as_jsonl({"text": "large"})
    hub.add(REPO, "main", files)
    hub.add(REPO, "v2", {**files, "large.jsonl": as_jsonl({"text": "larger"})})
    assert documents(config="large") == ["large"]
    assert documents(config="large", revision="v2") == ["larger"]
    with pytest.raises(UserError, match=r"cannot be read: .*(small|large)"):
        documents(config="huge")


def test_a_missing_field_and_a_null_name_row_and_fields(hub: FaultyHub) -> None:
    hub.add(REPO, "main", {"train.jsonl": as_jsonl({"content": "one", "id": 1})})
    with pytest.raises(UserError, match=r"train.jsonl: line 1: has no field 'text'.*content, id"):
        documents()
    hub.add(REPO, "v2", {"train.parquet": as_parquet(text=["one", None], id=[1, 2])})
    with pytest.raises(
        UserError, match=r"row 2 of split train: its field 'text' is null.*text, id"
    ):
        documents(revision="v2")
    assert documents(revision="v2", skip_bad_rows=True) == ["one"]


def test_a_split_that_is_not_there_is_one_line_with_those_that_are(hub: FaultyHub) -> None:
    hub.add(REPO, "main", {"train.jsonl": as_jsonl({"text": "one"})})
    with pytest.raises(UserError, match=r"no split 'validation' .*only train") as caught:
        documents(split="validation")
    assert "\n" not in str(caught.value)


def test_a_card_cannot_name_files_of_this_machine(hub: FaultyHub, tmp_path: Any) -> None:
    (tmp_path / "secret.txt").write_text("a secret")
    card = f"---\nconfigs:\n- {{config_name: a, data_files: {tmp_path}/secret.txt}}\n---\n"
    hub.add(REPO, "main", {"README.md": card.encode(), "train.txt": b"one"})
    with pytest.raises(UserError, match="cannot be read: ") as caught:
        documents()
    assert "\n" not in str(caught.value)


def test_an_unknown_dataset_and_a_silent_hub_are_one_line_within_ten_seconds(
    hub: FaultyHub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="'someone/stories': cannot be read: ") as caught:
        documents()
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    began_s = time.monotonic()
    with pytest.raises(UserError, match=r"'pile': cannot be read: ") as caught:
        documents("pile")
    assert time.monotonic() - began_s < 10
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.BROKEN])
@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_files_that_the_hub_does_not_give_are_one_line(
    hub: FaultyHub, fault: Fault, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content = as_jsonl({"text": "one"}) if name == "train.jsonl" else as_parquet(text=["one"])
    hub.add(REPO, "main", {name: content})
    hub.fail(name, fault)
    began_s = time.monotonic()
    with pytest.raises(UserError, match="'someone/stories': cannot be read: ") as caught:
        documents()
    assert time.monotonic() - began_s < 10
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_labelled_sets_are_a_datasets_csv_files(hub: FaultyHub) -> None:
    two = b"prompt,target\none,spam\ntwo,ham\n"
    hub.add(REPO, "main", {"a/spam.csv": two, "README.md": b"---\n---\n", "train.txt": b"one"})
    (found,) = labelled_sets(REPO, "probe_texts")
    assert (found.name, found.texts) == ("a/spam", ("one", "two"))
    hub.fail("a/spam.csv", Fault.BROKEN)
    with pytest.raises(UserError, match=r"^probe_texts='someone/stories': ") as caught:
        list(labelled_sets(REPO, "probe_texts"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"^probe_texts='no/body': cannot be read: "):
        list(labelled_sets("no/body", "probe_texts"))
