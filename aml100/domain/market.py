"""The market as the venue shows it: instruments, trades, bars, the touch, and the context of an asset.

What comes in streams is a struct, for the reason that `events` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

import msgspec

from aml100.domain.orders import Side
from aml100.domain.units import Coin, floor_size, round_price


@dataclass(frozen=True, slots=True)
class Instrument:
    """A perpetual and its rules.

    `px_decimals` is 6 - sz_decimals on the venue; None for a coin nobody knows, whose prices have five significant
    figures and no other bound.
    """

    coin: Coin
    asset_id: int
    sz_decimals: int
    max_leverage: int
    px_decimals: int | None
    only_isolated: bool = False
    """The venue allows no cross margin here, as on many builders' exchanges."""

    def round_size(self, size: Decimal) -> Decimal:
        """Down to the lot."""
        return floor_size(size, self.sz_decimals)

    def round_price(self, price: Decimal) -> Decimal:
        """To the nearest price the venue accepts."""
        return round_price(price, self.px_decimals, ROUND_HALF_EVEN)

    def limit_price(self, price: Decimal, side: Side) -> Decimal:
        """A bound for an order: rounded so that it never binds tighter than asked (up for a buy, down for a sell)."""
        return round_price(price, self.px_decimals, ROUND_CEILING if side is Side.BUY else ROUND_FLOOR)


class Trade(msgspec.Struct, frozen=True):
    """A public print. `side` is the aggressor's."""

    coin: Coin
    side: Side
    price: Decimal
    size: Decimal
    time_ms: int
    tid: int


class Bar(msgspec.Struct, frozen=True):
    """One interval of trading, [open_ms, open_ms + interval_ms) in UTC ms."""

    coin: Coin
    interval_ms: int
    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int
    origin: str = ""
    """Where it comes from: `hyperliquid:mainnet`, `file:NAME`, `synthetic:NAME`. Never dropped on the way."""

    @property
    def end_ms(self) -> int:
        """The open of the bar after it."""
        return self.open_ms + self.interval_ms


class BookTop(msgspec.Struct, frozen=True):
    """Best bid and ask with what is shown there; a side of an empty book is None."""

    coin: Coin
    time_ms: int
    bid: Decimal | None
    ask: Decimal | None
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None


class AssetContext(msgspec.Struct, frozen=True):
    """Mark (margin, triggers, unrealised profit), oracle (index, funding) and the running hourly funding rate."""

    coin: Coin
    mark: Decimal
    oracle: Decimal
    funding_rate: Decimal
    premium: Decimal | None


@dataclass(frozen=True, slots=True)
class FundingRate:
    """The hourly rate settled at `time_ms` (a full hour); positive: longs pay."""

    coin: Coin
    time_ms: int
    rate: Decimal
    premium: Decimal | None = None


# Size step and maximum leverage of the coins people trade most, as the venue's metadata states them (December 2025).
# A live engine asks the venue; this table serves files, back-tests and the simulated venue.
_KNOWN: dict[str, tuple[int, int]] = {
    "BTC": (5, 40),
    "ETH": (4, 25),
    "SOL": (2, 20),
    "AVAX": (2, 10),
    "BNB": (3, 10),
    "LTC": (2, 10),
    "DOGE": (0, 10),
    "SUI": (1, 10),
    "kPEPE": (0, 10),
    "LINK": (1, 10),
    "XRP": (0, 20),
    "TRX": (0, 10),
    "DOT": (1, 10),
    "ADA": (0, 10),
    "HYPE": (2, 10),
}


def known_coins() -> tuple[Coin, ...]:
    """Coins whose rules are known without asking a venue."""
    return tuple(Coin(name) for name in _KNOWN)


def instrument_for(coin: Coin, asset_id: int = 0) -> Instrument:
    """Rules of a coin without asking a venue; an unknown one has size step 1e-5 and five significant figures."""
    if coin in _KNOWN:
        sz_decimals, max_leverage = _KNOWN[coin]
        return Instrument(coin, asset_id, sz_decimals, max_leverage, 6 - sz_decimals)
    return Instrument(coin, asset_id, 5, 20, None)
