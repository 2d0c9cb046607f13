"""The stream over a real socket: up, cut, up again, closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from aml100.domain.clock import ManualClock, SystemClock
from aml100.domain.errors import ConfigError, VenueUnavailable
from aml100.domain.units import Coin
from aml100.venue.news import FillsSeen, TradesSeen
from aml100.venue.session import FrameRefused, StreamUp, Subscription, account_subscriptions, market_subscriptions
from aml100.venue.stream import Received, StreamDown, StreamEvent, VenueStream
from tests.unit.venue.fake_venue import FakeVenue

BTC = Coin("BTC")
USER = "0x" + "1" * 40
SUBSCRIPTIONS = (*market_subscriptions(BTC, 60_000), *account_subscriptions(USER))


@pytest_asyncio.fixture
async def stream(venue: FakeVenue) -> AsyncIterator[VenueStream]:
    async with VenueStream(venue.ws_url, SUBSCRIPTIONS, SystemClock(), max_pause_s=0.02) as it:
        yield it


async def until(events: AsyncIterator[Received], kind: type[StreamEvent]) -> list[StreamEvent]:
    """Events up to and with the first of a kind."""
    told: list[StreamEvent] = []
    async with asyncio.timeout(10):
        while not told or not isinstance(told[-1], kind):
            told.append((await anext(events)).event)
    return told


def trades(*tids: int) -> dict[str, Any]:
    return {
        "channel": "trades",
        "data": [{"coin": "BTC", "side": "B", "px": "5.0", "sz": "1.0", "time": 1, "tid": tid} for tid in tids],
    }


def fills(*tids: int) -> dict[str, Any]:
    rows = [
        {
            "coin": "BTC",
            "px": "5.0",
            "sz": "1.0",
            "side": "B",
            "time": 1,
            "oid": 1,
            "crossed": True,
            "fee": "0",
            "tid": tid,
        }
        for tid in tids
    ]
    return {"channel": "userFills", "data": {"user": USER, "fills": rows, "isSnapshot": True}}


async def test_ten_cuts_keep_the_subscriptions_lose_nothing_and_repeat_nothing(
    venue: FakeVenue, stream: VenueStream
) -> None:
    """D16."""
    events = aiter(stream)
    seen_trades: list[int] = []
    seen_fills: list[int] = []
    for cut in range(10):
        told = await until(events, StreamUp)
        socket = venue.sockets[cut]
        await socket.send_json(trades(*range(max(0, cut - 3), cut + 1)))
        await socket.send_json(fills(*range(cut, -1, -1)))
        told += await until(events, FillsSeen)
        seen_trades += [t.tid for event in told if isinstance(event, TradesSeen) for t in event.trades]
        seen_fills += [f.tid for event in told if isinstance(event, FillsSeen) for f in event.fills]
        assert socket._req is not None
        assert socket._req.transport is not None
        socket._req.transport.abort()
        (down,) = await until(events, StreamDown)
        assert isinstance(down, StreamDown)
        assert down.reason
    assert seen_trades == seen_fills == list(range(10))
    await until(events, StreamUp)
    assert len(venue.heard) == 11
    assert all(said == venue.heard[0] for said in venue.heard)
    assert len(venue.heard[0]) == len(SUBSCRIPTIONS)


async def test_a_venue_that_cannot_be_reached_is_said_once_and_tried_for_ever(venue: FakeVenue) -> None:
    address = venue.ws_url
    await venue.server.close()
    async with VenueStream(address, SUBSCRIPTIONS, SystemClock(), max_pause_s=0.001) as stream:
        events = aiter(stream)
        assert isinstance((await anext(events)).event, StreamDown)
        waiting = asyncio.ensure_future(anext(events))  # type: ignore[arg-type]
        while stream._backoff.failures < 5:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert not waiting.done()
        await stream.close()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_closing_ends_the_iteration(venue: FakeVenue, stream: VenueStream) -> None:
    async def follow() -> list[StreamEvent]:
        return [received.event async for received in stream]

    following = asyncio.create_task(follow())
    await asyncio.wait_for(venue.connected.wait(), 10)
    await stream.close()
    told = await asyncio.wait_for(following, 10)
    assert not any(isinstance(event, StreamDown) for event in told)


async def test_a_frame_that_cannot_be_read_does_not_end_the_line(venue: FakeVenue, stream: VenueStream) -> None:
    events = aiter(stream)
    await until(events, StreamUp)
    await venue.sockets[0].send_str("{not json")
    await venue.sockets[0].send_bytes(b"\xff\xfe")
    await venue.sockets[0].send_json(trades(1))
    told = await until(events, TradesSeen)
    assert [type(event) for event in told] == [FrameRefused, FrameRefused, TradesSeen]
    assert len(venue.sockets) == 1


async def test_what_is_sent_goes_out_on_the_same_socket(venue: FakeVenue, stream: VenueStream) -> None:
    with pytest.raises(VenueUnavailable, match="not connected"):
        await stream.send_json({"method": "simAck", "step": 1, "sent": 0})
    events = aiter(stream)
    await until(events, StreamUp)
    await stream.send_json({"method": "simAck", "step": 4, "sent": 2})
    await stream.send_json({"method": "ping"})
    await venue.sockets[0].send_json(trades(1))
    await until(events, TradesSeen)
    async with asyncio.timeout(10):
        while len(venue.heard[0]) < len(SUBSCRIPTIONS) + 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert venue.heard[0][-2:] == [{"method": "simAck", "step": 4, "sent": 2}, {"method": "ping"}]


async def test_a_silent_line_is_given_up(venue: FakeVenue) -> None:
    """D15: the socket stands, but nothing comes: by the client's clock 51 s pass at once."""
    clock = ManualClock(wall_s=0.0)
    async with VenueStream(venue.ws_url, [Subscription("trades", BTC)], clock, max_pause_s=0.01) as stream:
        stream._sleep = lambda _: asyncio.sleep(0)
        events = aiter(stream)
        await until(events, StreamUp)
        clock.wall_s = 51.0
        (down,) = await until(events, StreamDown)
        assert down == StreamDown("nothing heard for 51 s")


async def test_arrivals_are_stamped_with_monotonic_seconds(venue: FakeVenue) -> None:
    clock = ManualClock(wall_s=12.5)
    async with VenueStream(venue.ws_url, [Subscription("trades", BTC)], clock) as stream:
        async for received in stream:
            assert received == Received(StreamUp(), 12.5)
            break


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="allowed"):
        VenueStream("http://127.0.0.1/ws", [], SystemClock())
