"""The paper account on a book that the test shows it: pessimistic fills, watched stops, honest books (D21)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from aml100.domain.errors import InvariantBroken, SafetyRefusal
from aml100.domain.events import CoreEvent, FillReceived, FundingPaid, Grouping, OrderChanged, SettledFunding
from aml100.domain.market import AssetContext, BookTop, Instrument, Trade
from aml100.domain.orders import Fill, Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import HOUR_MS, Cloid, Coin
from aml100.sim.paper import WATCHED, PaperAccount
from aml100.venue.news import DepthSeen, TradesSeen

BTC = Coin("BTC")
D = Decimal
NOW = 1_700_006_400_000


def levels(*rows: tuple[str, str]) -> tuple[tuple[Decimal, Decimal], ...]:
    return tuple((D(price), D(size)) for price, size in rows)


class Desk:
    """A paper account, what it told, and a counter for client ids."""

    def __init__(self) -> None:
        self.paper = PaperAccount(
            lambda: {BTC: Instrument(BTC, 0, 5, 40, 1)}, D("0.00045"), D("0.00015"), balance=D(10_000)
        )
        self.told: list[CoreEvent] = []
        self.paper.listen(self.told.append)
        self.now_ms, self._number = NOW, 0
        self.book(levels(("99", "2"), ("98", "5")), levels(("101", "1"), ("102", "4")))
        self.mark("100")

    def news(self, item: object, later_ms: int = 0) -> None:
        self.now_ms += later_ms
        self.paper.on_news(item, self.now_ms)

    def book(self, bids: tuple[tuple[Decimal, Decimal], ...], asks: tuple[tuple[Decimal, Decimal], ...]) -> None:
        self.news(DepthSeen(BTC, self.now_ms, bids, asks))

    def mark(self, price: str) -> None:
        self.news(AssetContext(BTC, D(price), D(price), D("0.0000125"), None))

    def trade(self, side: Side, price: str, size: str) -> None:
        self._number += 1
        self.news(TradesSeen((Trade(BTC, side, D(price), D(size), self.now_ms, self._number),)))

    def order(
        self,
        side: Side,
        size: str,
        price: str,
        *,
        tif: TimeInForce | None = TimeInForce.IOC,
        kind: OrderKind = OrderKind.ENTRY,
        trigger: str | None = None,
    ) -> Order:
        self._number += 1
        cloid = Cloid(f"0x{self._number:032x}")
        level = None if trigger is None else D(trigger)
        closes = kind is not OrderKind.ENTRY
        return Order(cloid, BTC, side, kind, D(size), D(price), closes, None if level else tif, level)

    @property
    def fills(self) -> list[Fill]:
        return [one.fill for one in self.told if isinstance(one, FillReceived)]

    def shown(self) -> list[tuple[Side, Decimal, Decimal, bool]]:
        return [(fill.side, fill.price, fill.size, fill.is_taker) for fill in self.fills]

    def last_of(self, order: Order) -> OrderStatus:
        return self.paper.orders[order.cloid].status


async def test_a_taker_walks_the_book_within_its_limit_and_pays() -> None:
    desk = Desk()
    (change,) = await desk.paper.place([desk.order(Side.BUY, "3", "102")])
    assert change.status is OrderStatus.FILLED
    assert desk.shown() == [(Side.BUY, D(101), D(1), True), (Side.BUY, D(102), D(2), True)]
    assert [fill.fee for fill in desk.fills] == [D("0.045450"), D("0.091800")]
    (change,) = await desk.paper.place([desk.order(Side.BUY, "5", "102")])
    assert (change.status, change.reason) == (OrderStatus.FILLED, "filled 2 of 5")  # what was taken is gone
    (change,) = await desk.paper.place([desk.order(Side.BUY, "1", "102")])
    assert change.reason.startswith("No liquidity available")


async def test_a_resting_order_stands_behind_what_was_there() -> None:
    desk = Desk()
    bid = desk.order(Side.BUY, "1", "99", tif=TimeInForce.ALO)
    (change,) = await desk.paper.place([bid])
    assert change.status is OrderStatus.RESTING
    desk.trade(Side.SELL, "99", "1.5")
    desk.trade(Side.BUY, "99", "9")  # the other aggressor: nothing of ours
    assert desk.fills == []
    desk.trade(Side.SELL, "99", "0.9")  # 2 stood ahead: 0.4 reaches us
    desk.trade(Side.SELL, "99", "9")
    assert desk.shown() == [(Side.BUY, D(99), D("0.4"), False), (Side.BUY, D(99), D("0.6"), False)]
    assert desk.fills[0].fee == D("0.005940")
    assert desk.last_of(bid) is OrderStatus.FILLED


async def test_behind_all_that_is_visible_only_a_trade_through_fills() -> None:
    desk = Desk()
    deep = desk.order(Side.BUY, "1", "97", tif=TimeInForce.ALO)
    await desk.paper.place([deep])
    desk.trade(Side.SELL, "97", "100")
    assert desk.fills == []
    desk.trade(Side.SELL, "96", "0.1")
    assert desk.shown() == [(Side.BUY, D(97), D(1), False)]


async def test_a_book_beyond_the_price_has_been_through_it_and_post_only_never_takes() -> None:
    desk = Desk()
    crossing = desk.order(Side.BUY, "1", "101", tif=TimeInForce.ALO)
    (change,) = await desk.paper.place([crossing])
    assert change.reason == "Post only order would have immediately matched, bbo was 99@101. asset=0"
    inside = desk.order(Side.BUY, "1", "100", tif=TimeInForce.ALO)
    await desk.paper.place([inside])
    desk.news(BookTop(BTC, desk.now_ms, D(99), D(100), D(1), D(1)))
    assert desk.fills == []
    desk.news(BookTop(BTC, desk.now_ms, D(98), D("99.5"), D(1), D(1)))
    assert desk.shown() == [(Side.BUY, D(100), D(1), False)]


async def test_stop_and_target_are_watched_here_by_the_mark_and_labelled_so() -> None:
    desk = Desk()
    entry = desk.order(Side.BUY, "1", "110")
    stop = desk.order(Side.SELL, "1", "90", kind=OrderKind.STOP_LOSS, trigger="97")
    target = desk.order(Side.SELL, "1", "90", kind=OrderKind.TAKE_PROFIT, trigger="105")
    changes = await desk.paper.place([entry, stop, target], Grouping.NORMAL_TPSL)
    assert [one.status for one in changes] == [OrderStatus.FILLED, OrderStatus.RESTING, OrderStatus.RESTING]
    assert changes[1].reason == WATCHED
    desk.trade(Side.SELL, "96", "1")  # a print moves no mark
    assert len(desk.fills) == 1
    desk.mark("97")
    assert desk.shown()[1:] == [(Side.SELL, D(99), D(1), True)]
    assert desk.last_of(target) is OrderStatus.CANCELED
    assert OrderChanged(target.cloid, OrderStatus.CANCELED, changes[2].oid, "siblingFilledCanceled") in desk.told
    assert desk.paper.money.held == {}


async def test_a_fired_stop_waits_for_a_book_and_takes_it_then() -> None:
    desk = Desk()
    await desk.paper.place([desk.order(Side.BUY, "1", "110")])
    await desk.paper.place([desk.order(Side.SELL, "1", "80", kind=OrderKind.STOP_LOSS, trigger="97")])
    desk.book((), ())
    desk.mark("96")
    assert len(desk.fills) == 1
    desk.book(
        levels(
            ("95", "0.4"),
        ),
        (),
    )
    desk.book(
        levels(
            ("94", "3"),
        ),
        (),
    )
    assert desk.shown()[1:] == [(Side.SELL, D(95), D("0.4"), True), (Side.SELL, D(94), D("0.6"), True)]


async def test_reduce_only_is_capped_and_refused_without_a_position() -> None:
    desk = Desk()
    (change,) = await desk.paper.place([desk.order(Side.SELL, "1", "90", kind=OrderKind.EXIT)])
    assert change.reason == "Reduce only order would increase position. asset=0"
    await desk.paper.place([desk.order(Side.BUY, "1", "110")])
    await desk.paper.place([desk.order(Side.SELL, "5", "90", kind=OrderKind.EXIT)])
    assert desk.fills[-1].size == 1
    assert desk.paper.money.held == {}


async def test_the_venues_own_refusals() -> None:
    desk = Desk()
    small, big = desk.order(Side.BUY, "0.05", "110"), desk.order(Side.BUY, "2100", "110")
    wrong = desk.order(Side.SELL, "1", "90", kind=OrderKind.STOP_LOSS, trigger="100.5")
    reasons = [(await desk.paper.place([one]))[0].reason for one in (small, big, wrong)]
    assert reasons == [
        "Order must have minimum value of $10. asset=0",
        "Insufficient margin to place order. asset=0",
        "Invalid TP/SL price. asset=0",
    ]
    with pytest.raises(InvariantBroken, match="size must be finite and above zero"):
        await desk.paper.place([desk.order(Side.BUY, "0", "110")])
    desk.paper.refuse_risk("halted")
    with pytest.raises(SafetyRefusal, match="halted"):
        await desk.paper.place([desk.order(Side.BUY, "1", "110")])


async def test_funding_is_paid_on_what_was_held_at_the_hour() -> None:
    desk = Desk()
    await desk.paper.place([desk.order(Side.BUY, "1", "110")])
    desk.news(object(), HOUR_MS + 5)
    await desk.paper.place([desk.order(Side.BUY, "2", "110")])
    desk.news(SettledFunding(BTC, NOW + HOUR_MS, 0.0001, None))
    (paid,) = (one for one in desk.told if isinstance(one, FundingPaid))
    assert (paid.size, paid.amount, paid.time_ms) == (D(1), D("-0.010000"), NOW + HOUR_MS)


async def test_the_account_is_what_its_fills_made_it() -> None:
    desk = Desk()
    await desk.paper.place([desk.order(Side.BUY, "1", "101")])
    desk.mark("110")
    state = await desk.paper.account("")
    assert state.equity == D(10_000) - D("0.045450") + 9
    assert [(held.coin, held.size, held.entry) for held in state.positions] == [(BTC, D(1), D(101))]
