"""Public trades of the simulated venue: prints that rebuild a bar exactly, and the latest of them a coin."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from aml100.domain.market import Bar, Instrument
from aml100.domain.units import Coin
from aml100.sim.words import ZERO_HASH, Json, Object, text

LATEST: Final = 30
_BUYER: Final = "0x" + 40 * "1"
_SELLER: Final = "0x" + 40 * "2"


def corners(bar: Bar) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """The path through a bar: open, the extremes in the likelier order, close."""
    turns = (bar.low, bar.high) if bar.close >= bar.open else (bar.high, bar.low)
    return (bar.open, *turns, bar.close)


def split(volume: Decimal, parts: int, instrument: Instrument) -> list[Decimal]:
    """A volume in parts that add up to it exactly: whole lots where there are enough, the rest in the first."""
    part = instrument.round_size(volume / parts)
    if part == 0:
        part = volume.scaleb(-(len(str(parts)) + 1))
    return [volume - part * (parts - 1), *[part] * (parts - 1)]


class Prints:
    """The latest trades of every coin."""

    def __init__(self) -> None:
        self._latest: dict[Coin, deque[Object]] = {}

    def make(
        self, bar: Bar, instrument: Instrument, path: Sequence[Decimal], sizes: Sequence[Decimal], first: int, of: int
    ) -> list[Json]:
        """Trades along a piece of a bar's path.

        `first` is the number of the first of them among the `of` trades of the bar, which are spread evenly over it.
        """
        made: list[Json] = []
        for number, (price, size) in enumerate(zip(path, sizes, strict=True), start=first):
            before = path[max(0, number - first - 1)]
            row: Object = {
                "coin": bar.coin,
                "side": "B" if price >= before else "A",
                "px": text(price),
                "sz": text(size),
                "time": bar.open_ms + number * (bar.interval_ms - 1) // (of - 1),
                "hash": ZERO_HASH,
                "tid": (bar.open_ms // 1000 * 64 + number) * 1024 + instrument.asset_id % 1024,
                "users": [_BUYER, _SELLER],
            }
            self._latest.setdefault(bar.coin, deque(maxlen=LATEST)).append(row)
            made.append(row)
        return made

    def latest(self, coin: Coin) -> list[Json]:
        """The latest trades, oldest first."""
        return list(self._latest.get(coin, ()))
