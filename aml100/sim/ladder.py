"""The book that the simulated venue shows around the replayed price, and trades from where it has depth.

The one idea: the book is a function of the price. The touch lies the configured slippage away from it, rounded
outward to prices the venue accepts, so that a small market order costs what a back-test charges; twenty levels follow
on each side, larger the farther they lie. What somebody took is gone until the price moves on.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from aml100.domain.market import Instrument
from aml100.domain.orders import Side
from aml100.domain.units import ZERO, Coin

LEVELS: Final = 20
LEVEL_USD: Final = Decimal(20_000)
_MIX: Final = 2_654_435_761
_SPREAD_OF_SIZES: Final = 97


@dataclass(frozen=True, slots=True)
class Level:
    """`size` at one price, from `orders` orders."""

    price: Decimal
    size: Decimal
    orders: int


def tick_at(price: Decimal, instrument: Instrument) -> Decimal:
    """Distance of neighbouring accepted prices at this one."""
    decimals = max(0, 4 - price.adjusted())
    if instrument.px_decimals is not None:
        decimals = min(decimals, instrument.px_decimals)
    return Decimal(1).scaleb(-decimals)


def touch(price: Decimal, half_spread_frac: Decimal, instrument: Instrument) -> tuple[Decimal, Decimal]:
    """Best bid and ask: the price less and plus the half spread, rounded outward, never the price itself."""
    bid = instrument.limit_price(price * (1 - half_spread_frac), Side.SELL)
    ask = instrument.limit_price(price * (1 + half_spread_frac), Side.BUY)
    tick = tick_at(price, instrument)
    bid = bid - tick if bid >= price and bid > tick else bid
    return bid, (ask + tick if ask <= price else ask)


class Ladder:
    """Levels by coin and side, with what has been taken from them since the price was last set."""

    def __init__(self, half_spread_frac: Decimal) -> None:
        self.half_spread_frac = half_spread_frac
        self._taken: dict[tuple[Coin, Side, Decimal], Decimal] = {}

    def refill(self) -> None:
        """The price was set anew."""
        if self._taken:
            self._taken.clear()

    def take(self, coin: Coin, side: Side, price: Decimal, size: Decimal) -> None:
        """`size` at this level of the resting `side` is gone."""
        key = (coin, side, price)
        self._taken[key] = self._taken.get(key, ZERO) + size

    def levels(self, price: Decimal, instrument: Instrument, side: Side, depth: int = LEVELS) -> list[Level]:
        """Resting orders of nobody on one side around a price, best first: bids for BUY, asks for SELL."""
        bid, ask = touch(price, self.half_spread_frac, instrument)
        best, sign = (bid, -1) if side is Side.BUY else (ask, 1)
        step = max(tick_at(price, instrument), price * self.half_spread_frac / 2)
        lot = Decimal(1).scaleb(-instrument.sz_decimals)
        rows: list[Level] = []
        row = 0
        while len(rows) < depth and row < 4 * depth:
            away = best + sign * row * step
            row += 1
            if away <= 0:
                break
            at = best if row == 1 else instrument.limit_price(away, Side.SELL if sign < 0 else Side.BUY)
            if rows and (at - rows[-1].price) * sign <= 0:
                continue
            vary = (int(at.scaleb(8)) * _MIX + row) % _SPREAD_OF_SIZES
            size = instrument.round_size(LEVEL_USD * row * (50 + vary) / 100 / at)
            left = max(size, lot) - self._taken.get((instrument.coin, side, at), ZERO)
            if left > 0:
                rows.append(Level(at, left, 1 + vary % 4))
        return rows
