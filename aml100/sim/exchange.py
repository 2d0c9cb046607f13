"""The matching engine of the simulated venue: pure, deterministic, exact.

The one idea: time moves in two calls a bar. `open_bars` sets the clock and the prices to the bars' opens and pays the
hour's funding; orders placed now execute at those opens. `play_bars` walks the range of the same bars for everything
that waits at the venue, stops before targets, and leaves the prices at the closes. A back-test calls the two directly;
the venue's server calls them in step with its clients. Nobody else can tell the difference.

Rules of execution: a market-like order fills whole at the present price worsened by the slippage, if its limit allows
that; a stop fills at its level (or at the open that lies beyond it), worsened; a target exactly at its level; a
resting limit at its price, as maker, and only when the market trades strictly through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec

from aml100.domain.events import FundingPaid, Grouping
from aml100.domain.market import Bar, Instrument
from aml100.domain.orders import Fill, Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import HOUR_MS, MIN_NOTIONAL_USD, ZERO, Cloid, Coin, truncate_usd
from aml100.sim.accounts import (
    Account,
    FillEvent,
    FundingEvent,
    Holding,
    Leverage,
    MarginView,
    OrderEvent,
    OrderRecord,
    VenueEvent,
    direction,
    free_margin,
    maintenance_margin,
    margin_view,
)

__all__ = [
    "Exchange",
    "ExchangeRules",
    "FillEvent",
    "FundingEvent",
    "OrderEvent",
    "OrderRecord",
    "OrderResult",
    "VenueEvent",
]

SCHEDULE_CANCEL_VOLUME_USD: Final = 1_000_000
FIRST_OID: Final = 100_000_001
_TID_STEP: Final = 0x2545F4914F6CDD
"""Odd, so that n * step mod 2**50 visits every 50-bit trade id once."""

NEVER_PLACED: Final = "Order was never placed, already canceled, or filled."
CANNOT_MODIFY: Final = "Cannot modify canceled or filled order"
_MAX_AWAY: Final = Decimal("0.8")
_REDUCES: Final = "Reduce only order would increase position."


@dataclass(frozen=True, slots=True)
class ExchangeRules:
    """Costs as fractions of the notional. `check_margin`: orders that the account cannot carry are refused."""

    taker_fee_frac: Decimal
    maker_fee_frac: Decimal
    slippage_frac: Decimal
    check_margin: bool = True


@dataclass(frozen=True, slots=True)
class OrderResult:
    """The venue's answer to one order, in the order of the request.

    `error` is the venue's text with its ` asset=N` suffix, empty unless REJECTED; a child of a group is WAITING, with
    `word` `waitingForFill` until its parent filled and `waitingForTrigger` where that happened in the same request.
    """

    status: OrderStatus
    word: str
    oid: int | None
    cloid: Cloid | None
    filled_size: Decimal = ZERO
    average_price: Decimal = ZERO
    error: str = ""


@dataclass(slots=True)
class _State:
    """Everything that a restart needs, in one serialisable piece."""

    now_ms: int
    prices: dict[Coin, Decimal]
    bars: list[Bar]
    next_oid: int
    next_trade: int
    accounts: dict[str, Account]
    orders: dict[int, OrderRecord]


class Exchange:
    """Order books of nobody but our accounts, against prices that do not react to them.

    Attributes to read: `now_ms`, `prices` (last price a coin), `instruments`, `accounts`, `orders` (all ever, by oid).
    Addresses are lower case. Unknown addresses are KeyErrors: who may act is decided by the caller.
    """

    def __init__(self, instruments: Sequence[Instrument], rules: ExchangeRules) -> None:
        self.instruments: dict[Coin, Instrument] = {one.coin: one for one in instruments}
        self.rules = rules
        self.now_ms = 0
        self.prices: dict[Coin, Decimal] = {}
        self.accounts: dict[str, Account] = {}
        self.orders: dict[int, OrderRecord] = {}
        self._bars: Sequence[Bar] = ()
        self._next_oid = FIRST_OID
        self._next_trade = 1
        self._active: dict[str, Account] = {}  # accounts with a position, an open order or a scheduled cancel

    def add_account(self, address: str, deposit: Decimal) -> None:
        """Open an account; ValueError where it exists already."""
        address = address.lower()
        if address in self.accounts:
            raise ValueError(f"account {address} exists already")
        self.accounts[address] = Account(address, deposit, deposit)

    # --- market time ------------------------------------------------------------------------------------------

    def open_bars(self, bars: Sequence[Bar], funding: Mapping[Coin, Decimal]) -> list[VenueEvent]:
        """Move market time and prices to the opens of these bars, which share their open time.

        Where that is a full hour, each open position of a coin with a rate in `funding` pays size x open x rate,
        before anything fills at that open.
        """
        self._bars = bars
        self.now_ms = now = bars[0].open_ms
        prices = self.prices
        for bar in bars:
            prices[bar.coin] = bar.open
        if not self._active:
            return []
        events: list[VenueEvent] = []
        if funding and now % HOUR_MS == 0:
            self._pay_funding(bars, funding, events)
        self.fire_schedules(events)
        return events

    def play_bars(self) -> list[VenueEvent]:
        """Walk the range of the opened bars; afterwards prices are the closes and the time is the bars' end."""
        bars, self._bars = self._bars, ()
        if not bars:
            return []
        events: list[VenueEvent] = []
        self.now_ms = end_ms = bars[0].end_ms
        if self._active:
            for account in list(self._active.values()):
                for bar in bars:
                    self._play_bar(account, bar, events)
                if account.holdings:
                    self._liquidate(account, bars, events)
        prices = self.prices
        for bar in bars:
            prices[bar.coin] = bar.close
        self.now_ms = end_ms
        if self._active:
            self.fire_schedules(events)
        return events

    def fire_schedules(self, events: list[VenueEvent]) -> None:
        """Carry out the scheduled cancels whose market time has come."""
        for account in list(self._active.values()):
            if account.cancel_at_ms is not None and self.now_ms >= account.cancel_at_ms:
                account.cancel_at_ms = None
                for oid in list(account.open_oids):
                    self._close(self.orders[oid], OrderStatus.CANCELED, "scheduledCancel", events)
                self._note_activity(account)

    def _pay_funding(self, bars: Sequence[Bar], funding: Mapping[Coin, Decimal], events: list[VenueEvent]) -> None:
        for account in self._active.values():
            for bar in bars:
                held, rate = account.holdings.get(bar.coin), funding.get(bar.coin)
                if held is None or rate is None:
                    continue
                amount = truncate_usd(-held.size * bar.open * rate) + ZERO
                paid = FundingPaid(bar.coin, self.now_ms, rate, amount, held.size)
                account.apply_funding(paid)
                events.append(FundingEvent(account.address, paid))

    def _play_bar(self, account: Account, bar: Bar, events: list[VenueEvent]) -> None:
        """Stops, then targets, then limits; a limit's children are armed in the bar that fills it."""
        if not account.open_oids:
            return
        self._fire_triggers(account, bar, OrderKind.STOP_LOSS, events)
        self._fire_triggers(account, bar, OrderKind.TAKE_PROFIT, events)
        if self._fill_limits(account, bar, events):
            self._fire_triggers(account, bar, OrderKind.STOP_LOSS, events)
            self._fire_triggers(account, bar, OrderKind.TAKE_PROFIT, events)

    def _fire_triggers(self, account: Account, bar: Bar, kind: OrderKind, events: list[VenueEvent]) -> None:
        """Fire the triggers of one kind that the bar's range touches, nearest to its open first."""
        touched: list[tuple[Decimal, int, OrderRecord]] = []
        for oid in account.open_oids:
            record = self.orders[oid]
            order = record.order
            level = order.trigger_price
            if level is None or order.coin != bar.coin or order.kind is not kind or not record.is_armed_trigger:
                continue
            falls = (order.side is Side.SELL) == (kind is OrderKind.STOP_LOSS)
            if bar.low <= level if falls else bar.high >= level:
                touched.append((abs(level - bar.open), oid, record))
        for _, _, record in sorted(touched, key=lambda one: one[:2]):
            if record.is_armed_trigger:  # a sibling may have taken it away meanwhile
                self._fire(account, record, bar, events)

    def _fire(self, account: Account, record: OrderRecord, bar: Bar, events: list[VenueEvent]) -> None:
        order = record.order
        level = order.trigger_price
        assert level is not None
        price = level
        if order.kind is OrderKind.STOP_LOSS:
            beyond = bar.open <= level if order.side is Side.SELL else bar.open >= level
            price = self._worsened(bar.open if beyond else level, order.side)
            self.now_ms = bar.open_ms if beyond else bar.end_ms
        if order.tif is TimeInForce.GTC:  # a limit trigger: its own price binds, else it rests from now on
            record.triggered = True
            if price > order.price if order.side is Side.BUY else price < order.price:
                self._change(record, OrderStatus.RESTING, "triggered", events)
                return
        self._execute(account, record, price, events, is_taker=True)

    def _fill_limits(self, account: Account, bar: Bar, events: list[VenueEvent]) -> bool:
        any_filled = False
        for oid in list(account.open_oids):
            record = self.orders[oid]
            order = record.order
            if order.coin != bar.coin or not record.is_live_limit:
                continue
            if bar.low < order.price if order.side is Side.BUY else bar.high > order.price:
                any_filled |= self._execute(account, record, order.price, events, is_taker=False)
        return any_filled

    # --- orders -----------------------------------------------------------------------------------------------

    def place(
        self, address: str, orders: Sequence[Order], grouping: Grouping = Grouping.NA
    ) -> tuple[list[OrderResult], list[VenueEvent]]:
        """Take orders at the present prices. With `normalTpsl` the first is the parent of the rest."""
        account = self.accounts[address]
        events: list[VenueEvent] = []
        if grouping is Grouping.NA:
            results = [self._place_one(account, order, events) for order in orders]
        else:
            results = self._place_group(account, orders, events)
        self._note_activity(account)
        return results, events

    def _place_group(self, account: Account, orders: Sequence[Order], events: list[VenueEvent]) -> list[OrderResult]:
        if len(orders) < 2:
            return [
                self._refuse(account, one, "rejected", "Unexpected number of trigger orders", events) for one in orders
            ]
        parent, children = orders[0], orders[1:]
        for child in children:
            problem = self._child_problem(account, parent, child)
            if problem is not None:
                return [self._refuse(account, one, *problem, events) for one in orders]
        oids = [self._take_oid() for _ in orders]
        for oid, child in zip(oids[1:], children, strict=True):
            record = self._record(account, child, oid, OrderStatus.WAITING, "open")
            record.parent = oids[0]
        result = self._place_one(account, parent, events, oid=oids[0], children=oids[1:])
        if result.status is OrderStatus.REJECTED:
            return [result, *(self._answer(self.orders[oid], result.error) for oid in oids[1:])]
        return [result, *(self._answer(self.orders[oid]) for oid in oids[1:])]

    def _answer(self, record: OrderRecord, error: str = "") -> OrderResult:
        """What a child's place in the answer says."""
        cloid = record.order.cloid or None
        if error:
            return OrderResult(OrderStatus.REJECTED, record.word, record.oid, cloid, error=error)
        word = "waitingForFill" if record.status is OrderStatus.WAITING else "waitingForTrigger"
        return OrderResult(OrderStatus.WAITING, word, record.oid, cloid)

    def _place_one(
        self,
        account: Account,
        order: Order,
        events: list[VenueEvent],
        oid: int | None = None,
        children: Sequence[int] = (),
    ) -> OrderResult:
        problem = self._shape_problem(account, order) or self._market_problem(account, order)
        record = self._record(account, order, self._take_oid() if oid is None else oid, OrderStatus.RESTING, "open")
        record.children.extend(children)
        cloid = order.cloid or None
        if problem is not None:
            word, text = problem
            text = f"{text} asset={self.instruments[order.coin].asset_id}"
            self._close(record, OrderStatus.REJECTED, word, events, text)
            return OrderResult(OrderStatus.REJECTED, word, record.oid, cloid, error=text)
        if order.is_trigger or not self._is_marketable(order):
            self._change(record, OrderStatus.RESTING, "open", events)
            return OrderResult(OrderStatus.RESTING, "open", record.oid, cloid)
        price = self._worsened(self.prices[order.coin], order.side)
        size = self._capped(account, order, record.remaining)
        self._execute(account, record, price, events, is_taker=True)
        return OrderResult(OrderStatus.FILLED, "filled", record.oid, cloid, size, price)

    def cancel(self, address: str, coin: Coin, ref: int | str) -> tuple[str | None, list[VenueEvent]]:
        """Cancel by oid or cloid; the text is None where it worked."""
        events: list[VenueEvent] = []
        record = self.order(address, ref)
        if record is None or record.order.coin != coin or record.oid not in self.accounts[address].open_oids:
            return f"{NEVER_PLACED} asset={self.instruments[coin].asset_id}", events
        self._close(record, OrderStatus.CANCELED, "canceled", events)
        self._note_activity(self.accounts[address])
        return None, events

    def modify(self, address: str, ref: int | str, order: Order) -> tuple[OrderResult, list[VenueEvent]]:
        """Cancel and replace: a new oid, the client id may stay. A refused new order leaves the old one cancelled."""
        record = self.order(address, ref)
        account = self.accounts[address]
        if record is None or record.oid not in account.open_oids:
            return OrderResult(OrderStatus.REJECTED, "rejected", None, order.cloid or None, error=CANNOT_MODIFY), []
        events: list[VenueEvent] = []
        family = [oid for oid in record.children if self.orders[oid].status is OrderStatus.WAITING]
        record.children.clear()
        self._close(record, OrderStatus.CANCELED, "canceled", events)
        if account.cloids.get(order.cloid) == record.oid:
            del account.cloids[order.cloid]
        oid = self._take_oid()
        for child in family:
            self.orders[child].parent = oid
        result = self._place_one(account, order, events, oid=oid, children=family)
        if record.parent is not None:
            self.orders[oid].parent = record.parent
            self.orders[record.parent].children.append(oid)
        self._note_activity(account)
        return result, events

    def set_leverage(self, address: str, coin: Coin, value: int, *, is_cross: bool = True) -> str | None:
        """Set a coin's leverage; the venue's text where it refuses."""
        account, instrument = self.accounts[address], self.instruments[coin]
        if not 1 <= value <= instrument.max_leverage:
            return "Invalid leverage value"
        present, held = account.leverage_of(instrument), account.holdings.get(coin)
        if held is not None:
            if present.is_cross != is_cross:
                return "Cannot switch leverage type with open position."
            more = abs(held.size) * self.prices[coin] * (Decimal(1) / value - Decimal(1) / present.value)
            if value < present.value and is_cross and more > free_margin(account, self.prices, self.instruments):
                return (
                    "Cross position does not have sufficient margin available to decrease leverage. "
                    "To decrease leverage, deposit more collateral."
                )
            if value < present.value and not is_cross:
                return (
                    "Isolated position does not have sufficient margin available to decrease leverage. "
                    "To decrease leverage, add margin to the position."
                )
        account.leverage[coin] = Leverage(value, is_cross)
        return None

    def schedule_cancel(self, address: str, time_ms: int | None) -> str | None:
        """Cancel all open orders at a market time, None clears; the venue's text where it refuses."""
        account = self.accounts[address]
        if account.volume < SCHEDULE_CANCEL_VOLUME_USD:
            traded = account.volume.quantize(Decimal("0.01"))
            return (
                "Cannot set scheduled cancel time until enough volume traded. "
                f"Required: ${SCHEDULE_CANCEL_VOLUME_USD}. Traded: ${traded}."
            )
        if time_ms is not None and time_ms < self.now_ms + 5000:
            return "Scheduled cancel time too early, must be at least 5 seconds from now."
        account.cancel_at_ms = time_ms
        self._note_activity(account)
        return None

    # --- views ------------------------------------------------------------------------------------------------

    def order(self, address: str, ref: int | str) -> OrderRecord | None:
        """An order of this account, open or done, by oid or cloid."""
        account = self.accounts.get(address)
        if account is None:
            return None
        oid = ref if isinstance(ref, int) else account.cloids.get(Cloid(ref))
        record = None if oid is None else self.orders.get(oid)
        return record if record is not None and record.address == address else None

    def open_orders(self, address: str) -> list[OrderRecord]:
        """Open orders, oldest first; children that wait for their parent's fill are among them."""
        return [self.orders[oid] for oid in self.accounts[address].open_oids]

    def margin(self, address: str) -> MarginView:
        """The margin numbers of clearinghouseState at the present prices."""
        return margin_view(self.accounts[address], self.prices, self.instruments)

    def position_size(self, address: str, coin: Coin) -> Decimal:
        held = self.accounts[address].holdings.get(coin)
        return ZERO if held is None else held.size

    def touch(self, coin: Coin) -> tuple[Decimal, Decimal]:
        """Best bid and ask: the nearest accepted prices strictly below and above the present price."""
        price, instrument = self.prices[coin], self.instruments[coin]
        decimals = max(0, 4 - price.adjusted())
        if instrument.px_decimals is not None:
            decimals = min(decimals, instrument.px_decimals)
        tick = Decimal(1).scaleb(-decimals)
        bid = instrument.limit_price(price, Side.SELL)
        ask = instrument.limit_price(price, Side.BUY)
        bid = bid - tick if bid == price and bid > tick else bid
        return bid, (ask + tick if ask == price else ask)

    # --- persistence ------------------------------------------------------------------------------------------

    def export_state(self) -> bytes:
        """Everything `restore` needs to go on exactly from here, rules and instruments excepted."""
        return msgspec.json.encode(
            _State(
                self.now_ms,
                self.prices,
                list(self._bars),
                self._next_oid,
                self._next_trade,
                self.accounts,
                self.orders,
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over an exported state; msgspec.ValidationError where it is none."""
        kept = msgspec.json.decode(state, type=_State)
        self.now_ms, self.prices, self._bars = kept.now_ms, kept.prices, kept.bars
        self._next_oid, self._next_trade = kept.next_oid, kept.next_trade
        self.accounts, self.orders = kept.accounts, kept.orders
        self._active = {}
        for account in self.accounts.values():
            self._note_activity(account)

    # --- refusals ---------------------------------------------------------------------------------------------

    def _shape_problem(self, account: Account, order: Order) -> tuple[str, str] | None:
        """What is wrong with the order by itself: (the venue's status word, its text)."""
        instrument = self.instruments[order.coin]
        if not order.size.is_finite() or order.size <= 0:
            return "rejected", "Order has zero size."
        if order.size != instrument.round_size(order.size):
            return "rejected", "Order has invalid size."
        for price in (order.price, order.trigger_price):
            if price is None:
                continue
            if not price.is_finite() or price <= 0:
                return "rejected", "Order has invalid price."
            if price != instrument.round_price(price):
                return "tickRejected", "Price must be divisible by tick size."
        known = account.cloids.get(order.cloid) if order.cloid else None
        if known is not None and self.orders[known].status is not OrderStatus.REJECTED:
            return "rejected", "Order has a duplicate cloid."
        return None

    def _market_problem(self, account: Account, order: Order) -> tuple[str, str] | None:
        """What the present market and the account have against the order."""
        price = self.prices.get(order.coin)
        if price is None:
            return "marketOrderNoLiquidityRejected", "No liquidity available for market order."
        if abs(order.price - price) > _MAX_AWAY * price:
            return "rejected", "Order price cannot be more than 80% away from the reference price"
        marketable = not order.is_trigger and self._is_marketable(order)
        basis = max(order.price, price) if order.tif is TimeInForce.IOC or marketable else order.price
        if not order.reduce_only and basis * order.size < MIN_NOTIONAL_USD:
            return "minTradeNtlRejected", "Order must have minimum value of $10."
        if order.trigger_price is not None:
            falls = (order.side is Side.SELL) == (order.kind is OrderKind.STOP_LOSS)
            if order.trigger_price >= price if falls else order.trigger_price <= price:
                return "badTriggerPxRejected", "Invalid TP/SL price."
            return None
        if order.reduce_only and self._capped(account, order, order.size) == 0:
            return "reduceOnlyRejected", _REDUCES
        if order.tif is TimeInForce.ALO:
            bid, ask = self.touch(order.coin)
            if order.price >= ask if order.side is Side.BUY else order.price <= bid:
                text = f"Post only order would have immediately matched, bbo was {bid}@{ask}."
                return "badAloPxRejected", text
        if order.tif is TimeInForce.IOC and not marketable:
            return "iocCancelRejected", "Order could not immediately match against any resting orders."
        if self.rules.check_margin and not order.reduce_only and not self._affords(account, order, price):
            return "perpMarginRejected", "Insufficient margin to place order."
        return None

    def _child_problem(self, account: Account, parent: Order, child: Order) -> tuple[str, str] | None:
        if child.coin != parent.coin or not child.is_trigger:
            return "rejected", "Unexpected number of trigger orders"
        if not child.reduce_only or child.side is parent.side:
            return "reduceOnlyRejected", _REDUCES
        return self._shape_problem(account, child)

    def _refuse(self, account: Account, order: Order, word: str, text: str, events: list[VenueEvent]) -> OrderResult:
        text = f"{text} asset={self.instruments[order.coin].asset_id}"
        record = self._record(account, order, self._take_oid(), OrderStatus.RESTING, "open")
        self._close(record, OrderStatus.REJECTED, word, events, text)
        return OrderResult(OrderStatus.REJECTED, word, record.oid, order.cloid or None, error=text)

    def _affords(self, account: Account, order: Order, price: Decimal) -> bool:
        """Only what the order adds to the position needs margin; what it closes gives some back."""
        held = account.holdings.get(order.coin)
        before = ZERO if held is None else held.size
        after = before + order.size * order.side.sign
        more = abs(after) - abs(before)
        if more <= 0:
            return True
        needed = more * price / account.leverage_of(self.instruments[order.coin]).value
        return needed <= free_margin(account, self.prices, self.instruments)

    # --- mechanics --------------------------------------------------------------------------------------------

    def _worsened(self, price: Decimal, side: Side) -> Decimal:
        slip = self.rules.slippage_frac
        return price * (1 + slip) if side is Side.BUY else price * (1 - slip)

    def _is_marketable(self, order: Order) -> bool:
        """The limit allows an execution at the present price with its slippage; post-only never does."""
        if order.tif is TimeInForce.ALO:
            return False
        price = self._worsened(self.prices[order.coin], order.side)
        return order.price >= price if order.side is Side.BUY else order.price <= price

    def _capped(self, account: Account, order: Order, size: Decimal) -> Decimal:
        """The size that may execute: a reduce-only order never exceeds the position; 0 where it would add."""
        if not order.reduce_only:
            return size
        held = account.holdings.get(order.coin)
        if held is None or (held.size > 0) == (order.side is Side.BUY):
            return ZERO
        return min(size, abs(held.size))

    def _take_oid(self) -> int:
        oid = self._next_oid
        self._next_oid += 1
        return oid

    def _record(self, account: Account, order: Order, oid: int, status: OrderStatus, word: str) -> OrderRecord:
        """Write an order into the books; its client id points to it unless a living order has that already."""
        now = self.now_ms
        record = OrderRecord(oid, account.address, order, order.size, status, word, now, now)
        self.orders[oid] = record
        account.all_oids.append(oid)
        account.open_oids.append(oid)
        if order.cloid:
            known = account.cloids.get(order.cloid)
            if known is None or self.orders[known].status is OrderStatus.REJECTED:
                account.cloids[order.cloid] = oid
        return record

    def _change(
        self, record: OrderRecord, status: OrderStatus, word: str, events: list[VenueEvent], reason: str = ""
    ) -> None:
        record.status, record.word, record.changed_ms = status, word, self.now_ms
        order = record.order
        events.append(
            OrderEvent(
                record.address,
                order,
                status,
                word,
                record.oid,
                order.cloid or None,
                reason,
                record.remaining,
                record.placed_ms,
                self.now_ms,
            )
        )

    def _close(
        self, record: OrderRecord, status: OrderStatus, word: str, events: list[VenueEvent], reason: str = ""
    ) -> None:
        """End an order and, unless it filled, the children that still wait for it."""
        self.accounts[record.address].open_oids.remove(record.oid)
        self._change(record, status, word, events, reason or word)
        if status is OrderStatus.FILLED:
            return
        for oid in record.children:
            child = self.orders[oid]
            if child.status is OrderStatus.WAITING:
                self._close(child, status, word, events, reason)

    def _execute(
        self, account: Account, record: OrderRecord, price: Decimal, events: list[VenueEvent], *, is_taker: bool
    ) -> bool:
        """Fill an order whole (or what reduce-only leaves of it), then arm its children or free it of its siblings."""
        order = record.order
        size = self._capped(account, order, record.remaining)
        if size == 0:
            self._close(record, OrderStatus.CANCELED, "reduceOnlyCanceled", events)
            return False
        self._book_fill(account, record, order.side, size, price, events, is_taker=is_taker)
        record.remaining = ZERO
        self._close(record, OrderStatus.FILLED, "filled", events)
        for oid in record.children:
            child = self.orders[oid]
            if child.status is OrderStatus.WAITING:
                self._change(child, OrderStatus.RESTING, "open", events)
        if record.parent is not None:
            for oid in self.orders[record.parent].children:
                if oid in account.open_oids:
                    self._close(self.orders[oid], OrderStatus.CANCELED, "siblingFilledCanceled", events)
        self._note_activity(account)
        return True

    def _book_fill(
        self,
        account: Account,
        record: OrderRecord,
        side: Side,
        size: Decimal,
        price: Decimal,
        events: list[VenueEvent],
        *,
        is_taker: bool,
        is_liquidation: bool = False,
    ) -> None:
        coin = record.order.coin
        rate = self.rules.taker_fee_frac if is_taker else self.rules.maker_fee_frac
        start = self.position_size(account.address, coin)
        fill = Fill(
            coin=coin,
            side=side,
            price=price,
            size=size,
            fee=truncate_usd(price * size * rate),
            time_ms=self.now_ms,
            tid=self._next_trade * _TID_STEP % (1 << 50),
            oid=record.oid,
            cloid=record.order.cloid or None,
            is_taker=is_taker,
            is_liquidation=is_liquidation,
        )
        self._next_trade += 1
        realised = account.apply_fill(fill, account.leverage_of(self.instruments[coin]))
        event = FillEvent(account.address, fill, realised, start, direction(side, start, size))
        account.fills.append(event)
        events.append(event)

    def _note_activity(self, account: Account) -> None:
        if account.open_oids or account.holdings or account.cancel_at_ms is not None:
            self._active[account.address] = account
        else:
            self._active.pop(account.address, None)

    # --- liquidation ------------------------------------------------------------------------------------------

    def _liquidate(self, account: Account, bars: Sequence[Bar], events: list[VenueEvent]) -> None:
        """Close what the worst prices of these bars leave under its maintenance margin.

        Cross positions stand or fall together, an isolated one by itself. Each is closed at its liquidation price,
        or at the open where the bar opens beyond it, as a taker with slippage.
        """
        worst = dict(self.prices)
        for bar in bars:
            held = account.holdings.get(bar.coin)
            if held is not None:
                worst[bar.coin] = bar.low if held.size > 0 else bar.high
        cross, margin, maintenance = [], account.balance, ZERO
        doomed: list[tuple[Coin, Holding]] = []
        for coin, held in account.holdings.items():
            unrealised = held.size * (worst[coin] - held.entry)
            needed = maintenance_margin(held.size, worst[coin], self.instruments[coin])
            if account.leverage_of(self.instruments[coin]).is_cross:
                cross.append((coin, held))
                margin += unrealised
                maintenance += needed
            else:
                margin -= held.isolated_margin
                if held.isolated_margin + unrealised < needed:
                    doomed.append((coin, held))
        if cross and margin < maintenance:
            doomed.extend(cross)
        if not doomed:
            return
        view = {one.coin: one.liquidation_px for one in self.margin(account.address).holdings}
        for oid in list(account.open_oids):
            record = self.orders[oid]
            if (cross and margin < maintenance) or any(record.order.coin == coin for coin, _ in doomed):
                self._close(record, OrderStatus.CANCELED, "liquidatedCanceled", events)
        for coin, held in doomed:
            level = view[coin] or worst[coin]
            here, floor = self.prices[coin], worst[coin]
            price = min(here, max(level, floor)) if held.size > 0 else max(here, min(level, floor))
            self._liquidate_one(account, coin, held, price, events)
        self._note_activity(account)

    def _liquidate_one(
        self, account: Account, coin: Coin, held: Holding, price: Decimal, events: list[VenueEvent]
    ) -> None:
        side = Side.SELL if held.size > 0 else Side.BUY
        size = abs(held.size)
        order = Order(Cloid(""), coin, side, OrderKind.EXIT, size, price, True, TimeInForce.IOC, reason="liquidation")
        record = self._record(account, order, self._take_oid(), OrderStatus.RESTING, "open")
        worsened = self._worsened(price, side)
        self._book_fill(account, record, side, size, worsened, events, is_taker=True, is_liquidation=True)
        record.remaining = ZERO
        self._close(record, OrderStatus.FILLED, "filled", events)
