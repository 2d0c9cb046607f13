"""The queue before the core stays bounded: market data keeps the newest, nothing else is left out (STYLE section 7)."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml100.domain.events import Command, CommandName, FillReceived, MoneyReceived, OrderChanged, Tick
from aml100.domain.market import AssetContext, Bar, BookTop, Trade
from aml100.domain.orders import Fill, OrderStatus, Side
from aml100.domain.units import ZERO, Cloid, Coin
from aml100.engine.inbox import Inbox, Overload
from aml100.venue.news import CandleUpdate, FillsSeen, TradesSeen
from aml100.venue.session import StreamUp

BTC, ETH = Coin("BTC"), Coin("ETH")
ONE = Decimal(1)


def book(coin: Coin, number: int) -> BookTop:
    return BookTop(coin, number, Decimal(number + 1), Decimal(number + 2))


def candle(coin: Coin, bar: int, update: int) -> CandleUpdate:
    return CandleUpdate(Bar(coin, 60_000, 60_000 * bar, ONE, ONE, ONE, ONE, Decimal(update), update))


def market(number: int) -> object:
    """News as a busy market brings it: books and contexts of two coins, prints, a new bar every 40 items."""
    coin = BTC if number % 2 else ETH
    kinds = (
        book(coin, number),
        AssetContext(coin, ONE, ONE, ZERO, Decimal(number)),
        TradesSeen((Trade(coin, Side.BUY, ONE, ONE, number, number),)),
        candle(coin, number // 40, number),
        Tick(number, float(number)),
    )
    return kinds[number % 5]


def account(number: int) -> object:
    kinds = (
        OrderChanged(Cloid(f"0x{number:032x}"), OrderStatus.RESTING),
        FillsSeen((Fill(BTC, Side.BUY, ONE, ONE, ZERO, number, number, 1, None, True),), False),
        FillReceived(Fill(ETH, Side.BUY, ONE, ONE, ZERO, number, number, 1, None, True)),
        MoneyReceived(ONE, number, str(number)),
        Command(CommandName.HALT, "test", number),
        StreamUp(),
    )
    return kinds[number % len(kinds)]


def emptied(inbox: Inbox[object]) -> list[object]:
    return [inbox.get_nowait() for _ in range(len(inbox))]


def test_a_flood_of_books_is_bounded_and_the_newest_of_each_coin_is_there() -> None:
    inbox: Inbox[object] = Inbox(limit=100)
    longest = 0
    for number in range(50_000):
        inbox.put(book(BTC if number % 2 else ETH, number))
        longest = max(longest, len(inbox))
    assert longest <= 100
    assert emptied(inbox)[-2:] == [book(ETH, 49_998), book(BTC, 49_999)]
    assert inbox.left_out > 49_000


def test_until_it_is_full_nothing_is_left_out() -> None:
    inbox: Inbox[object] = Inbox(limit=100)
    items = [market(number) for number in range(99)]
    for item in items:
        inbox.put(item)
    assert emptied(inbox) == items
    assert inbox.left_out == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=400), st.integers(5, 40))
def test_whatever_comes_no_account_event_and_no_bar_is_lost_and_order_is_kept(
    what: list[tuple[bool, int]], limit: int
) -> None:
    inbox: Inbox[object] = Inbox(limit)
    items = [account(number) if is_ours else market(number) for is_ours, number in what]
    for item in items:
        inbox.put(item)
    left = emptied(inbox)
    assert [one for one in left if not is_market(one)] == [one for one in items if not is_market(one)]
    assert [id(one) for one in left] == [id(one) for one in items if id(one) in {id(kept) for kept in left}]
    for kind in (BookTop, AssetContext, Tick):
        assert last(left, kind) == last(items, kind)
    assert last_of_each_bar(left) == last_of_each_bar(items), "what each bar came to, the closed ones too, is there"


def is_market(item: object) -> bool:
    return isinstance(item, BookTop | AssetContext | TradesSeen | CandleUpdate | Tick)


def last(items: list[object], kind: type) -> object:
    return next((one for one in reversed(items) if isinstance(one, kind)), None)


def last_of_each_bar(items: list[object]) -> dict[tuple[Coin, int], Bar]:
    return {(one.bar.coin, one.bar.open_ms): one.bar for one in items if isinstance(one, CandleUpdate)}


async def test_whoever_waits_is_woken_and_a_wait_that_is_given_up_loses_nothing() -> None:
    inbox: Inbox[object] = Inbox()
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    again = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    inbox.put("first")
    inbox.put("second")
    assert await again == "first"
    assert await inbox.get() == "second"


def test_an_overload_is_said_once_and_ends_when_nothing_was_left_out_for_a_while() -> None:
    overload = Overload(calm_s=5.0)
    assert overload.check(0, 0.0) is None
    began = overload.check(7, 1.0)
    assert began is not None
    assert began.reason.startswith("market data came faster")
    assert overload.check(9, 2.0) is None
    assert overload.check(9, 6.9) is None
    ended = overload.check(9, 7.0)
    assert ended is not None
    assert (ended.name, ended.reason) == ("overload", "")
    assert overload.check(9, 20.0) is None
