"""What the core was last told about its surroundings: books, streams, the loop's lag, the venue's clock.

None of it is state: after a restart it is told anew.
"""

from __future__ import annotations

from aml100.domain.events import FeedChanged, Tick
from aml100.domain.market import BookTop
from aml100.domain.units import Coin
from aml100.trading.risk import Conditions


class Surroundings:
    """Folds what is told; answers what the guards look at. `wall_s` is the monotonic time of the latest tick."""

    def __init__(self) -> None:
        self.books: dict[Coin, BookTop] = {}
        self.wall_s = 0.0
        self._loop_lag_ms = 0.0
        self._clock_offset_ms = 0
        self._dead_streams: dict[Coin, set[str]] = {}

    def on_feed(self, change: FeedChanged) -> None:
        """A stream lives, or does not."""
        dead = self._dead_streams.setdefault(change.coin, set())
        (dead.discard if change.state == "live" else dead.add)(change.channel)

    def on_tick(self, tick: Tick) -> None:
        """Time passed."""
        self.wall_s, self._loop_lag_ms, self._clock_offset_ms = tick.wall_s, tick.loop_lag_ms, tick.clock_offset_ms

    def conditions(self, coin: Coin, now_ms: int) -> Conditions:
        """For an entry in this coin now."""
        dead = tuple(sorted(self._dead_streams.get(coin, ())))
        return Conditions(now_ms, self._loop_lag_ms, self._clock_offset_ms, dead, self.books.get(coin))
