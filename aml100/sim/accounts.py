"""What the simulated venue keeps about its users, and what it tells of them.

The one idea: an account's `balance` is the plain sum of what was booked (deposits, realised profit, fees, funding).
Everything else the venue shows is computed from it (`margin`). Nothing here decides a match.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias

from aml100.domain.events import FundingPaid
from aml100.domain.market import Bar, Instrument
from aml100.domain.orders import Fill, Order, OrderStatus, Side
from aml100.domain.units import ZERO, Cloid, Coin

FILLS_KEPT = 10_000
"""Of an account's fills and funding payments, the latest: as many as the venue keeps."""

DEFAULT_LEVERAGE = 20
"""Leverage of a coin nobody has set, bounded by the coin's maximum."""

# --- what happened ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """An order changed. `status` is ours, `word` the venue's own (`open`, `siblingFilledCanceled`, ...).

    `remaining` keeps the unfilled size of a cancelled order; `reason` is the venue's text of a refusal, else the word.
    """

    address: str
    order: Order
    status: OrderStatus
    word: str
    oid: int
    cloid: Cloid | None
    reason: str
    remaining: Decimal
    placed_ms: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Liquidated:
    """Why the venue closed a position: the mark price, `market` or `backstop`, the notional closed, equity before."""

    mark: Decimal
    method: str
    notional: Decimal
    account_value: Decimal


@dataclass(frozen=True, slots=True)
class FillEvent:
    """An execution. `closed_pnl` excludes fees; `start_position` is the signed size before; `dir` the venue's words."""

    address: str
    fill: Fill
    closed_pnl: Decimal
    start_position: Decimal
    dir: str
    liquidation: Liquidated | None = None


@dataclass(frozen=True, slots=True)
class FundingEvent:
    address: str
    paid: FundingPaid


VenueEvent: TypeAlias = OrderEvent | FillEvent | FundingEvent

# --- what is kept -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderTags:
    """What a request says about an order beside its numbers, and what a fault makes of it.

    `is_front_market`: sent with the tif of the venue's own screen. `on_position`: a trigger tied to the position
    (`positionTpsl`); `whole`: it covers whatever the position is. `share`: the part of the first execution that finds
    somebody to trade with. `refusal`: the text with which it is rejected; `is_lost`: cancelled by the venue at once.
    """

    is_front_market: bool = False
    on_position: bool = False
    whole: bool = False
    share: Decimal | None = None
    refusal: str = ""
    is_lost: bool = False


PLAIN = OrderTags()
_RESTING, _BUY = OrderStatus.RESTING, Side.BUY


@dataclass(slots=True)
class OrderRecord:
    """An order as the venue remembers it, open or done. `triggered`: a limit trigger that has become a plain limit."""

    oid: int
    address: str
    order: Order
    remaining: Decimal
    status: OrderStatus
    word: str
    placed_ms: int
    changed_ms: int
    parent: int | None = None
    children: list[int] = field(default_factory=list)
    triggered: bool = False
    tags: OrderTags = PLAIN

    @property
    def is_armed_trigger(self) -> bool:
        return self.order.trigger_price is not None and self.status is OrderStatus.RESTING and not self.triggered

    @property
    def is_live_limit(self) -> bool:
        return self.status is OrderStatus.RESTING and (self.order.trigger_price is None or self.triggered)

    def is_reached_by(self, bar: Bar) -> bool:
        """The bar's range touches the level of a trigger that is armed, or trades strictly through a resting limit."""
        order = self.order
        level = order.trigger_price
        if self.status is not _RESTING:
            return False
        if level is not None and not self.triggered:
            return bar.low <= level if order.fires_below else bar.high >= level
        return bar.low < order.price if order.side is _BUY else bar.high > order.price


@dataclass(slots=True)
class Holding:
    """An open position. `isolated_margin` is the collateral set aside for it, 0 under cross margin.

    Funding sums are positive where the holder paid, as the venue shows them.
    """

    size: Decimal
    entry: Decimal
    isolated_margin: Decimal = ZERO
    funding_since_open: Decimal = ZERO
    funding_since_change: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Leverage:
    value: int
    is_cross: bool = True


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money that came or went otherwise than by trading. `kind` is the venue's word; `amount` is signed.

    Of a transfer between accounts `user` is who sent it and `destination` who got it.
    """

    time_ms: int
    kind: str
    amount: Decimal
    user: str = ""
    destination: str = ""


@dataclass(slots=True)
class Account:
    """One user's money, positions, orders by id and history, oldest first.

    `cooling` holds until when a position liquidated in part is left alone; `fired` the UTC day and number of the
    scheduled cancels carried out on it.
    """

    address: str
    balance: Decimal
    deposits: Decimal
    holdings: dict[Coin, Holding] = field(default_factory=dict)
    leverage: dict[Coin, Leverage] = field(default_factory=dict)
    open_oids: list[int] = field(default_factory=list)
    all_oids: list[int] = field(default_factory=list)
    cloids: dict[Cloid, int] = field(default_factory=dict)
    fills: list[FillEvent] = field(default_factory=list)
    fundings: list[FundingPaid] = field(default_factory=list)
    funding_all_time: dict[Coin, Decimal] = field(default_factory=dict)
    volume: Decimal = ZERO
    cancel_at_ms: int | None = None
    transfers: list[Transfer] = field(default_factory=list)
    cooling: dict[Coin, int] = field(default_factory=dict)
    fired: tuple[int, int] = (0, 0)

    def leverage_of(self, instrument: Instrument) -> Leverage:
        return self.leverage.get(instrument.coin) or Leverage(min(DEFAULT_LEVERAGE, instrument.max_leverage))

    def apply_fill(self, fill: Fill, leverage: Leverage) -> Decimal:
        """Book a fill at average cost; return the profit it realised, fees excluded."""
        held = self.holdings.get(fill.coin)
        signed = fill.signed_size
        if held is None:
            held = self.holdings[fill.coin] = Holding(ZERO, ZERO)
        before, after = held.size, held.size + signed
        realised = ZERO
        if before == 0 or (before > 0) == (signed > 0):
            held.entry = (before * held.entry + signed * fill.price) / after
            if not leverage.is_cross:
                held.isolated_margin += fill.size * fill.price / leverage.value
        else:
            closed = min(fill.size, abs(before))
            realised = closed * (fill.price - held.entry) * (1 if before > 0 else -1)
            if after == 0 or (after > 0) != (before > 0):
                held.entry = fill.price
                held.funding_since_open = ZERO
                held.isolated_margin = ZERO if leverage.is_cross else abs(after) * fill.price / leverage.value
            else:
                held.isolated_margin = held.isolated_margin * after / before
        held.size = after
        held.funding_since_change = ZERO
        if after == 0:
            del self.holdings[fill.coin]
        self.balance += realised - fill.fee
        self.volume += fill.price * fill.size
        return realised

    def apply_funding(self, paid: FundingPaid) -> None:
        """Book one hour's funding; under isolated margin it comes out of the position's own collateral."""
        held = self.holdings[paid.coin]
        self.balance += paid.amount
        held.funding_since_open -= paid.amount
        held.funding_since_change -= paid.amount
        if held.isolated_margin:
            held.isolated_margin += paid.amount
        if len(self.fundings) > 2 * FILLS_KEPT:
            del self.fundings[:-FILLS_KEPT]
        self.funding_all_time[paid.coin] = self.funding_all_time.get(paid.coin, ZERO) - paid.amount
        self.fundings.append(paid)

    def keep_fill(self, event: FillEvent) -> None:
        """Remember a fill, and let go of the oldest."""
        self.fills.append(event)
        if len(self.fills) > 2 * FILLS_KEPT:
            del self.fills[:-FILLS_KEPT]


def direction(side: Side, start: Decimal, size: Decimal) -> str:
    """The venue's words for what a fill did to a position of signed size `start`.

    >>> direction(Side.SELL, Decimal(2), Decimal(1)), direction(Side.SELL, Decimal(2), Decimal(3))
    ('Close Long', 'Long > Short')
    """
    if side is Side.BUY:
        if start >= 0:
            return "Open Long"
        return "Close Short" if size <= -start else "Short > Long"
    if start <= 0:
        return "Open Short"
    return "Close Long" if size <= start else "Long > Short"
