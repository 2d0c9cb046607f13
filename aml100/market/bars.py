"""Closed bars out of a feed that never says "closed".

The candle stream repeats a bar with every change, says nothing while nothing trades, and may send the last change of
a bar after its end. So a bar closes when a later one starts, or at its end plus a grace; REST confirms it. Closed bars
are handed out once and in order. A hole is recorded, never filled by invention.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from msgspec.structs import replace

from aml100.domain.errors import ProtocolViolation
from aml100.domain.market import Bar, Trade
from aml100.domain.units import Coin

_REMEMBERED: Final = 64  # handed-out bars kept to compare with what REST says later


class BarAssembler:
    """Closed bars of one coin from its candle stream and its candle history.

    A bar behind a hole is handed out, and the hole recorded. After `suspend`, to be called when the stream is cut, the
    bar in the making is no longer trusted, and nothing is handed out until `confirm` brought what was missed: so a
    reconnect loses no bar as long as REST has it.

    Attributes:
        revised: how often a bar was told otherwise after it had been handed out.
        gaps: [from_ms, to_ms) that was skipped between two handed-out bars.
        provisional: opens of bars handed out by time alone, not yet confirmed.
    """

    def __init__(self, coin: Coin, interval_ms: int, origin: str) -> None:
        self.coin = coin
        self.interval_ms = interval_ms
        self.origin = origin
        self.revised = 0
        self.gaps: list[tuple[int, int]] = []
        self.provisional: set[int] = set()
        self._done: dict[int, Bar] = {}
        self._waiting: list[Bar] = []
        self._forming: Bar | None = None
        self._next_ms: int | None = None
        self._suspended = False

    @property
    def next_ms(self) -> int | None:
        """The open of the bar that follows the last one handed out; None before the first."""
        return self._next_ms

    @property
    def is_suspended(self) -> bool:
        """Whether `confirm` is awaited."""
        return self._suspended

    def suspend(self) -> None:
        """The stream was cut: what it told of the bar in the making may not be all."""
        self._forming = None
        self._suspended = True

    def apply_candle(self, bar: Bar) -> list[Bar]:
        """Fold in one update of the stream; the bar that closed by it, if one did."""
        self._check(bar)
        forming = self._forming
        if self._next_ms is not None and bar.open_ms < self._next_ms:
            self._compare(bar)
        elif forming is None:
            self._forming = bar
        elif bar.open_ms == forming.open_ms:
            self._forming = self._newer(forming, bar)
        elif bar.open_ms > forming.open_ms:
            self._forming = bar
            if not self._suspended:
                return [self._hand_out(forming)]
            self._waiting.append(forming)
        return []

    def apply_time(self, now_ms: int, grace_ms: int) -> Bar | None:
        """Close the forming bar where its end and the grace have passed; it stays provisional until confirmed."""
        forming = self._forming
        if forming is None or self._suspended or now_ms < forming.end_ms + grace_ms:
            return None
        self._forming = None
        self.provisional.add(forming.open_ms)
        return self._hand_out(forming)

    def confirm(self, bars: Sequence[Bar], now_ms: int) -> list[Bar]:
        """Fold in candle history as REST gave it when the venue's time was `now_ms`; the bars it closes, in order.

        A bar that ends after `now_ms` is forming still, unless a later one has begun: our idea of the venue's time may
        lag behind its answer. A bar that was skipped is taken off its gap, not handed out:
        later ones were.
        """
        closed: dict[int, Bar] = {bar.open_ms: bar for bar in self._waiting}
        forming: Bar | None = None
        seen: set[int] = set()
        begun_ms = max((bar.open_ms for bar in bars), default=0)
        if self._forming is not None:
            begun_ms = max(begun_ms, self._forming.open_ms)
        for bar in bars:
            self._check(bar)
            if bar.open_ms in seen:
                continue
            if bar.end_ms > now_ms and bar.open_ms == begun_ms:
                forming = bar
            elif self._next_ms is not None and bar.open_ms < self._next_ms:
                self._compare(bar)
                self._fill(bar)
            else:
                closed[bar.open_ms] = bar
            seen.add(bar.open_ms)
        self._suspended, self._waiting = False, []
        if self._forming is not None and any(open_ms >= self._forming.open_ms for open_ms in closed):
            if self._forming.open_ms not in closed:
                closed[self._forming.open_ms] = self._forming
            self._forming = None
        handed_out = [self._hand_out(closed[open_ms]) for open_ms in sorted(closed)]
        if forming is not None:
            handed_out += self.apply_candle(forming)
        return handed_out

    def _hand_out(self, bar: Bar) -> Bar:
        """Remember it as handed out, and what was skipped before it."""
        if self._next_ms is not None and bar.open_ms > self._next_ms:
            self.gaps.append((self._next_ms, bar.open_ms))
        bar = replace(bar, origin=self.origin)
        self._next_ms = bar.end_ms
        self._done[bar.open_ms] = bar
        while len(self._done) > _REMEMBERED:
            del self._done[next(iter(self._done))]
        return bar

    def _compare(self, bar: Bar) -> None:
        """What is told of a bar after it was handed out."""
        handed_out = self._done.get(bar.open_ms)
        if handed_out is not None and _figures(handed_out) != _figures(bar):
            self.revised += 1

    def _fill(self, bar: Bar) -> None:
        """History has a bar that was handed out by time alone, or skipped."""
        self.provisional.discard(bar.open_ms)
        for place, (from_ms, to_ms) in enumerate(self.gaps):
            if from_ms <= bar.open_ms < to_ms:
                parts = ((from_ms, bar.open_ms), (bar.end_ms, to_ms))
                self.gaps[place : place + 1] = [(start, stop) for start, stop in parts if start < stop]
                break

    def _newer(self, known: Bar, update: Bar) -> Bar:
        """The one that knows more of the same bar: updates are cumulative."""
        return known if (update.trades, update.volume) < (known.trades, known.volume) else update

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
                continue
            if self._open_ms is not None and open_ms > self._open_ms:
                closed.append(self._close())
            if trade.tid in self._trades:
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
