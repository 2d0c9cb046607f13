"""The paper account: orders that never leave this process, filled from the venue's live book and trades.

Three rules make its fills pessimistic. A taker walks the visible book within its limit, and what it took is gone until
the book is shown anew. A resting order stands behind everything that was shown at its price when it came, and nobody
before it ever cancels: it fills by trades at its price only after that much has traded, and whole when the market
trades through it. Stops and targets are watched here, by the mark price, and then walk the book like anybody.

The ledger is the truth: what was not journalled never happened, so after a restart the account is put together again
from the ledger's positions and the orders that were resting. There is no key here, nor anything that could sign
(GUARANTEES D21).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from aml100.domain.errors import SafetyRefusal
from aml100.domain.events import (
    CoreEvent,
    FillReceived,
    FundingPaid,
    Grouping,
    OrderChanged,
    RestingOrder,
    SettledFunding,
)
from aml100.domain.market import AssetContext, BookTop, Instrument, Trade
from aml100.domain.orders import Fill, Order, OrderKind, OrderStatus, Position, Side, TimeInForce
from aml100.domain.units import (
    MIN_NOTIONAL_USD,
    ZERO,
    Cloid,
    Coin,
    truncate_usd,
)
from aml100.sim.paper_book import PaperBook
from aml100.sim.paper_money import PaperMoney
from aml100.trading.blotter import Tracked
from aml100.venue.news import AccountState, CoinLeverage, DepthSeen, MoneyMoved, TradesSeen
from aml100.venue.placing import MarginMode, require_meant

WATCHED: Final = "watched by this engine, not at the venue"
"""The label of every stop and target here: it holds only while the process runs."""
_OPEN: Final = frozenset({OrderStatus.RESTING, OrderStatus.WAITING})


@dataclass(slots=True)
class PaperOrder:
    """An order here. `ahead` is what stands before it at its price, None where that was not visible."""

    order: Order
    oid: int
    status: OrderStatus
    remaining: Decimal
    ahead: Decimal | None = None
    parent: Cloid | None = None
    fired: bool = False
    reason: str = ""

    @property
    def is_open(self) -> bool:
        return self.status in _OPEN


class PaperAccount:
    """One account on paper; an `AccountVenue` to the engine.

    `listen` names who is told of fills and of orders that change by themselves; nothing is told before that.
    """

    def __init__(
        self,
        instruments: Callable[[], Mapping[Coin, Instrument]],
        taker_fee: Decimal,
        maker_fee: Decimal,
        *,
        balance: Decimal = ZERO,
        positions: Mapping[Coin, tuple[Position, int]] | None = None,
        orders: Iterable[Tracked] = (),
    ) -> None:
        """`positions` with their opening times, and `orders` not done, are what an earlier run left."""
        self._instruments = instruments
        self._taker_fee, self._maker_fee = taker_fee, maker_fee
        self.money = PaperMoney(instruments, balance, positions or {})
        self.orders: dict[Cloid, PaperOrder] = {}
        self._books: dict[Coin, PaperBook] = {}
        self._next_oid = 1
        self._refuses = ""
        self._post: Callable[[CoreEvent], None] = lambda event: None
        for tracked in orders:
            if tracked.status in _OPEN:
                self._next_oid = max(self._next_oid, 1 + (tracked.oid or 0))
                left = tracked.order.size - tracked.filled
                self.orders[tracked.order.cloid] = PaperOrder(
                    tracked.order, tracked.oid or self._take_oid(), tracked.status, left
                )

    def listen(self, post: Callable[[CoreEvent], None]) -> None:
        """Tell `post` from now on; it must queue, not act."""
        self._post = post

    # --- the market -------------------------------------------------------------------------------------------

    def on_news(self, item: object, now_ms: int) -> None:
        """What the venue's streams say; orders fill by it."""
        self.money.on_time(now_ms)
        match item:
            case BookTop():
                book = self._book(item.coin)
                book.apply_top(item)
                self._cross(item.coin, book)
                self._retry(item.coin)
            case DepthSeen():
                self._book(item.coin).apply_depth(item)
                self._retry(item.coin)
            case TradesSeen():
                for trade in item.trades:
                    self._on_trade(trade)
            case AssetContext():
                self.money.contexts[item.coin] = item
                self._on_mark(item)
            case SettledFunding():
                paid = self.money.apply_settled(item)
                if paid is not None:
                    self._post(paid)
            case _:
                pass

    def _book(self, coin: Coin) -> PaperBook:
        return self._books.setdefault(coin, PaperBook())

    def _on_trade(self, trade: Trade) -> None:
        """A print fills what it went through, and what stands first at its price."""
        for one in self._resting(trade.coin):
            buys = one.order.side is Side.BUY
            if trade.price < one.order.price if buys else trade.price > one.order.price:
                self._make(one, one.remaining)
            elif trade.price == one.order.price and trade.side is not one.order.side and one.ahead is not None:
                excess = trade.size - one.ahead
                one.ahead = max(ZERO, one.ahead - trade.size)
                if excess > 0:
                    self._make(one, min(one.remaining, excess))

    def _cross(self, coin: Coin, book: PaperBook) -> None:
        """A book that stands beyond a resting order's price has been through it."""
        for one in self._resting(coin):
            touch = book.best(one.order.side.opposite)
            if touch is not None and (
                touch < one.order.price if one.order.side is Side.BUY else touch > one.order.price
            ):
                self._make(one, one.remaining)

    def _resting(self, coin: Coin) -> list[PaperOrder]:
        return [
            one
            for one in self.orders.values()
            if one.order.coin == coin and one.status is OrderStatus.RESTING and not one.order.is_trigger
        ]

    def _on_mark(self, context: AssetContext) -> None:
        """Triggers watch the mark; stops come before targets."""
        triggers = [
            one
            for one in self.orders.values()
            if one.order.coin == context.coin and one.status is OrderStatus.RESTING and one.order.is_trigger
        ]
        for one in sorted(triggers, key=lambda one: one.order.kind is not OrderKind.STOP_LOSS):
            level = one.order.trigger_price
            if level is not None and (context.mark <= level if one.order.fires_below else context.mark >= level):
                one.fired = True
        self._retry(context.coin)
        self._liquidate()

    def _retry(self, coin: Coin) -> None:
        """Triggers that have fired take what the book has, until they are through."""
        for one in list(self.orders.values()):
            if one.fired and one.is_open and one.order.coin == coin:
                self._take(one)

    # --- fills ------------------------------------------------------------------------------------------------

    def _take(self, one: PaperOrder) -> None:
        """Walk the book within the limit; a reduce-only order never beyond the position."""
        wanted = self._capped(one)
        if wanted == 0:
            self._close(one, OrderStatus.CANCELED, "reduceOnlyCanceled")
            return
        for price, size in self._book(one.order.coin).take(one.order.side, one.order.price, wanted):
            self._fill(one, price, size, is_taker=True)

    def _make(self, one: PaperOrder, size: Decimal) -> None:
        size = min(size, self._capped(one))
        if size > 0:
            self._fill(one, one.order.price, size, is_taker=False)

    def _capped(self, one: PaperOrder) -> Decimal:
        if not one.order.reduce_only:
            return one.remaining
        return min(one.remaining, self.money.reducible(one.order.coin, one.order.side))

    def _fill(
        self, one: PaperOrder, price: Decimal, size: Decimal, *, is_taker: bool, is_liquidation: bool = False
    ) -> None:
        order = one.order
        fee = truncate_usd(price * size * (self._taker_fee if is_taker else self._maker_fee))
        one.remaining -= size
        done = hashlib.blake2b(f"{order.cloid}/{one.oid}/{one.remaining}".encode(), digest_size=6).digest()
        tid = int.from_bytes(done, "big")
        cloid = None if is_liquidation else order.cloid
        fill = Fill(
            order.coin, order.side, price, size, fee, self.money.now_ms, tid, one.oid, cloid, is_taker, is_liquidation
        )
        position = self.money.apply_fill(fill)
        self._post(FillReceived(fill))
        if one.remaining == 0 or (order.reduce_only and position.size == 0):
            self._close(one, OrderStatus.FILLED, "")
            self._arm(order.cloid)
        if position.size == 0:
            self._after_flat(order.coin, one)

    def _arm(self, parent: Cloid) -> None:
        """The children of an order that is filled wake up."""
        for child in self.orders.values():
            if child.parent == parent and child.status is OrderStatus.WAITING:
                child.status = OrderStatus.RESTING
                self._post(OrderChanged(child.order.cloid, OrderStatus.RESTING, child.oid, WATCHED))

    def _after_flat(self, coin: Coin, cause: PaperOrder) -> None:
        """Without a position there is nothing to reduce: what waited for it goes."""
        word = "siblingFilledCanceled" if cause.order.is_trigger else "reduceOnlyCanceled"
        for one in list(self.orders.values()):
            if one.order.coin == coin and one.status is OrderStatus.RESTING and one.order.reduce_only:
                self._close(one, OrderStatus.CANCELED, word)

    def _close(self, one: PaperOrder, status: OrderStatus, reason: str) -> None:
        one.status, one.reason, one.fired = status, reason, False
        self._post(OrderChanged(one.order.cloid, status, one.oid, reason))
        if status is OrderStatus.FILLED:
            return
        for child in self.orders.values():
            if child.parent == one.order.cloid and child.status is OrderStatus.WAITING:
                self._close(child, status, reason)

    def _take_oid(self) -> int:
        self._next_oid += 1
        return self._next_oid - 1

    def _liquidate(self) -> None:
        """What the account cannot carry any more is closed at the mark, as the venue would."""
        money = self.money
        if not money.is_under_maintenance():
            return
        for coin, held in list(money.held.items()):
            side, size = held.position.side, abs(held.position.size)
            assert side is not None
            mark = money.mark(coin)
            cloid = Cloid(f"liquidation-{money.now_ms}-{coin}")
            order = Order(cloid, coin, side.opposite, OrderKind.EXIT, size, mark, True, TimeInForce.IOC)
            one = PaperOrder(order, self._take_oid(), OrderStatus.RESTING, size)
            self._fill(one, mark, size, is_taker=True, is_liquidation=True)

    # --- what the engine orders -------------------------------------------------------------------------------

    def refuse_risk(self, because: str) -> None:
        """From now on only cancels and reduce-only orders are taken (GUARANTEES D13)."""
        self._refuses = because

    def allow_risk(self) -> None:
        self._refuses = ""

    async def place(self, orders: Sequence[Order], grouping: Grouping = Grouping.NA) -> list[OrderChanged]:
        """As the venue would answer; SafetyRefusal where risk is refused, InvariantBroken for what cannot be meant."""
        if self._refuses and not all(order.reduce_only for order in orders):
            raise SafetyRefusal(f"only cancels and reduce-only orders: {self._refuses}")
        for order in orders:
            require_meant(order)
        parent = orders[0] if grouping is Grouping.NORMAL_TPSL else None
        if parent is None:
            return [self._accept(order) for order in orders]
        children = [
            PaperOrder(order, self._take_oid(), OrderStatus.WAITING, order.size, parent=parent.cloid)
            for order in orders[1:]
        ]
        self.orders.update({one.order.cloid: one for one in children})
        result = self._accept(parent)
        if result.status is OrderStatus.REJECTED:
            for one in children:
                one.status = OrderStatus.REJECTED
        reason = result.reason if result.status is OrderStatus.REJECTED else WATCHED
        return [result, *(OrderChanged(one.order.cloid, one.status, one.oid, reason) for one in children)]

    def _accept(self, order: Order) -> OrderChanged:
        one = PaperOrder(order, self._take_oid(), OrderStatus.RESTING, order.size)
        problem = self._problem(order)
        if problem:
            one.status, one.reason = OrderStatus.REJECTED, problem
            self.orders[order.cloid] = one
            return OrderChanged(order.cloid, OrderStatus.REJECTED, one.oid, problem)
        self.orders[order.cloid] = one
        self._trim()
        if order.is_trigger:
            return OrderChanged(order.cloid, OrderStatus.RESTING, one.oid, WATCHED)
        if order.tif is not TimeInForce.ALO:
            self._take(one)
        if not one.is_open:
            return OrderChanged(order.cloid, one.status, one.oid, one.reason)
        if order.tif is TimeInForce.IOC:
            filled = order.size - one.remaining
            if filled == 0:
                one.status = OrderStatus.REJECTED
                one.reason = f"Order could not immediately match against any resting orders. {self._suffix(order)}"
            else:
                one.status, one.reason = OrderStatus.FILLED, f"filled {filled} of {order.size}"
                self._arm(order.cloid)
            return OrderChanged(order.cloid, one.status, one.oid, one.reason)
        one.ahead = self._book(order.coin).shown_at(order.side, order.price)
        return OrderChanged(order.cloid, OrderStatus.RESTING, one.oid)

    def _problem(self, order: Order) -> str:
        """The venue's text for an order that it would refuse; empty for one that it takes."""
        book, suffix = self._book(order.coin), self._suffix(order)
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        if order.coin not in self._instruments():
            return f"Invalid asset. {suffix}"
        if order.is_trigger:
            return self._trigger_problem(order)
        if bid is None or ask is None:
            return f"No liquidity available for market order. {suffix}"
        if order.reduce_only:
            fits = self.money.reducible(order.coin, order.side) > 0
            return "" if fits else f"Reduce only order would increase position. {suffix}"
        touch = ask if order.side is Side.BUY else bid
        if order.size * touch < MIN_NOTIONAL_USD:
            return f"Order must have minimum value of $10. {suffix}"
        if order.tif is TimeInForce.ALO and (order.price >= ask if order.side is Side.BUY else order.price <= bid):
            return f"Post only order would have immediately matched, bbo was {bid}@{ask}. {suffix}"
        if order.size * touch / self.money.leverage_value(order.coin) > self.money.free():
            return f"Insufficient margin to place order. {suffix}"
        return ""

    def _trigger_problem(self, order: Order) -> str:
        context, level = self.money.contexts.get(order.coin), order.trigger_price
        if context is None or level is None:
            return ""
        wrong = context.mark <= level if order.fires_below else context.mark >= level
        return f"Invalid TP/SL price. {self._suffix(order)}" if wrong else ""

    def _suffix(self, order: Order) -> str:
        instrument = self._instruments().get(order.coin)
        return f"asset={'?' if instrument is None else instrument.asset_id}"

    def _trim(self) -> None:
        """Finished orders are remembered for a while, for whoever asks what became of them."""
        done = [cloid for cloid, one in self.orders.items() if not one.is_open]
        for cloid in done[:-256]:
            del self.orders[cloid]

    async def cancel(self, orders: Sequence[tuple[Coin, Cloid]]) -> list[str | None]:
        """For each None, or the venue's text."""
        return [self._cancel(self.orders.get(cloid)) for _, cloid in orders]

    async def cancel_oids(self, orders: Sequence[tuple[Coin, int]]) -> list[str | None]:
        """For each None, or the venue's text."""
        by_oid = {one.oid: one for one in self.orders.values()}
        return [self._cancel(by_oid.get(oid)) for _, oid in orders]

    def _cancel(self, one: PaperOrder | None) -> str | None:
        if one is None or not one.is_open:
            return "Order was never placed, already canceled, or filled."
        self._close(one, OrderStatus.CANCELED, "canceled")
        return None

    async def update_leverage(self, coin: Coin, leverage: int, mode: MarginMode = MarginMode.CROSS) -> str | None:
        """None, or the venue's text."""
        if not 1 <= leverage <= self._instruments()[coin].max_leverage:
            return "Invalid leverage value"
        self.money.set_leverage(coin, CoinLeverage(leverage, mode is MarginMode.CROSS))
        return None

    # --- what the engine asks ---------------------------------------------------------------------------------

    async def order_status(self, address: str, cloid: Cloid) -> OrderChanged | None:
        """What became of an order; None where it never came here."""
        one = self.orders.get(cloid)
        return None if one is None else OrderChanged(cloid, one.status, one.oid, one.reason)

    async def leverage_of(self, address: str, coin: Coin) -> CoinLeverage:
        """Leverage and margin mode of this coin."""
        return self.money.leverage_of(coin)

    async def account(self, address: str) -> AccountState:
        """Equity and positions at the venue's mark prices."""
        return self.money.state()

    async def resting_orders(self, address: str) -> tuple[RestingOrder, ...]:
        """Everything that waits here."""
        return tuple(
            RestingOrder(
                one.order.coin,
                one.oid,
                one.order.cloid,
                one.order.side,
                one.remaining,
                one.order.price,
                one.order.trigger_price,
                one.order.reduce_only,
                one.order.kind is OrderKind.STOP_LOSS,
            )
            for one in self.orders.values()
            if one.is_open
        )

    async def fills_since(self, address: str, start_ms: int) -> list[Fill]:
        """None: each fill is told when it happens, and what was not journalled never happened."""
        return []

    async def funding_since(self, address: str, start_ms: int) -> list[FundingPaid]:
        """None: as with fills."""
        return []

    async def money_moved_since(self, address: str, start_ms: int) -> list[MoneyMoved]:
        """Nobody sends money to a paper account."""
        return []
