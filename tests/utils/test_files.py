"""What a killed process has begun is deleted by the next one; what a living one writes stays."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from saetrack.utils import files
from saetrack.utils.files import whole_folder, write_atomically

FOLDER = """
import sys, time
from pathlib import Path
from saetrack.utils.files import whole_folder
with whole_folder(Path(sys.argv[1])) as draft:
    (draft / "half").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""
FILE = """
import os, sys, time
from pathlib import Path
from saetrack.utils.files import write_atomically
os.fsync = lambda handle: (print("writing", flush=True), time.sleep(60))
write_atomically(Path(sys.argv[1]), b"half")
"""


@pytest.fixture(params=[FOLDER, FILE], ids=["folder", "file"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, in the middle of what it writes."""
    command = [sys.executable, "-c", request.param, str(tmp_path / "theirs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def drafts(folder: Path) -> list[Path]:
    return list(folder.glob(".*"))


def write_both(folder: Path) -> None:
    write_atomically(folder / "file", b"whole")
    with whole_folder(folder / "folder") as draft:
        (draft / "whole").write_text("whole")
    assert (folder / "file").read_bytes() == b"whole"
    assert (folder / "folder" / "whole").read_text() == "whole"


def test_what_a_living_process_writes_stays(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    (draft,) = drafts(tmp_path)
    write_both(tmp_path)
    assert writer.poll() is None and drafts(tmp_path) == [draft]


@pytest.mark.parametrize("next_one", ["file", "folder"])
def test_what_a_killed_process_left_goes(
    writer: subprocess.Popen[str], tmp_path: Path, next_one: str
) -> None:
    (tmp_path / ".partial-of-the-user").write_text("stays")
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(drafts(tmp_path)) == 2
    if next_one == "file":
        write_atomically(tmp_path / "file", b"whole")
    else:
        with whole_folder(tmp_path / "folder"):
            pass
    assert [path.name for path in drafts(tmp_path)] == [".partial-of-the-user"]


def test_a_draft_that_another_took_for_a_left_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = files.try_lock, []

    def deleted_first(handle: int) -> bool:
        """As if another had deleted the draft between its making and its lock."""
        (draft,) = drafts(tmp_path)
        if draft not in taken and len(taken) < 2:
            taken.append(draft)
            files._delete(draft)
        return lock(handle)

    monkeypatch.setattr(files, "try_lock", deleted_first)
    write_both(tmp_path)
    assert len(taken) == 2 and drafts(tmp_path) == []


def test_a_file_system_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(handle: int) -> bool:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(files, "try_lock", refused)
    with whole_folder(tmp_path / "outer"):
        (theirs,) = drafts(tmp_path)
        write_both(tmp_path)
        assert drafts(tmp_path) == [theirs], "it may belong to a living process"
    assert drafts(tmp_path) == []
