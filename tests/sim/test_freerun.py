"""The venue that stands alone: its clock, and fills that depend on market time only, at any speed."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import numpy as np

from aml100.domain.units import Coin
from aml100.market.series import FundingSeries
from aml100.sim import freerun
from aml100.sim.scenario import Tape
from aml100.sim.server import SimServer
from tests.sim.stage import START, Follower, StagedClock, action, alone, order, series

WAVES = [
    (60000.0, 60400.0, 59600.0, 60100.0),
    (60100.0, 60200.0, 59000.0, 59300.0),
    (59300.0, 60900.0, 59200.0, 60700.0),
]
FLAT = (60000.0, 60000.0, 60000.0, 60000.0)


def tape() -> Tape:
    hour = np.array([START + 120_000], dtype=np.int64) // 3_600_000 * 3_600_000
    rates = FundingSeries(Coin("BTC"), hour, np.array([0.0001]))
    return Tape([series([FLAT, FLAT, *WAVES * 3])], funding={Coin("BTC"): rates})


async def traded(speed: float) -> tuple[list[Any], bytes]:
    """Fills and books after the same requests at the same market times."""
    clock = StagedClock()
    async with alone(tape(), clock, speed=speed) as server, aiohttp.ClientSession() as http:
        client = Follower(http, None, server)  # type: ignore[arg-type]

        async def at(market_s: float, *orders: dict[str, object], grouping: str = "na") -> None:
            clock.wall_s = 1000.0 + market_s / speed
            answer: Any = await client.act(action(*orders, grouping=grouping))
            assert answer["status"] == "ok"

        stop = order("sell", "0.05", "50000", trigger=("sl", "59700"))
        target = order("sell", "0.05", "50000", trigger=("tp", "60600"))
        await at(0.5, order("buy", "0.05", "66000"), stop, target, grouping="normalTpsl")
        await at(17.25, {**order("buy", "0.02", "59500"), "t": {"limit": {"tif": "Gtc"}}})
        await at(99.0, order("sell", "0.4", "50000"))
        await at(260.0, order("buy", "3", "70000"))
        clock.wall_s = 1000.0 + 600 / speed
        fills: Any = await client.info(type="userFillsByTime", user=server.account, startTime=0)
        assert (await client.info(type="exchangeStatus"))["ended"] is True  # type: ignore[index]
        server.replay.gate.nonces.clear()
        return fills, server.exchange.export_state()


async def test_the_same_requests_at_the_same_market_times_fill_the_same_at_any_speed() -> None:
    slow, fast = await traded(1.0), await traded(60.0)
    assert slow == fast
    assert len(slow[0]) > 5
    assert {one["dir"] for one in slow[0]} >= {"Open Long", "Close Long"}


async def test_it_moves_by_the_wall_clock_and_stands_still_at_the_end() -> None:
    clock = StagedClock()
    async with alone(tape(), clock, speed=10.0) as server, aiohttp.ClientSession() as http:
        client = Follower(http, None, server)  # type: ignore[arg-type]

        async def now() -> tuple[int, bool]:
            status: Any = await client.info(type="exchangeStatus")
            assert status["speed"] == 10.0
            return status["time"] - (START + 120_000), status["ended"]

        assert await now() == (0, False)
        clock.wall_s += 2.5
        assert await now() == (25_000, False)
        book: Any = await client.info(type="l2Book", coin="BTC")
        assert book["time"] == START + 145_000
        clock.wall_s += 1000
        assert await now() == (9 * 60_000, True)
        clock.wall_s += 1000
        assert await now() == (9 * 60_000, True)


async def trades_and_candles(server: SimServer, clock: StagedClock, seconds: int) -> tuple[list[Any], list[Any]]:
    trades: list[Any] = []
    candles: list[Any] = []
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as socket:
        for wanted in ({"type": "trades", "coin": "BTC"}, {"type": "candle", "coin": "BTC", "interval": "1m"}):
            await socket.send_json({"method": "subscribe", "subscription": wanted})
        client = Follower(http, socket, server)
        for _ in range(seconds):
            clock.wall_s += 1.0
            await client.info(type="exchangeStatus")
        await socket.send_json({"method": "ping"})
        while (frame := await asyncio.wait_for(socket.receive_json(), 10))["channel"] != "pong":
            trades += frame["data"] if frame["channel"] == "trades" else []
            candles += [frame["data"]] if frame["channel"] == "candle" else []
    return trades, candles


async def test_bars_built_from_the_trades_are_the_candles() -> None:
    clock = StagedClock()
    async with alone(tape(), clock) as server:
        trades, candles = await trades_and_candles(server, clock, 130)
    final = {one["t"]: one for one in candles}
    for t in (START + 120_000, START + 180_000):
        once = {one["tid"]: one for one in trades}  # a new subscriber is told the latest again
        mine = [one for one in once.values() if t <= one["time"] < t + 60_000]
        prices = [float(one["px"]) for one in mine]
        built = (prices[0], max(prices), min(prices), prices[-1])
        assert built == tuple(float(final[t][key]) for key in "ohlc")
        assert abs(sum(float(one["sz"]) for one in mine) - float(final[t]["v"])) < 1e-9
        assert final[t]["n"] == len(mine)
    forming = [one for one in candles if one["t"] == START + 120_000]
    assert len(forming) > 30
    assert [float(one["v"]) for one in forming] == sorted(float(one["v"]) for one in forming)


async def test_a_speed_that_cannot_be_kept_lets_market_time_slip_instead_of_requests_wait() -> None:
    clock = StagedClock()
    long = Tape([series([FLAT] * 2000)])
    async with alone(long, clock, speed=1e6) as server, aiohttp.ClientSession() as http:
        client = Follower(http, None, server)  # type: ignore[arg-type]
        clock.wall_s += 3600
        status: Any = await client.info(type="exchangeStatus")
        assert not status["ended"]
        played = (status["time"] - START - 120_000) / 1000  # a piece is a second here
        assert 0.9 * freerun.CATCH_UP_MOST < played < 1.2 * freerun.CATCH_UP_MOST
        again: Any = await client.info(type="exchangeStatus")
        assert again["time"] == status["time"]
