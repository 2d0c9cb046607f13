"""Market time of a venue that nobody waits for, and how far our clock is from its own.

A real venue's market runs by its wall clock. Its time is carried on by our monotonic clock, so that neither market time
nor nonces and expiries move when somebody sets our wall clock. Of several questions the one whose answer came back
soonest is believed, for its error is at most half the journey; an answer that contradicts it by more than both journeys
tells of a step (theirs, or a machine that slept), and what was known before is forgotten. A simulated venue says how
fast its market runs; its time is taken from its last answer and carried on at that speed. Either way time never runs
backwards here.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from aml100.domain.clock import SystemClock
from aml100.venue.news import ExchangeStatus

if TYPE_CHECKING:
    from aml100.domain.clock import Clock

_SAMPLES: Final = 8
_STEP_MS: Final = 250.0
"""Beyond what the journeys explain, two answers that differ by more are of two clocks, not of one that drifts."""


class VenueClock:
    """A `Clock` that `sync` sets right.

    Attributes: `speed` of the market; `is_simulated` and `has_ended` as the venue last said.
    """

    def __init__(self, wall: Clock | None = None) -> None:
        self._wall: Clock = wall or SystemClock()
        self.speed = 1.0
        self.is_simulated = False
        self.has_ended = False
        self._anchor_ms = float(self._wall.now_ms())
        self._anchor_s = self._wall.monotonic_s()
        self._told_ms = 0
        self._end_ms: int | None = None
        self._samples: deque[tuple[float, float]] = deque(maxlen=_SAMPLES)
        """Journey in seconds, and the venue's time less our monotonic one, ms."""

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

    @property
    def offset_ms(self) -> int | None:
        """The venue's clock less ours as it is now; None while unknown and on simulated venues."""
        return self.venue_wall_ms() - self._wall.now_ms() if self._samples else None

    def venue_wall_ms(self) -> int:
        """Wall time by the venue's clock: what nonces and expiries are compared with there."""
        if not self._samples:
            return self._wall.now_ms()
        return round(min(self._samples)[1] + self._wall.monotonic_s() * 1000)

    def sync(self, status: ExchangeStatus, asked_s: float, answered_s: float) -> None:
        """Take in what the venue said between two moments of `monotonic_s`."""
        middle_s = (asked_s + answered_s) / 2
        self.is_simulated, self.has_ended = status.is_simulated, status.ended
        if status.is_simulated:
            self.speed = status.speed
            self._anchor_ms, self._anchor_s = float(status.time_ms), middle_s
            self._end_ms = status.time_ms if status.ended else None
            return
        sample = answered_s - asked_s, status.time_ms - middle_s * 1000
        if self._samples:
            best = min(self._samples)
            if abs(sample[1] - best[1]) > (sample[0] + best[0]) * 500 + _STEP_MS:
                self._samples.clear()
        self._samples.append(sample)
        self.speed, self._end_ms = 1.0, None
        self._anchor_ms, self._anchor_s = min(self._samples)[1], 0.0
