"""The next checkpoint comes while this one trains."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from saetrack.lm.catalog.models import Checkpoint
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.checkpoints.download import TemporaryError
from saetrack.utils.errors import UserError


class Scripted:
    """A source whose fetches wait for the test, and fail as told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[int] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.errors: list[Exception] = []
        self.weights: dict[Checkpoint, dict[str, str]] = {}

    def weight_digests(self, checkpoint: Checkpoint) -> dict[str, str]:
        return self.weights.get(checkpoint, {})

    def fetch(self, checkpoint: Checkpoint) -> Path:
        self.asked.append(checkpoint.lm_step)
        self.begun.set()
        assert self.go_on.wait(timeout=60)
        if self.errors:
            raise self.errors.pop(0)
        return self.folder / str(checkpoint.lm_step)


ZERO, ONE, TWO = (
    Checkpoint(step, step, "someone/lm", f"step{step}", "0" * 40) for step in range(3)
)


def test_the_next_one_comes_while_this_one_trains(tmp_path: Path) -> None:
    source = Scripted(tmp_path)
    with Ahead(source, [ZERO, ONE, TWO]) as ahead:
        with ahead.checkpoint(ZERO) as folder:
            assert folder == tmp_path / "0"
            time.sleep(0.02)
            assert source.asked == [0], "not while the LM is loaded"
            source.go_on.clear()
            source.begun.clear()
        assert source.begun.wait(timeout=60), "while this thread trains"
        source.go_on.set()
        with ahead.checkpoint(ONE) as folder:
            assert folder == tmp_path / "1"
            assert source.asked == [0, 1]


@pytest.mark.parametrize(
    ("weights", "note"),
    [
        ({"1": "d", "2": "e"}, ()),
        ({}, ()),
        ({"1": "a", "2": "b"}, ("at step2 (LM step 2) holds the same weights as step0",)),
        (
            {"1": "a", "2": "e"},
            ("at step2 (LM step 2) and step0 (LM step 0) have 1 of 2 files of",),
        ),
        (
            {"1": "a", "2": "c"},
            ("at step2 (LM step 2) and step1 (LM step 1) have 2 of 2 files of",),
        ),
    ],
)
def test_a_checkpoint_with_files_of_another_one_is_noted(
    tmp_path: Path, weights: dict[str, str], note: tuple[str, ...]
) -> None:
    source = Scripted(tmp_path)
    source.weights = {
        ZERO: {"1": "a", "2": "b"},
        ONE: {"1": "a", "2": "c", "3": "f"},
        TWO: weights,
    }
    ahead = Ahead(source, [ZERO, ONE, TWO], [ZERO, ONE, TWO])
    assert ahead.noted(ZERO).notes == ()
    assert len(ahead.noted(ONE).notes) == 1
    del source.weights[ZERO]  # it has left the disk since
    found = ahead.noted(TWO).notes
    assert len(found) == len(note)
    assert all(begin in line for begin, line in zip(note, found, strict=True))


def test_an_error_of_the_background_is_told_when_it_matters(tmp_path: Path) -> None:
    source = Scripted(tmp_path)
    with Ahead(source, [ZERO, ONE]) as ahead:
        with ahead.checkpoint(ZERO):
            source.errors = [UserError("model: it is damaged")]
            source.begun.clear()
        assert source.begun.wait(timeout=60)
        with pytest.raises(UserError, match="it is damaged"), ahead.checkpoint(ONE):
            pass
        assert source.asked == [0, 1]


@pytest.mark.parametrize("lasting", [False, True])
def test_what_may_pass_is_asked_for_once_more(tmp_path: Path, lasting: bool) -> None:
    source = Scripted(tmp_path)
    with Ahead(source, [ZERO, ONE]) as ahead:
        with ahead.checkpoint(ZERO):
            source.errors = [TemporaryError("no network")] * (2 if lasting else 1)
        if lasting:
            with pytest.raises(UserError, match="no network"), ahead.checkpoint(ONE):
                pass
        else:
            with ahead.checkpoint(ONE) as folder:
                assert folder == tmp_path / "1"
        assert source.asked == [0, 1, 1]


def test_a_block_that_fails_begins_nothing(tmp_path: Path) -> None:
    source = Scripted(tmp_path)
    with Ahead(source, [ZERO, ONE]) as ahead:
        with pytest.raises(ValueError), ahead.checkpoint(ZERO):
            raise ValueError
        time.sleep(0.02)
        assert source.asked == [0]


def test_the_background_has_the_context_of_the_run(tmp_path: Path) -> None:
    run: contextvars.ContextVar[str] = contextvars.ContextVar("run", default="none")
    seen = []

    class Telling(Scripted):
        def fetch(self, checkpoint: Checkpoint) -> Path:
            seen.append(run.get())
            return super().fetch(checkpoint)

    with Ahead(Telling(tmp_path), [ZERO, ONE]) as ahead:
        run.set("this run")
        for checkpoint in (ZERO, ONE):
            with ahead.checkpoint(checkpoint):
                pass
    assert seen == ["this run"] * 2


STUCK = """
import sys, threading
from pathlib import Path
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.catalog.models import Checkpoint
begun = threading.Event()
class Stuck:
    def fetch(self, checkpoint):
        if checkpoint.lm_step:
            begun.set()
            threading.Event().wait()
        return Path("folder")
checkpoints = [Checkpoint(step, step, "a/b", "main", "0" * 40) for step in range(2)]
with Ahead(Stuck(), checkpoints) as ahead:
    with ahead.checkpoint(checkpoints[0]):
        pass
    begun.wait()
"""


def test_a_download_on_its_way_keeps_no_process_alive() -> None:
    subprocess.run([sys.executable, "-c", STUCK], check=True, timeout=60)
