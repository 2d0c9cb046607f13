"""Market time of a venue that nobody waits for, and how far our clock is from its own.

A real venue's market runs by the wall clock: its time is ours plus an offset, of which several questions give several
estimates; the one whose answer came back soonest is believed, for its error is at most half the journey. A simulated
venue says how fast its market runs; its time is taken from its last answer and carried on at that speed. Either way
time never runs backwards here.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from aml100.domain.clock import SystemClock
from aml100.venue.news import ExchangeStatus

if TYPE_CHECKING:
    from aml100.domain.clock import Clock

_SAMPLES: Final = 8


class VenueClock:
    """A `Clock` that `sync` sets right.

    Attributes: `speed` of the market; `offset_ms` of the venue's clock to ours, None while unknown and on simulated
    venues; `is_simulated` and `has_ended` as the venue last said.
    """

    def __init__(self, wall: Clock | None = None) -> None:
        self._wall: Clock = wall or SystemClock()
        self.speed = 1.0
        self.offset_ms: int | None = None
        self.is_simulated = False
        self.has_ended = False
        self._anchor_ms = float(self._wall.now_ms())
        self._anchor_s = self._wall.monotonic_s()
        self._told_ms = 0
        self._end_ms: int | None = None
        self._samples: deque[tuple[float, float]] = deque(maxlen=_SAMPLES)

    def now_ms(self) -> int:
        run_ms = (self._wall.monotonic_s() - self._anchor_s) * 1000 * self.speed
        now = int(self._anchor_ms + run_ms)
        if self._end_ms is not None:
            now = min(now, self._end_ms)
        self._told_ms = max(self._told_ms, now)
        return self._told_ms

    def monotonic_s(self) -> float:
        return self._wall.monotonic_s()

    def wall_ms(self) -> int:
        """Our own wall time."""
        return self._wall.now_ms()

    def venue_wall_ms(self) -> int:
        """Wall time by the venue's clock: what nonces and expiries are compared with there."""
        return self._wall.now_ms() + (self.offset_ms or 0)

    def sync(self, status: ExchangeStatus, asked_s: float, answered_s: float) -> None:
        """Take in what the venue said between two moments of `monotonic_s`."""
        middle_s = (asked_s + answered_s) / 2
        self.is_simulated, self.has_ended = status.is_simulated, status.ended
        if status.is_simulated:
            self.speed = status.speed
            self._anchor_ms, self._anchor_s = float(status.time_ms), middle_s
            self._end_ms = status.time_ms if status.ended else None
            return
        wall_then_ms = self._wall.now_ms() - (self._wall.monotonic_s() - middle_s) * 1000
        self._samples.append((answered_s - asked_s, status.time_ms - wall_then_ms))
        offset = min(self._samples)[1]
        self.offset_ms = round(offset)
        self.speed, self._end_ms = 1.0, None
        self._anchor_ms, self._anchor_s = wall_then_ms + offset, middle_s
