"""Closed bars out of a feed that never says "closed".

The candle stream repeats a bar with every change, says nothing while nothing trades, and may send the last change of
a bar after its end. So a bar closes when a later one starts, or at its end plus a grace; REST confirms it. Closed bars
are handed out once, in order and without holes: where one is missing, those after it wait until `confirm` brings it
or shows that the venue has none. A hole is recorded, never filled by invention.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from aml100.domain.errors import ProtocolViolation
from aml100.domain.market import Bar, Trade
from aml100.domain.units import Coin

_REMEMBERED: Final = 64  # handed-out bars kept to compare with what REST says later


@dataclass(slots=True)
class FeedCounts:
    """What was odd about a feed: nothing here changed a bar that had been handed out."""

    duplicates: int = 0
    out_of_order: int = 0
    """Updates older than what was already known of their bar."""
    late: int = 0
    """Updates of a bar that had been handed out."""
    corrected: int = 0
    """Handed-out bars that REST says were different."""


class BarAssembler:
    """Closed bars of one coin from its candle stream and its candle history.

    Attributes:
        counts: what was odd so far.
        gaps: [from_ms, to_ms) for which the venue has no bars.
        provisional: opens of bars handed out by time alone, not yet confirmed.
    """

    def __init__(self, coin: Coin, interval_ms: int, origin: str) -> None:
        self.coin = coin
        self.interval_ms = interval_ms
        self.origin = origin
        self.counts = FeedCounts()
        self.gaps: list[tuple[int, int]] = []
        self.provisional: set[int] = set()
        self._waiting: dict[int, Bar] = {}
        self._done: dict[int, Bar] = {}
        self._forming: Bar | None = None
        self._next_ms: int | None = None

    @property
    def next_ms(self) -> int | None:
        """The open of the bar to be handed out next; None before the first."""
        return self._next_ms

    @property
    def open_gap(self) -> tuple[int, int] | None:
        """[from_ms, to_ms) of the bars that are awaited while later ones wait; None where nothing is held up."""
        seen = [*self._waiting] if self._forming is None else [*self._waiting, self._forming.open_ms]
        if self._next_ms is None or not seen or min(seen) <= self._next_ms:
            return None
        return self._next_ms, min(seen)

    def overdue_bars(self, now_ms: int, grace_ms: int) -> int:
        """How many bars should have closed by now and were not handed out: a reason to ask REST."""
        if self._next_ms is None:
            return 0
        return max(0, (now_ms - grace_ms - self._next_ms) // self.interval_ms)

    def apply_candle(self, bar: Bar) -> list[Bar]:
        """Fold in one update of the stream; the bars that closed by it, oldest first."""
        self._check(bar)
        if self._next_ms is not None and bar.open_ms < self._next_ms:
            self._count_late(bar)
            return []
        forming = self._forming
        if forming is None:
            if bar.open_ms in self._waiting:
                self._waiting[bar.open_ms] = self._newer(self._waiting[bar.open_ms], bar)
            else:
                self._forming = bar
            return self._release()
        if bar.open_ms == forming.open_ms:
            self._forming = self._newer(forming, bar)
            return []
        if bar.open_ms < forming.open_ms:
            self.counts.out_of_order += 1
            known = self._waiting.get(bar.open_ms)
            if known is not None:
                self._waiting[bar.open_ms] = self._newer(known, bar)
            return []
        self._waiting[forming.open_ms] = forming
        self._forming = bar
        return self._release()

    def apply_time(self, now_ms: int, grace_ms: int) -> Bar | None:
        """Close the forming bar where its end and the grace have passed; it stays provisional until confirmed."""
        forming = self._forming
        if forming is None or now_ms < forming.end_ms + grace_ms:
            return None
        if self._next_ms is not None and forming.open_ms != self._next_ms:
            return None
        self._forming = None
        self._waiting[forming.open_ms] = forming
        self.provisional.add(forming.open_ms)
        return self._release()[0]

    def confirm(self, bars: Sequence[Bar], now_ms: int) -> list[Bar]:
        """Fold in candle history as REST gave it when the venue's time was `now_ms`; the bars that it releases.

        A bar that ends after `now_ms` is forming still. What is absent between the first and the last bar of one
        answer does not exist at the venue: it becomes a gap, and the bars behind it are released.
        """
        released: list[Bar] = []
        previous: Bar | None = None
        for bar in sorted(bars, key=lambda b: b.open_ms):
            self._check(bar)
            if previous is not None and bar.open_ms == previous.open_ms:
                self.counts.duplicates += 1
                continue
            if previous is not None and bar.open_ms > previous.end_ms:
                released += self._accept_gap(previous.end_ms, bar.open_ms)
            previous = bar
            if bar.end_ms > now_ms:
                released += self.apply_candle(bar)
                continue
            self._confirm_closed(bar)
            released += self._release()
        return released

    def _confirm_closed(self, bar: Bar) -> None:
        """History knows the bar best, unless it was handed out already."""
        if self._next_ms is not None and bar.open_ms < self._next_ms:
            handed_out = self._done.get(bar.open_ms)
            if handed_out is not None and _figures(handed_out) != _figures(bar):
                self.counts.corrected += 1
            self.provisional.discard(bar.open_ms)
            return
        if self._forming is not None and self._forming.open_ms == bar.open_ms:
            self._forming = None
        self._waiting[bar.open_ms] = bar

    def _accept_gap(self, from_ms: int, to_ms: int) -> list[Bar]:
        """The venue has nothing in [from_ms, to_ms), unless the stream brought some of it."""
        released: list[Bar] = []
        while self._next_ms is not None and from_ms <= self._next_ms < to_ms:
            later = [ms for ms in self._waiting if ms >= self._next_ms]
            if self._forming is not None:
                later.append(self._forming.open_ms)
            until_ms = min([to_ms, *later])
            if until_ms > self._next_ms:
                self.gaps.append((self._next_ms, until_ms))
                self._next_ms = until_ms
            batch = self._release()
            if not batch and until_ms < to_ms:
                break
            released += batch
        return released

    def _release(self) -> list[Bar]:
        """Hand out what is closed and follows."""
        if self._next_ms is None and self._waiting:
            self._next_ms = min(self._waiting)
        released: list[Bar] = []
        while self._next_ms is not None and self._next_ms in self._waiting:
            bar = replace(self._waiting.pop(self._next_ms), origin=self.origin)
            released.append(bar)
            self._done[bar.open_ms] = bar
            self._next_ms = bar.end_ms
        while len(self._done) > _REMEMBERED:
            del self._done[next(iter(self._done))]
        return released

    def _newer(self, known: Bar, update: Bar) -> Bar:
        """The one that knows more of the same bar: updates are cumulative."""
        if _figures(known) == _figures(update):
            self.counts.duplicates += 1
            return known
        if (update.trades, update.volume) < (known.trades, known.volume):
            self.counts.out_of_order += 1
            return known
        return update

    def _count_late(self, bar: Bar) -> None:
        handed_out = self._done.get(bar.open_ms)
        if handed_out is not None and _figures(handed_out) == _figures(bar):
            self.counts.duplicates += 1
        else:
            self.counts.late += 1

    def _check(self, bar: Bar) -> None:
        if bar.coin != self.coin or bar.interval_ms != self.interval_ms or bar.open_ms % self.interval_ms:
            raise ProtocolViolation(
                f"a bar of {bar.coin}, {bar.interval_ms} ms, opening at {bar.open_ms} is none of "
                f"{self.coin}, {self.interval_ms} ms"
            )


def _figures(bar: Bar) -> tuple[Decimal | int, ...]:
    return bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades


class TradeBars:
    """Bars of one coin from its public trades, equal to the venue's candles.

    A bar opens at its first trade and closes at its last, by time and then by arrival. An interval without a trade
    has no bar. Bars that open before `complete_from_ms` have trades that were not seen and are not handed out.
    """

    def __init__(self, coin: Coin, interval_ms: int, origin: str, complete_from_ms: int) -> None:
        self.coin = coin
        self.interval_ms = interval_ms
        self.origin = origin
        self.counts = FeedCounts()
        self._from_ms = -(-complete_from_ms // interval_ms) * interval_ms
        self._open_ms: int | None = None
        self._trades: dict[int, Trade] = {}

    def apply_trades(self, trades: Iterable[Trade]) -> list[Bar]:
        """Fold in one message of prints; the bars that closed because a later one started."""
        closed: list[Bar] = []
        for trade in sorted(trades, key=lambda t: t.time_ms):
            if trade.coin != self.coin:
                raise ProtocolViolation(f"a trade of {trade.coin} among those of {self.coin}")
            open_ms = trade.time_ms - trade.time_ms % self.interval_ms
            if open_ms < self._from_ms:
                self.counts.late += 1
                continue
            if self._open_ms is not None and open_ms > self._open_ms:
                closed.append(self._close())
            if trade.tid in self._trades:
                self.counts.duplicates += 1
                continue
            self._open_ms = self._from_ms = open_ms
            self._trades[trade.tid] = trade
        return closed

    def apply_time(self, now_ms: int, grace_ms: int) -> Bar | None:
        """Close the forming bar where its end and the grace have passed."""
        if self._open_ms is None or now_ms < self._open_ms + self.interval_ms + grace_ms:
            return None
        return self._close()

    def _close(self) -> Bar:
        assert self._open_ms is not None
        ordered = sorted(self._trades.values(), key=lambda t: t.time_ms)
        prices = [trade.price for trade in ordered]
        bar = Bar(
            coin=self.coin,
            interval_ms=self.interval_ms,
            open_ms=self._open_ms,
            open=prices[0],
            high=max(prices),
            low=min(prices),
            close=prices[-1],
            volume=sum((trade.size for trade in ordered), Decimal(0)),
            trades=len(ordered),
            origin=self.origin,
        )
        self._from_ms = bar.end_ms
        self._open_ms = None
        self._trades = {}
        return bar
