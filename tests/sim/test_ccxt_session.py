"""A full session of ccxt, and of its websocket side, against the venue that stands alone; only the URLs are changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ccxt
import ccxt.pro
import pytest

from aml100.sim.scenario import Tape
from aml100.sim.server import SimServer
from tests.sim.stage import ACCOUNT_KEY, START, StagedClock, alone, series

FLAT = (60000.0, 60000.0, 60000.0, 60000.0)
MARKET = "BTC/USDC:USDC"


def market() -> Tape:
    return Tape([series([FLAT] * 40), series([(3000.0, 3000.0, 3000.0, 3000.0)] * 40, coin="ETH")])


def settings(server: SimServer) -> dict[str, Any]:
    return {
        "walletAddress": server.account,
        "privateKey": ACCOUNT_KEY,
        "urls": {"api": {"public": server.rest_url, "private": server.rest_url, "ws": {"public": server.ws_url}}},
        "enableRateLimit": False,
    }


class Person:
    def __init__(self, server: SimServer, clock: StagedClock) -> None:
        self.server, self.clock = server, clock
        self.client = ccxt.hyperliquid(settings(server))


@pytest.fixture
async def person() -> Any:
    clock = StagedClock()
    async with alone(market(), clock) as server:
        yield Person(server, clock)


def session(test: Callable[[Person], None]) -> Callable[[Any], Any]:
    """ccxt blocks, so it runs in a thread beside the venue."""

    async def run(person: Person) -> None:
        await asyncio.to_thread(test, person)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def refused(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as problem:
        call()
    return str(problem.value)


@session
def test_metadata_and_market(me: Person) -> None:
    client = me.client
    assert sorted(client.load_markets()) == [MARKET, "ETH/USDC:USDC"]
    assert client.market(MARKET)["precision"]["amount"] == 1e-05
    assert client.fetch_status()["status"] == "ok"
    assert client.fetch_ticker(MARKET)["last"] == 60000.0
    assert sorted(client.fetch_tickers()) == [MARKET, "ETH/USDC:USDC"]
    book = client.fetch_order_book(MARKET)
    assert (book["bids"][0][0], book["asks"][0][0], len(book["bids"])) == (59994.0, 60006.0, 20)
    assert client.fetch_ohlcv(MARKET, "1m", since=START)[0] == [START, 60000.0, 60000.0, 60000.0, 60000.0, 8.0]
    assert client.fetch_ohlcv(MARKET, "1h", since=START)[0][0] == START
    assert client.fetch_funding_rates()[MARKET]["fundingRate"] == 0.0
    assert client.fetch_open_interest(MARKET)["openInterestAmount"] == 1_000_000.0
    assert client.fetch_trading_fee(MARKET)["taker"] == 0.00045


@session
def test_orders_positions_and_history(me: Person) -> None:
    client = me.client
    assert client.fetch_balance()["total"]["USDC"] == 10_000.0
    client.set_leverage(5, MARKET, {"marginMode": "cross"})
    first = client.create_order(MARKET, "limit", "buy", 0.01, 59000, {"clientOrderId": "0x" + "4" * 32})
    shown = client.fetch_open_orders(MARKET)
    assert [(one["id"], one["clientOrderId"], one["remaining"]) for one in shown] == [
        (first["id"], "0x" + "4" * 32, 0.01)
    ]
    edited = client.edit_order(first["id"], MARKET, "limit", "buy", 0.02, 58900)
    assert edited["id"] != first["id"]
    assert client.fetch_order(edited["id"], MARKET)["status"] == "open"
    client.cancel_order(edited["id"], MARKET)
    assert client.fetch_order(edited["id"], MARKET)["status"] == "canceled"
    client.create_order(MARKET, "limit", "buy", 0.01, 59000, {"clientOrderId": "0x" + "5" * 32, "postOnly": True})
    client.cancel_order(None, MARKET, {"clientOrderId": "0x" + "5" * 32})
    several = client.create_orders(
        [{"symbol": MARKET, "type": "limit", "side": "buy", "amount": 0.01, "price": price} for price in (59000, 59100)]
    )
    client.cancel_orders([one["id"] for one in several], MARKET)
    assert client.fetch_open_orders(MARKET) == []
    bought = client.create_order(MARKET, "market", "buy", 0.02, 60000)
    assert (bought["average"], bought["filled"]) == (60006.0, 0.02)
    held = client.fetch_positions([MARKET])[0]
    assert (held["contracts"], held["entryPrice"], held["leverage"]) == (0.02, 60006.0, 5.0)
    client.create_order(MARKET, "market", "sell", 0.02, 60000, {"reduceOnly": True})
    assert client.fetch_positions([MARKET]) == []
    assert [one["side"] for one in client.fetch_my_trades(MARKET)] == ["buy", "sell"]
    assert {one["status"] for one in client.fetch_orders(MARKET)} == {"canceled", "closed"}
    assert len(client.fetch_closed_orders(MARKET)) == 2
    assert [one["amount"] for one in client.fetch_deposits("USDC")] == [10_000.0]
    assert client.fetch_funding_history(MARKET) == []


@session
def test_brackets_and_triggers(me: Person) -> None:
    client = me.client
    both = {"stopLoss": {"triggerPrice": 59000}, "takeProfit": {"triggerPrice": 61000}}
    client.create_order(MARKET, "market", "buy", 0.02, 60000, both)
    rows = {one["triggerPrice"]: one for one in client.fetch_open_orders(MARKET)}
    assert {px: (one["side"], one["amount"], one["reduceOnly"]) for px, one in rows.items()} == {
        59000.0: ("sell", 0.02, True),
        61000.0: ("sell", 0.02, True),
    }
    tied = {"stopLoss": {"triggerPrice": 58500}, "grouping": "positionTpsl"}
    client.create_order(MARKET, "market", "buy", 0.0, 60000, tied)
    tied_one = next(one for one in client.fetch_open_orders(MARKET) if one["triggerPrice"] == 58500.0)
    assert (tied_one["info"]["isPositionTpsl"], tied_one["amount"]) == (True, 0.02)
    stop = client.create_order(MARKET, "market", "sell", 0.01, 58000, {"stopLossPrice": 58000, "reduceOnly": True})
    client.cancel_order(stop["id"], MARKET)
    client.create_order(MARKET, "market", "sell", 0.02, 60000, {"reduceOnly": True})
    assert sorted(one["triggerPrice"] for one in client.fetch_open_orders(MARKET)) == [59000.0, 61000.0]
    for one in client.fetch_open_orders(MARKET):
        client.cancel_order(one["id"], MARKET)


@session
def test_margin_and_errors(me: Person) -> None:
    client = me.client
    client.set_margin_mode("isolated", MARKET, {"leverage": 10})
    client.create_order(MARKET, "market", "buy", 0.02, 60000)
    client.add_margin(MARKET, 20)
    assert client.fetch_positions([MARKET])[0]["marginMode"] == "isolated"
    assert client.fetch_positions([MARKET])[0]["collateral"] == pytest.approx(139.892)
    client.reduce_margin(MARKET, 10)
    assert "decrease leverage" in refused(
        ccxt.ExchangeError, lambda: client.set_leverage(2, MARKET, {"marginMode": "isolated"})
    )
    assert "Invalid leverage" in refused(ccxt.ExchangeError, lambda: client.set_leverage(99, MARKET))
    assert "minimum value" in refused(
        ccxt.InvalidOrder, lambda: client.create_order(MARKET, "limit", "buy", 0.0001, 59000)
    )
    assert "immediately match" in refused(
        ccxt.InvalidOrder,
        lambda: client.create_order(MARKET, "limit", "buy", 0.01, 59000, {"timeInForce": "IOC"}),
    )
    assert "never placed" in refused(ccxt.OrderNotFound, lambda: client.cancel_order("1", MARKET))
    assert "enough volume" in refused(ccxt.ExchangeError, lambda: client.cancel_all_orders_after(10_000))
    big = refused(ccxt.InsufficientFunds, lambda: client.create_order(MARKET, "limit", "buy", 30, 59000))
    assert "Insufficient margin" in big


async def test_its_streams() -> None:
    clock = StagedClock()
    async with alone(market(), clock) as server:
        client = ccxt.pro.hyperliquid(settings(server))
        try:
            await client.load_markets()
            book = await asyncio.wait_for(client.watch_order_book(MARKET), 20)
            assert book["asks"][0][0] == 60006.0
            waiting = [
                asyncio.create_task(one)
                for one in (
                    client.watch_orders(MARKET),
                    client.watch_my_trades(MARKET),
                    client.watch_trades(MARKET),
                    client.watch_ohlcv(MARKET, "1m"),
                    client.watch_ticker(MARKET),
                )
            ]
            await asyncio.sleep(0)
            done = await client.create_order(MARKET, "market", "buy", 0.02, 60000)
            for _ in range(70):
                clock.wall_s += 1
                await client.fetch_status()
            orders, mine, trades, bars, ticker = await asyncio.wait_for(asyncio.gather(*waiting), 20)
            assert orders[0]["id"] == mine[0]["order"] == done["id"]
            assert (trades[0]["price"], bars[0][1], ticker["symbol"]) == (60000.0, 60000.0, MARKET)
            by_socket = await client.create_order_ws(MARKET, "limit", "buy", 0.01, 59000)
            assert (await client.fetch_order(by_socket["id"], MARKET))["status"] == "open"
            await client.cancel_order_ws(by_socket["id"], MARKET)
            assert (await client.fetch_order(by_socket["id"], MARKET))["status"] == "canceled"
        finally:
            await client.close()
