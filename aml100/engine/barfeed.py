"""Bars of all coins on their way from the stream to the core: closed, complete and in order.

Two rules. A coin whose stream was cut, or whose bars do not follow on one another, hands out nothing until REST has
said what there was (`suspended`, `confirm`): so a reconnect loses no bar, and a hole that is left is a fact. And the
bars of one end time go to the core together: once every coin's is there, or when waiting for stragglers is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.market.bars import BarAssembler


class BarFeed:
    """One engine's bars. `taken_to` answers up to which time the core has a coin's bars."""

    def __init__(self, coins: Sequence[Coin], interval_ms: int, origin: str, taken_to: Callable[[Coin], int]) -> None:
        self.interval_ms = interval_ms
        self.assemblers = {coin: BarAssembler(coin, interval_ms, origin) for coin in coins}
        self._taken_to = taken_to
        self._latest: dict[Coin, int] = {}
        self._closed: dict[int, dict[Coin, Bar]] = {}

    # --- from the venue ---------------------------------------------------------------------------------------

    def on_candle(self, bar: Bar, *, checks: bool) -> bool:
        """Take in an update of the stream; true where `checks` found that bars are missing before it.

        Such a coin is suspended from then on.
        """
        assembler = self.assemblers[bar.coin]
        latest = self._latest.get(bar.coin)
        holed = (
            checks
            and not assembler.is_suspended
            and bar.open_ms > (self._taken_to(bar.coin) if latest is None else latest + self.interval_ms)
        )
        if holed:
            assembler.suspend()
        self._latest[bar.coin] = max(bar.open_ms, latest or 0)
        for closed in assembler.apply_candle(bar):
            self.collect(closed)
        return holed

    def suspend(self, coin: Coin | None = None) -> None:
        """The stream was cut (for one coin, or for all)."""
        for assembler in [self.assemblers[coin]] if coin else self.assemblers.values():
            assembler.suspend()

    def suspended(self) -> tuple[Coin, ...]:
        """Coins for which REST has to be asked."""
        return tuple(coin for coin, one in self.assemblers.items() if one.is_suspended)

    def confirm(self, coin: Coin, bars: Sequence[Bar], now_ms: int) -> list[Bar]:
        """What REST says; answers the bars that are closed by it, which are collected already."""
        handed_out = self.assemblers[coin].confirm(bars, now_ms)
        for bar in handed_out:
            self._latest[coin] = max(bar.open_ms, self._latest.get(coin, 0))
            self.collect(bar)
        return handed_out

    def overdue(self, now_ms: int, grace_ms: float) -> tuple[Coin, ...]:
        """Coins that owe a bar: its end and the grace have passed, and no later one has started."""
        return tuple(
            coin
            for coin, one in self.assemblers.items()
            if not one.is_suspended and self._taken_to(coin) and now_ms > self._owed_end(coin) + grace_ms
        )

    def _owed_end(self, coin: Coin) -> int:
        waiting = [end_ms for end_ms, found in self._closed.items() if coin in found]
        return max([self._taken_to(coin), *waiting]) + self.interval_ms

    def close_by_time(self, coin: Coin, end_ms: int) -> None:
        """The venue itself says that bars up to `end_ms` are closed."""
        bar = self.assemblers[coin].apply_time(end_ms, 0)
        if bar is not None:
            self.collect(bar)

    def collect(self, bar: Bar) -> None:
        """Keep a closed bar until its end time is complete; one that was taken in already is an echo."""
        if bar.end_ms > self._taken_to(bar.coin):
            self._closed.setdefault(bar.end_ms, {})[bar.coin] = bar

    def revised(self, coin: Coin) -> int:
        """How often a bar of this coin was told otherwise after it had been handed out."""
        return self.assemblers[coin].revised

    # --- to the core ------------------------------------------------------------------------------------------

    def waits_for(self, end_ms: int) -> tuple[Coin, ...]:
        """Coins whose bar of this end time is not there."""
        return tuple(coin for coin in self.assemblers if coin not in self._closed.get(end_ms, {}))

    def ready(self, now_ms: int, straggle_ms: float) -> list[tuple[int, tuple[Bar, ...]]]:
        """Take out, oldest first, what is complete or has waited long enough for stragglers."""
        found = []
        for end_ms in sorted(self._closed):
            if self.waits_for(end_ms) and now_ms <= end_ms + straggle_ms:
                break
            found.append((end_ms, self.take(end_ms)))
        return found

    def ends(self) -> list[int]:
        """End times of what is collected, oldest first."""
        return sorted(self._closed)

    def take(self, end_ms: int) -> tuple[Bar, ...]:
        """Take out the bars of one end time, in the order of the coins."""
        found = self._closed.pop(end_ms)
        return tuple(found[coin] for coin in self.assemblers if coin in found)
