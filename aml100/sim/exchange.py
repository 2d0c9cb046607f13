"""The matching engine of the simulated venue: pure, deterministic, exact.

The one idea: time moves in two calls a bar (`playing`). Orders placed after `open_bars` execute at those opens; what
rests meets the range in `play_bars`. A back-test calls the two directly; the venue's server calls them in step with
its clients. Nobody else can tell the difference.

Rules of execution: a market-like order fills at the present price worsened by the slippage (or walks the book, see
`executions`), if its limit allows that; a stop fills at its level (or at the open that lies beyond it), worsened; a
target exactly at its level; a resting limit at its price, as maker, only when the market trades strictly through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

import msgspec

from aml100.domain.events import Grouping
from aml100.domain.market import Bar
from aml100.domain.orders import Order, OrderStatus, TimeInForce
from aml100.domain.units import DAY_MS, ZERO, Cloid, Coin
from aml100.sim import collateral, refusals
from aml100.sim.accounts import (
    PLAIN,
    Account,
    FillEvent,
    FundingEvent,
    OrderEvent,
    OrderRecord,
    OrderTags,
    VenueEvent,
)
from aml100.sim.books import ExchangeRules
from aml100.sim.playing import Playing
from aml100.sim.refusals import Problem

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
SCHEDULE_CANCEL_AHEAD_MS: Final = 5_000
SCHEDULE_CANCELS_A_DAY: Final = 10

NEVER_PLACED: Final = "Order was never placed, already canceled, or filled."
CANNOT_MODIFY: Final = "Cannot modify canceled or filled order"


@dataclass(frozen=True, slots=True)
class OrderResult:
    """The venue's answer to one order, in the order of the request.

    `error` is the venue's text with its ` asset=N` suffix, empty unless REJECTED; a child of a group is WAITING, with
    `word` `waitingForFill` until its parent filled and `waitingForTrigger` where that happened in the same request.
    What filled at once is said by its size, whatever became of the rest.
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


class Exchange(Playing):
    """Order books of nobody but our accounts, against prices that do not react to them."""

    # --- orders -----------------------------------------------------------------------------------------------

    def place(
        self,
        address: str,
        orders: Sequence[Order],
        grouping: Grouping = Grouping.NA,
        tags: Sequence[OrderTags] = (),
    ) -> tuple[list[OrderResult], list[VenueEvent]]:
        """Take orders at the present prices; `tags` go with them one by one.

        With `normalTpsl` the first is the parent of the rest; with `positionTpsl` all are triggers of the position.
        """
        account = self.accounts[address]
        events: list[VenueEvent] = []
        marks = list(tags) or [PLAIN] * len(orders)
        pairs = list(zip(orders, marks, strict=True))
        if grouping is Grouping.NORMAL_TPSL:
            results = self._place_group(account, pairs, events)
        elif grouping is Grouping.POSITION_TPSL:
            results = [self._place_on_position(account, order, mark, events) for order, mark in pairs]
        else:
            results = [self._place_one(account, order, events, mark) for order, mark in pairs]
        self.note_activity(account)
        return results, events

    def _place_group(
        self, account: Account, pairs: Sequence[tuple[Order, OrderTags]], events: list[VenueEvent]
    ) -> list[OrderResult]:
        if len(pairs) < 2:
            problem = ("rejected", refusals.UNEXPECTED)
            return [self._refuse(account, one, problem, events, tags) for one, tags in pairs]
        (parent, parent_tags), children = pairs[0], pairs[1:]
        for child, tags in children:
            wrong = refusals.child_problem(self, account, parent, child, tags)
            if wrong is not None:
                return [self._refuse(account, one, wrong, events, tags) for one, tags in pairs]
        first = self.take_oid()
        kept: list[OrderRecord | None] = []
        refused: list[tuple[Order, OrderTags]] = []
        for child, tags in children:
            if tags.refusal:
                refused.append((child, tags))
                kept.append(None)
                continue
            record = self.record(account, child, self.take_oid(), OrderStatus.WAITING, "open", tags)
            record.parent = first
            kept.append(record)
        oids = [one.oid for one in kept if one is not None]
        result = self._place_one(account, parent, events, parent_tags, oid=first, children=oids)
        error = result.error if result.status is OrderStatus.REJECTED else ""
        others = iter([self._refuse(account, one, ("rejected", tags.refusal), events, tags) for one, tags in refused])
        answers = [next(others) if one is None else self._answer(one, error) for one in kept]
        for record in [one for one in kept if one is not None and one.tags.is_lost]:
            self._lose(account, record, events)
        return [result, *answers]

    def _answer(self, record: OrderRecord, error: str) -> OrderResult:
        """What a child's place in the answer says."""
        cloid = record.order.cloid or None
        if error:
            return OrderResult(OrderStatus.REJECTED, record.word, record.oid, cloid, error=error)
        word = "waitingForFill" if record.status is OrderStatus.WAITING else "waitingForTrigger"
        return OrderResult(OrderStatus.WAITING, word, record.oid, cloid)

    def _place_on_position(
        self, account: Account, order: Order, tags: OrderTags, events: list[VenueEvent]
    ) -> OrderResult:
        """A trigger tied to the position; size 0, or all of the position, follows it from now on."""
        problem = refusals.on_position_problem(self, account, order)
        if problem is not None:
            return self._refuse(account, order, problem, events, tags)
        held = abs(self.position_size(account.address, order.coin))
        whole = order.size == 0 or order.size >= held
        tied = replace(tags, on_position=True, whole=whole)
        return self._place_one(account, replace(order, size=held) if whole else order, events, tied)

    def _place_one(
        self,
        account: Account,
        order: Order,
        events: list[VenueEvent],
        tags: OrderTags = PLAIN,
        oid: int | None = None,
        children: Sequence[int] = (),
    ) -> OrderResult:
        problem: Problem = ("rejected", tags.refusal) if tags.refusal else None
        problem = problem or refusals.shape_problem(self, account, order, tags)
        problem = problem or refusals.market_problem(self, account, order)
        if problem is not None:
            return self._refuse(account, order, problem, events, tags, oid, children)
        if order.reduce_only and not order.is_trigger:
            order = replace(order, size=self.capped(account, order, order.size))
        oid = self.take_oid() if oid is None else oid
        record = self.record(account, order, oid, OrderStatus.RESTING, "open", tags)
        record.children.extend(children)
        cloid = order.cloid or None
        if order.is_trigger or not self.is_marketable(order):
            self.change(record, OrderStatus.RESTING, "open", events)
            if order.reduce_only and not order.is_trigger:
                self.tidy(account, order.coin, events)
            if tags.is_lost:
                self._lose(account, record, events)
            return OrderResult(OrderStatus.RESTING, "open", oid, cloid)
        price = self.prices[order.coin]
        price = price if self.rules.has_depth else self.worsened(price, order.side)
        done = self.execute(account, record, price, events, is_taker=True, limit=order.price)
        if record.status is OrderStatus.REJECTED:
            text = self._suffixed(refusals.NO_MATCH, order)
            return OrderResult(OrderStatus.REJECTED, record.word, oid, cloid, error=text)
        return OrderResult(record.status, record.word, oid, cloid, done.size, done.average)

    def _refuse(
        self,
        account: Account,
        order: Order,
        problem: tuple[str, str],
        events: list[VenueEvent],
        tags: OrderTags,
        oid: int | None = None,
        children: Sequence[int] = (),
    ) -> OrderResult:
        """Keep a refused order in the history, with the children that fall with it."""
        word, text = problem[0], self._suffixed(problem[1], order)
        oid = self.take_oid() if oid is None else oid
        record = self.record(account, order, oid, OrderStatus.RESTING, "open", tags)
        record.children.extend(children)
        self.close(record, OrderStatus.REJECTED, word, events, text)
        return OrderResult(OrderStatus.REJECTED, word, oid, order.cloid or None, error=text)

    def _suffixed(self, text: str, order: Order) -> str:
        return f"{text} asset={self.instruments[order.coin].asset_id}"

    def _lose(self, account: Account, record: OrderRecord, events: list[VenueEvent]) -> None:
        """The venue drops an order it has just taken."""
        if record.oid in account.open_oids:
            self.close(record, OrderStatus.CANCELED, "internalCancel", events)

    def cancel(self, address: str, coin: Coin, ref: int | str) -> tuple[str | None, list[VenueEvent]]:
        """Cancel by oid or cloid; the text is None where it worked."""
        events: list[VenueEvent] = []
        record = self.order(address, ref)
        if record is None or record.order.coin != coin or record.oid not in self.accounts[address].open_oids:
            return f"{NEVER_PLACED} asset={self.instruments[coin].asset_id}", events
        self.close(record, OrderStatus.CANCELED, "canceled", events)
        self.note_activity(self.accounts[address])
        return None, events

    def modify(
        self, address: str, ref: int | str, order: Order, *, always: bool = True
    ) -> tuple[OrderResult, list[VenueEvent]]:
        """Cancel and replace: a new oid, the client id may stay.

        An order that is malformed by itself leaves the old one as it was; one that the market refuses leaves it
        cancelled. Unless `always`, one that would execute at once is refused as well.
        """
        record, account = self.order(address, ref), self.accounts[address]
        cloid = order.cloid or None
        if record is None or record.oid not in account.open_oids:
            return OrderResult(OrderStatus.REJECTED, "rejected", None, cloid, error=CANNOT_MODIFY), []
        own = replace(order, cloid=Cloid("")) if account.cloids.get(order.cloid) == record.oid else order
        asleep = record.parent if record.status is OrderStatus.WAITING else None
        if asleep is None:
            malformed = refusals.shape_problem(self, account, own, record.tags)
        else:
            malformed = refusals.child_problem(self, account, self.orders[asleep].order, own, record.tags)
        if malformed is not None:
            text = self._suffixed(malformed[1], order)
            return OrderResult(OrderStatus.REJECTED, malformed[0], None, cloid, error=text), []
        events: list[VenueEvent] = []
        family = [oid for oid in record.children if self.orders[oid].status is OrderStatus.WAITING]
        record.children.clear()
        self.close(record, OrderStatus.CANCELED, "canceled", events)
        if own is not order:
            del account.cloids[order.cloid]
        oid, tags = self.take_oid(), PLAIN
        for child in family:
            self.orders[child].parent = oid
        if record.tags.on_position and order.is_trigger:
            held = abs(self.position_size(address, order.coin))
            tags = OrderTags(on_position=True, whole=order.size == 0 or order.size >= held)
            order = replace(order, size=held) if tags.whole else order
        if asleep is not None:  # as its parent has not filled yet
            result = self._answer(self.record(account, order, oid, OrderStatus.WAITING, "open", tags), "")
        elif not always and not order.is_trigger and (order.tif is TimeInForce.IOC or self.is_marketable(order)):
            bid, ask = self.touch(order.coin)
            text = f"Post only order would have immediately matched, bbo was {bid}@{ask}."
            result = self._refuse(account, order, ("badAloPxRejected", text), events, tags, oid, family)
        else:
            result = self._place_one(account, order, events, tags, oid, family)
        if result.error:
            result = replace(result, error=f"Error placing new order during modify: {result.error}")
        if record.parent is not None:
            self.orders[oid].parent = record.parent
            self.orders[record.parent].children.append(oid)
        self.note_activity(account)
        return result, events

    # --- settings of accounts ---------------------------------------------------------------------------------

    def set_leverage(self, address: str, coin: Coin, value: int, *, is_cross: bool = True) -> str | None:
        """Set a coin's leverage; the venue's text where it refuses."""
        return collateral.set_leverage(self, address, coin, value, is_cross=is_cross)

    def move_margin(self, address: str, coin: Coin, amount: Decimal) -> str | None:
        """Add USD to an isolated position's margin, or take some out; the venue's text where it refuses."""
        return collateral.move_margin(self, address, coin, amount)

    def send_usd(self, address: str, destination: str, amount: str) -> str | None:
        """Give money to another account, opened where it does not exist; the venue's text where it refuses."""
        return collateral.send_usd(self, address, destination.lower(), amount)

    def schedule_cancel(self, address: str, time_ms: int | None) -> str | None:
        """Cancel all open orders at a market time, None clears; the venue's text where it refuses."""
        account = self.accounts[address]
        if account.volume < SCHEDULE_CANCEL_VOLUME_USD:
            traded = account.volume.quantize(Decimal("0.01"))
            return (
                "Cannot set scheduled cancel time until enough volume traded. "
                f"Required: ${SCHEDULE_CANCEL_VOLUME_USD}. Traded: ${traded}."
            )
        if time_ms is not None and time_ms < self.now_ms + SCHEDULE_CANCEL_AHEAD_MS:
            return "Scheduled cancel time too early, must be at least 5 seconds from now."
        if time_ms is not None and account.fired == (self.now_ms // DAY_MS, SCHEDULE_CANCELS_A_DAY):
            return (
                f"Scheduled cancels were carried out {SCHEDULE_CANCELS_A_DAY} times today; try again after 00:00 UTC."
            )
        account.cancel_at_ms = time_ms
        self.note_activity(account)
        return None

    # --- persistence ------------------------------------------------------------------------------------------

    def export_state(self) -> bytes:
        """Everything `restore` needs to go on exactly from here, rules and instruments excepted."""
        return msgspec.json.encode(
            _State(
                self.now_ms, self.prices, list(self.opened), self.next_oid, self.next_trade, self.accounts, self.orders
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over an exported state; msgspec.ValidationError where it is none."""
        kept = msgspec.json.decode(state, type=_State)
        self.now_ms, self.prices, self.opened = kept.now_ms, kept.prices, kept.bars
        self.next_oid, self.next_trade = kept.next_oid, kept.next_trade
        self.accounts, self.orders = kept.accounts, kept.orders
        self.active = {}
        for account in self.accounts.values():
            self.note_activity(account)
