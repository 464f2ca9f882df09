"""How far, and how much longer: an estimate only where something like the rest was measured."""

from __future__ import annotations

import logging

import pytest

from saetrack.utils import progress
from saetrack.utils.progress import Progress, TimeLeft


def test_units_unlike_the_rest_give_no_estimate(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s[0])
    caplog.set_level(logging.INFO)
    shown = Progress("link", 1_000, "tokens", unlike_the_rest=200)
    for now_s[0], done in ((10, 150), (20, 200), (30, 210), (40, 220)):  # from the buffer, then not
        shown.show(done)
    assert ["being measured" in line for line in caplog.messages] == [True, True, False, False]
    assert "1 tokens/s, 13 min 00 s left" in caplog.messages[-1]


def test_what_is_left_is_told_from_parts_like_it() -> None:
    left = TimeLeft()
    assert left.line(90) == "time left is known after the next one"
    assert left.line(0) == "about 0 s left"
    left.add(10, 5.0)
    left.add(10, 7.0)
    assert left.line(100) == "about 1 min 00 s left"
