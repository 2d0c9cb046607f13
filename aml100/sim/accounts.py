"""What the simulated venue keeps about its users, and the margin arithmetic over it.

The one idea: an account's `balance` is the plain sum of what was booked (deposits, realised profit, fees, funding).
Everything else the venue shows (equity, margin used, liquidation price) is computed from it, the positions and the
present prices, by the relations that hold on recorded answers. Nothing here decides a match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias

from aml100.domain.events import FundingPaid
from aml100.domain.market import Instrument
from aml100.domain.orders import Fill, Order, OrderStatus, Side
from aml100.domain.units import ZERO, Cloid, Coin

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
class FillEvent:
    """An execution. `closed_pnl` excludes fees; `start_position` is the signed size before; `dir` the venue's words."""

    address: str
    fill: Fill
    closed_pnl: Decimal
    start_position: Decimal
    dir: str


@dataclass(frozen=True, slots=True)
class FundingEvent:
    address: str
    paid: FundingPaid


VenueEvent: TypeAlias = OrderEvent | FillEvent | FundingEvent

# --- what is kept -------------------------------------------------------------------------------------------------


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

    @property
    def is_armed_trigger(self) -> bool:
        return self.order.trigger_price is not None and self.status is OrderStatus.RESTING and not self.triggered

    @property
    def is_live_limit(self) -> bool:
        return self.status is OrderStatus.RESTING and (self.order.trigger_price is None or self.triggered)


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


@dataclass(slots=True)
class Account:
    """One user's money, positions, orders by id and history, oldest first."""

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
        self.funding_all_time[paid.coin] = self.funding_all_time.get(paid.coin, ZERO) - paid.amount
        self.fundings.append(paid)


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


# --- margin -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HoldingView:
    """One position as clearinghouseState shows it. `raw_usd` is None under cross margin."""

    coin: Coin
    size: Decimal
    entry: Decimal
    leverage: Leverage
    raw_usd: Decimal | None
    value: Decimal
    unrealised: Decimal
    return_on_equity: Decimal
    liquidation_px: Decimal | None
    margin_used: Decimal
    max_leverage: int
    funding_all_time: Decimal
    funding_since_open: Decimal
    funding_since_change: Decimal


@dataclass(frozen=True, slots=True)
class MarginView:
    """The numbers of clearinghouseState, in USD; `cross_` counts positions under cross margin only."""

    account_value: Decimal
    notional: Decimal
    raw_usd: Decimal
    margin_used: Decimal
    cross_value: Decimal
    cross_notional: Decimal
    cross_raw_usd: Decimal
    cross_margin_used: Decimal
    cross_maintenance: Decimal
    withdrawable: Decimal
    holdings: tuple[HoldingView, ...]


def maintenance_margin(size: Decimal, price: Decimal, instrument: Instrument) -> Decimal:
    """Half of the initial margin at the coin's highest leverage, in USD."""
    return abs(size) * price / (2 * instrument.max_leverage)


def margin_view(account: Account, prices: Mapping[Coin, Decimal], instruments: Mapping[Coin, Instrument]) -> MarginView:
    """What the venue would answer about this account at these prices."""
    account_value = cross_value = account.balance
    notional = margin_used = cross_notional = cross_margin_used = cross_maintenance = cross_net = net = ZERO
    for coin, held in account.holdings.items():
        mark = prices[coin]
        value = abs(held.size) * mark
        unrealised = held.size * (mark - held.entry)
        account_value += unrealised
        notional += value
        net += held.size * mark
        leverage = account.leverage_of(instruments[coin])
        if leverage.is_cross:
            cross_value += unrealised
            cross_notional += value
            cross_net += held.size * mark
            cross_margin_used += value / leverage.value
            cross_maintenance += maintenance_margin(held.size, mark, instruments[coin])
        else:
            cross_value -= held.isolated_margin
            margin_used += held.isolated_margin + unrealised
    views = tuple(
        _holding_view(account, coin, held, prices[coin], instruments[coin], cross_value - cross_maintenance)
        for coin, held in account.holdings.items()
    )
    return MarginView(
        account_value=account_value,
        notional=notional,
        raw_usd=account_value - net,
        margin_used=margin_used + cross_margin_used,
        cross_value=cross_value,
        cross_notional=cross_notional,
        cross_raw_usd=cross_value - cross_net,
        cross_margin_used=cross_margin_used,
        cross_maintenance=cross_maintenance,
        withdrawable=max(ZERO, cross_value - cross_margin_used),
        holdings=views,
    )


def _holding_view(
    account: Account, coin: Coin, held: Holding, mark: Decimal, instrument: Instrument, cross_available: Decimal
) -> HoldingView:
    leverage = account.leverage_of(instrument)
    value = abs(held.size) * mark
    unrealised = held.size * (mark - held.entry)
    if leverage.is_cross:
        margin_used, raw_usd, available = value / leverage.value, None, cross_available
    else:
        margin_used = held.isolated_margin + unrealised
        raw_usd = margin_used - held.size * mark
        available = margin_used - maintenance_margin(held.size, mark, instrument)
    entry_margin = abs(held.size) * held.entry / leverage.value
    return HoldingView(
        coin=coin,
        size=held.size,
        entry=held.entry,
        leverage=leverage,
        raw_usd=raw_usd,
        value=value,
        unrealised=unrealised,
        return_on_equity=unrealised / entry_margin,
        liquidation_px=liquidation_price(held.size, mark, available, instrument),
        margin_used=margin_used,
        max_leverage=instrument.max_leverage,
        funding_all_time=account.funding_all_time.get(coin, ZERO),
        funding_since_open=held.funding_since_open,
        funding_since_change=held.funding_since_change,
    )


def liquidation_price(size: Decimal, mark: Decimal, available: Decimal, instrument: Instrument) -> Decimal | None:
    """Where the position's equity meets its maintenance margin; None where no positive price does.

    `available` is what stands between the account (or the isolated margin) and maintenance now, in USD.
    """
    side = 1 if size > 0 else -1
    rate = Decimal(1) / (2 * instrument.max_leverage)
    price = mark - side * available / abs(size) / (1 - rate * side)
    return price if price > 0 else None


def free_margin(account: Account, prices: Mapping[Coin, Decimal], instruments: Mapping[Coin, Instrument]) -> Decimal:
    """Cross equity that no position uses as initial margin, in USD."""
    free = account.balance
    for coin, held in account.holdings.items():
        leverage = account.leverage_of(instruments[coin])
        if leverage.is_cross:
            mark = prices[coin]
            free += held.size * (mark - held.entry) - abs(held.size) * mark / leverage.value
        else:
            free -= held.isolated_margin
    return free
