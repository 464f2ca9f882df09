"""Progress of long work as a log line every few seconds: how far, how fast, how much longer."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Counts work done and logs it now and then.

    Log lines rather than a redrawn bar: the same text serves a terminal, a worker's log and the
    orchestrator's page.
    """

    def __init__(
        self, what: str, total: int, unit: str, done: int = 0, unlike_the_rest: int = 0
    ) -> None:
        """The clock runs from now on.

        Args:
            what: is done.
            total: units of it.
            unit: as a line names it.
            done: units that were done before.
            unlike_the_rest: of the next units, so many are faster or slower than the others: the
                time that is left is not told from them.
        """
        self._what = what
        self._total = total
        self._unit = unit
        self._done = self._measured_from = done
        self._is_measured_at = done + unlike_the_rest
        self._measured_since_s = self._shown_s = time.monotonic()

    def advance(self, amount: int, note: str = "") -> None:
        """Count `amount` more units done; `note` is shown behind the figures."""
        self.show(self._done + amount, note)

    def show(self, done: int, note: str = "") -> None:
        """Count `done` units done in all."""
        self._done = done
        now_s = time.monotonic()
        if self._measured_from < self._is_measured_at <= done:
            self._measured_from, self._measured_since_s = done, now_s
        if now_s - self._shown_s >= SECONDS_BETWEEN_LINES:
            self._shown_s = now_s
            log.info("%s", self._line(now_s, note))

    def _line(self, now_s: float, note: str) -> str:
        spent_s = now_s - self._measured_since_s
        rate = (self._done - self._measured_from) / spent_s if spent_s else 0
        left_s = max(self._total - self._done, 0) / rate if rate else float("inf")
        is_known = self._measured_from >= self._is_measured_at and spent_s >= 1
        parts = [
            f"{self._what}: {100 * self._done / self._total:.0f} %",
            f"{self._done:,} of {self._total:,} {self._unit}",
            f"{rate:,.0f} {self._unit}/s",
            f"{duration(left_s)} left" if is_known else "time left is being measured",
        ]
        return ", ".join(parts + ([note] if note else []))


class TimeLeft:
    """How long the parts of some work that are left take, by those that are like them."""

    def __init__(self) -> None:
        self._spent_s = self._done = 0.0

    def add(self, done: int, spent_s: float) -> None:
        """Count a part that is like those that are left."""
        self._spent_s += spent_s
        self._done += done

    def line(self, left: int) -> str:
        """As the middle of a sentence."""
        if left and not self._done:
            return "time left is known after the next one"
        return f"about {duration(self._spent_s / self._done * left if left else 0)} left"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8 s, 3 min 20 s, 2 h 05 min."""
    if seconds == float("inf"):
        return "unknown time"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole >= 100 * 3600:
        return f"{whole // 3600:,} h"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
