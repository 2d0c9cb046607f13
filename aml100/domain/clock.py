"""Time, injected. This module is the only reader of the wall clock.

`now_ms` is market time: the venue's, which on a simulated venue may run faster. `monotonic_s` always counts wall
seconds; freshness, protection deadlines and loop lag are measured with it.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What everything that needs the time is given."""

    def now_ms(self) -> int:
        """Market time, UTC milliseconds."""

    def monotonic_s(self) -> float:
        """Wall seconds that never run backwards."""


class SystemClock:
    """The wall clock; market time is wall time plus the venue's offset."""

    def __init__(self, offset_ms: int = 0) -> None:
        self.offset_ms = offset_ms

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """Market time that somebody sets: a test, a back-test, or the steps of the embedded venue.

    Wall seconds are real unless `wall_s` is given, in which case they are set as well.
    """

    def __init__(self, now_ms: int = 0, wall_s: float | None = None) -> None:
        self._now_ms = now_ms
        self.wall_s = wall_s

    def now_ms(self) -> int:
        return self._now_ms

    def set(self, now_ms: int) -> None:
        """Move market time; it never runs backwards."""
        self._now_ms = max(self._now_ms, now_ms)

    def monotonic_s(self) -> float:
        return time.monotonic() if self.wall_s is None else self.wall_s


def wall_ms() -> int:
    """Wall time in UTC milliseconds: for nonces, names of runs and log lines, never for decisions."""
    return time.time_ns() // 1_000_000
