"""Where the time goes: each second counts for the innermost part of the work that is open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

OTHER = "other"


class Timing:
    """A clock per part of the work.

    On a CPU it reads the time. On a GPU it records events between the kernels and reads them once
    the device has reached them, so that nothing waits; a part's time is then the device's,
    including its waiting for the host.
    """

    def __init__(self, device: torch.device) -> None:
        """Nothing runs yet; see `timed`."""
        self._on_gpu = device.type == "cuda"
        self._spent_s: dict[str, float] = {}
        self._open = [OTHER]
        self._last = self._now()
        self._events: list[tuple[str, torch.cuda.Event]] = []

    def spent_s(self) -> dict[str, float]:
        """Seconds by part so far."""
        self._book()
        self._read(wait=True)
        return dict(self._spent_s)

    def enter(self, part: str) -> None:
        """What follows is `part`, until the matching `leave`."""
        self._book()
        self._open.append(part)

    def leave(self) -> None:
        """What follows is again the part that was open before."""
        self._book()
        self._open.pop()

    def _book(self) -> None:
        part, now = self._open[-1], self._now()
        if isinstance(now, float):
            assert isinstance(self._last, float)
            self._spent_s[part] = self._spent_s.get(part, 0.0) + now - self._last
            self._last = now
        else:
            self._events.append((part, now))
            if len(self._events) >= 1024:
                self._read(wait=False)

    def _now(self) -> float | torch.cuda.Event:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _read(self, *, wait: bool) -> None:
        if wait and self._events:
            self._events[-1][1].synchronize()
        while self._events and self._events[0][1].query():
            part, event = self._events.pop(0)
            assert isinstance(self._last, torch.cuda.Event)
            spent_s = self._last.elapsed_time(event) / 1e3
            self._spent_s[part] = self._spent_s.get(part, 0.0) + spent_s
            self._last = event


_running: ContextVar[Timing | None] = ContextVar("timing", default=None)


@contextmanager
def timed(device: torch.device) -> Iterator[Timing]:
    """Measure the time of the block; `part` anywhere inside says which part it counts for."""
    timing = Timing(device)
    token = _running.set(timing)
    try:
        yield timing
    finally:
        _running.reset(token)


@contextmanager
def part(name: str) -> Iterator[None]:
    """The block belongs to this part; outside of `timed` it costs a microsecond."""
    timing = _running.get()
    if timing is None:
        yield
        return
    timing.enter(name)
    try:
        yield
    finally:
        timing.leave()


def percentages(spent_s: dict[str, float]) -> str:
    """Parts by size, as a person reads them; those below half a per cent are left out."""
    total_s = sum(spent_s.values())
    by_size = sorted(spent_s.items(), key=lambda item: -item[1])
    return ", ".join(
        f"{name} {100 * seconds / total_s:.0f} %"
        for name, seconds in by_size
        if seconds >= total_s / 200
    )
