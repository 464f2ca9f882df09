"""Sets for text classification: folders and hubs of CSV files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from saetrack.data.labelled_texts import labelled_sets, labelled_version, require_sets
from saetrack.utils.errors import UserError

TWO = 'prompt,prompt_len,target\n"one,\ntwo",5,spam\nthree,1,ham\nfour,1,spam\n'


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.csv").write_text(content)
    return folder


def test_a_file_of_two_classes_is_a_set_and_others_say_why_not(tmp_path: Path) -> None:
    folder = write(tmp_path, a_many="prompt,target\nx,1\ny,2\nz,3\n", b_other="text,label\nx,1\n")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "spam.csv.gz").write_bytes(gzip.compress(TWO.encode()))
    packed = pa.compress(TWO.encode(), codec="zstd", asbytes=True)
    (folder / "spam.csv.zst").write_bytes(packed)
    (folder / "notes.txt").write_text("no set")
    found = {one.name: one for one in labelled_sets(str(folder), "probe_texts")}
    assert list(found) == ["a_many", "b_other", "deeper/spam", "spam"]
    assert found["a_many"].left_out == "3 classes, not two"
    assert found["b_other"].left_out == "no column 'prompt', only text, label"
    for name in ("spam", "deeper/spam"):
        one = found[name]
        assert one.texts == ("one,\ntwo", "three", "four") and one.left_out == ""
        assert one.labels.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("prompt,target\nx,1\n,0\n", r"broken.csv: line 3 lacks its text or its class"),
        ("prompt,target\nx\n", r"broken.csv: line 2 lacks its text or its class"),
        ('prompt,target\n"x,1\n', r"broken.csv: line 1 is not CSV: unexpected end"),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(content: str, line: str, tmp_path: Path) -> None:
    folder = write(tmp_path, broken=content)
    with pytest.raises(UserError, match=rf"^probe_texts='.*': {line}") as caught:
        list(labelled_sets(str(folder), "probe_texts"))
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_refused_before_it_is_read(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    with pytest.raises(UserError, match=r"^probe_texts='.*absent': must be a folder that exists"):
        require_sets(absent, "probe_texts")
    with pytest.raises(UserError, match=r"^probe_texts='.*': holds no CSV file"):
        list(labelled_sets(str(tmp_path), "probe_texts"))
    require_sets("owner/name", "probe_texts")  # a hub is asked later


def test_the_version_is_that_of_the_content(tmp_path: Path) -> None:
    one, other = (write(tmp_path / name, spam=TWO) for name in ("one", "other"))
    before = labelled_version(str(one))
    assert before == labelled_version(str(other))
    write(one, spam=TWO + "five,1,ham\n")
    assert labelled_version(str(one)) != before
