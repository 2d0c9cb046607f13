"""B19: a venue's clock beside ours, measured at the start over real requests."""

from __future__ import annotations

import pytest

from aml100.config.loading import load_settings
from aml100.domain.clock import wall_ms
from aml100.domain.errors import SafetyRefusal
from aml100.engine.connecting import reach
from aml100.venue.clock import VenueClock
from aml100.venue.rest import VenueRest
from tests.unit.venue.fake_venue import FakeVenue


async def started_beside(offset_ms: int) -> VenueClock:
    """Reach a real-time venue whose clock is that far ahead of ours."""
    clock = VenueClock()
    async with FakeVenue() as venue:
        venue.answers["exchangeStatus"] = lambda _: {"specialStatuses": None, "time": wall_ms() + offset_ms}
        async with VenueRest(venue.url, "other", None, None, clock) as rest:
            await reach(rest, clock, load_settings(None, {}), "testnet")
    return clock


@pytest.mark.parametrize("offset_ms", [2_500, -2_500])
async def test_b19_a_clock_more_than_a_second_off_blocks_the_start(offset_ms: int) -> None:
    with pytest.raises(SafetyRefusal, match=r"clock: off by -?2\d\d\d ms from testnet; allowed: 1000 ms"):
        await started_beside(offset_ms)


async def test_b19_a_small_offset_is_known_and_nonces_follow_it() -> None:
    clock = await started_beside(400)
    assert clock.offset_ms == pytest.approx(400, abs=250)
    assert clock.venue_wall_ms() - clock.wall_ms() == pytest.approx(400, abs=250)
