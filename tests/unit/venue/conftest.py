"""A venue on loopback for the tests of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.unit.venue.fake_venue import FakeVenue


@pytest_asyncio.fixture
async def venue() -> AsyncIterator[FakeVenue]:
    async with FakeVenue() as running:
        running.answers["meta"] = {
            "universe": [
                {"name": "BTC", "szDecimals": 5, "maxLeverage": 40},
                {"name": "OLD", "szDecimals": 2, "maxLeverage": 3, "isDelisted": True},
                {"name": "ETH", "szDecimals": 4, "maxLeverage": 25},
                {"name": "ODD", "szDecimals": 5, "maxLeverage": 20, "pxDecimals": None},
            ]
        }
        yield running
