"""What venue.json says of the line to the venue, on a real socket."""

from __future__ import annotations

import asyncio

from aml100.config.models import VenueConfig
from aml100.domain.clock import ManualClock
from aml100.domain.units import Coin
from aml100.engine.connecting import stream_for
from aml100.venue.session import StreamUp, Subscription
from aml100.venue.stream import StreamDown
from tests.unit.venue.fake_venue import FakeVenue


async def test_pings_silence_and_pauses_are_those_of_the_configuration() -> None:
    config = VenueConfig(
        ping_seconds=7.0, idle_timeout_seconds=20.0, reconnect_min_seconds=3.0, reconnect_max_seconds=3.0
    )
    clock = ManualClock(wall_s=0.0)
    async with (
        FakeVenue() as venue,
        stream_for(venue.ws_url, [Subscription("bbo", Coin("BTC"))], clock, "", config) as stream,
    ):
        stream._sleep = lambda _: asyncio.sleep(0)
        events = aiter(stream)
        assert (await anext(events)).event == StreamUp()
        following = asyncio.ensure_future(anext(events))  # type: ignore[arg-type]
        clock.wall_s = 7.0
        async with asyncio.timeout(10):
            while {"method": "ping"} not in venue.heard[0]:  # noqa: ASYNC110 -- nothing tells
                await asyncio.sleep(0)
            while stream._session._heard_s < 7.0:  # noqa: ASYNC110 -- the pong says nothing
                await asyncio.sleep(0)
        clock.wall_s = 28.0
        assert (await asyncio.wait_for(following, 10)).event == StreamDown("nothing heard for 21 s")
        assert 0.3 <= stream._backoff.next_s() <= 3.0
