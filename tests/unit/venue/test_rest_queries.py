"""Questions: asked again when that is safe, page by page, and answered in our words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from aml100.domain.clock import ManualClock, SystemClock
from aml100.domain.errors import ConfigError, ProtocolViolation, VenueUnavailable
from aml100.domain.events import OrderChanged
from aml100.domain.orders import OrderStatus
from aml100.domain.units import Cloid, Coin
from aml100.venue.budget import IpBudget
from aml100.venue.rest import VenueRest
from aml100.venue.transport import Timeouts
from tests.unit.venue.fake_venue import FakeVenue, text

USER = "0xAbCd000000000000000000000000000000000001"
BTC = Coin("BTC")
CLOID = Cloid("0x" + "a" * 32)
PATIENT = Timeouts(connect_s=1.0, info_s=0.5, exchange_s=0.5, info_attempts=4)


@pytest_asyncio.fixture
async def rest(venue: FakeVenue) -> AsyncIterator[VenueRest]:
    """Its pauses pass on the clock alone."""
    clock = ManualClock(wall_s=0.0)

    async def pause(seconds: float) -> None:
        assert clock.wall_s is not None
        clock.wall_s += seconds

    budget = IpBudget(10**6)
    async with VenueRest(
        venue.url, "other", None, USER, clock, origin="o", ip_budget=budget, timeouts=PATIENT
    ) as client:
        client._transport._sleep = pause
        yield client


async def test_instruments_keep_their_index_and_the_simulated_venues_rule(venue: FakeVenue, rest: VenueRest) -> None:
    found = await rest.instruments()
    assert [(i.coin, i.asset_id, i.px_decimals) for i in found.values()] == [
        ("BTC", 0, 1),
        ("ETH", 2, 2),
        ("ODD", 3, None),
    ]
    assert venue.asked == [{"type": "meta", "dex": ""}]


async def test_coins_of_a_builders_exchange_have_its_ids(venue: FakeVenue) -> None:
    """The k-th after the main one starts at 110000 + 10000 k: `xyz` is the second here."""
    main = venue.answers["meta"]
    other = {
        "universe": [
            {"name": "xyz:A", "szDecimals": 2, "maxLeverage": 5},
            {"name": "xyz:B", "szDecimals": 2, "maxLeverage": 5},
        ]
    }
    venue.answers["meta"] = lambda body: other if body["dex"] == "xyz" else main
    venue.answers["perpDexs"] = [None, {"name": "abc"}, {"name": "xyz"}]
    async with VenueRest(venue.url, "other", None, None, SystemClock(), dexes=["xyz"]) as rest:
        assert (await rest.instruments())[Coin("xyz:B")].asset_id == 120_001


@pytest.mark.parametrize("trouble", [text(500, "oops"), text(502, ""), text(429, "null"), ConnectionResetError])
async def test_questions_are_asked_again(venue: FakeVenue, rest: VenueRest, trouble: Any) -> None:
    answer = {"specialStatuses": None, "time": 123}
    replies = iter([trouble, trouble, answer])
    venue.answers["exchangeStatus"] = lambda body: next(replies)
    status = await rest.exchange_status()
    assert (status.time_ms, status.speed, status.ended) == (123, 1.0, False)
    assert len(venue.asked) == 3
    assert rest._clock.monotonic_s() > 0


async def test_patience_ends(venue: FakeVenue, rest: VenueRest) -> None:
    venue.answers["allMids"] = lambda body: text(503, "  busy\n now ")
    with pytest.raises(VenueUnavailable, match=r"allMids: HTTP 503: busy now \(4 attempts\)"):
        await rest.all_mids()
    assert len(venue.asked) == 4


async def test_a_venue_that_is_not_there_is_unavailable(rest: VenueRest, venue: FakeVenue) -> None:
    await venue.server.close()
    with pytest.raises(VenueUnavailable):
        await rest.all_mids()


async def test_a_question_the_venue_does_not_know_is_asked_once(venue: FakeVenue, rest: VenueRest) -> None:
    venue.answers["allMids"] = lambda body: text(422, "Failed to deserialize the JSON body into the target type")
    with pytest.raises(ProtocolViolation, match="Failed to deserialize"):
        await rest.all_mids()
    assert len(venue.asked) == 1


async def test_an_answer_of_another_shape_names_its_path(venue: FakeVenue, rest: VenueRest) -> None:
    venue.answers["exchangeStatus"] = {"time": "soon"}
    with pytest.raises(ProtocolViolation, match=r"exchangeStatus.*\$\.time"):
        await rest.exchange_status()


def candle(open_ms: int) -> dict[str, Any]:
    return {
        "t": open_ms,
        "T": open_ms + 59_999,
        "s": "BTC",
        "i": "1m",
        "o": "2",
        "c": "3",
        "h": "4",
        "l": "1",
        "v": "5",
        "n": 6,
    }


async def test_candles_come_in_pages_and_the_forming_one_can_be_left_out(venue: FakeVenue, rest: VenueRest) -> None:
    """A server that holds bars 0..1199 and serves 500 a time, the first being the one that contains startTime."""

    def page(body: dict[str, Any]) -> list[dict[str, Any]]:
        first = body["req"]["startTime"] // 60_000
        last = min(body["req"]["endTime"] // 60_000, 1199)
        return [candle(k * 60_000) for k in range(first, last + 1)][:500]

    venue.answers["candleSnapshot"] = page
    bars = await rest.candles(BTC, 60_000, 30_000, 5_000 * 60_000)
    assert [bar.open_ms for bar in bars] == [k * 60_000 for k in range(1, 1200)]
    assert {bar.origin for bar in bars} == {"o"}
    closed = await rest.candles(BTC, 60_000, 0, 600_000, closed_by_ms=590_000)
    assert [bar.open_ms for bar in closed] == [k * 60_000 for k in range(9)]


async def test_funding_history_is_stamped_on_the_hour(venue: FakeVenue, rest: VenueRest) -> None:
    """900 hours served by 500; stamps lie some milliseconds past the hour."""
    rows = [{"coin": "BTC", "fundingRate": "0.0000125", "premium": "0", "time": k * 3_600_000 + 31} for k in range(900)]
    venue.answers["fundingHistory"] = lambda body: [
        row for row in rows if body["startTime"] <= row["time"] <= body["endTime"]
    ][:500]
    rates = await rest.funding_history(BTC, 0, 900 * 3_600_000)
    assert [rate.time_ms for rate in rates] == [k * 3_600_000 for k in range(900)]
    assert len(venue.asked) == 2


def fill(tid: int, time_ms: int, coin: str = "BTC") -> dict[str, Any]:
    return {
        "coin": coin, "px": "2.0", "sz": "1.0", "side": "B", "time": time_ms, "oid": 1, "crossed": True, "fee": "0.1",
        "tid": tid,
    }  # fmt: skip


async def test_fills_come_in_pages_each_once(venue: FakeVenue, rest: VenueRest) -> None:
    """2000 a page; three share the millisecond on which the first page ends. Spot fills are none of ours."""
    rows = [fill(k, min(k, 1999) if k < 2002 else k) for k in range(2500)] + [fill(9999, 3000, "@107")]
    venue.answers["userFillsByTime"] = lambda body: [row for row in rows if row["time"] >= body["startTime"]][:2000]
    fills = await rest.fills_since(USER, 0)
    assert [each.tid for each in fills] == list(range(2500))
    assert {body["user"] for body in venue.asked} == {USER.lower()}


async def test_funding_payments_come_in_pages_each_once(venue: FakeVenue, rest: VenueRest) -> None:
    delta = {"type": "funding", "coin": "BTC", "usdc": "-0.5", "szi": "1.0", "fundingRate": "0.00001", "nSamples": 24}
    rows = [{"time": k * 3_600_000, "hash": "0x", "delta": delta} for k in range(700)]
    venue.answers["userFunding"] = lambda body: [row for row in rows if row["time"] >= body["startTime"]][:500]
    paid = await rest.funding_since(USER, 0)
    assert [each.time_ms for each in paid] == [k * 3_600_000 for k in range(700)]
    assert (paid[0].amount, paid[0].size, paid[0].rate) == (Decimal("-0.5"), Decimal(1), Decimal("0.00001"))


@pytest.mark.parametrize("worth", ["0.0", "NaN", "-5.0", "Infinity", None])
async def test_an_equity_that_cannot_be_is_unknown(venue: FakeVenue, rest: VenueRest, worth: str | None) -> None:
    """B12; the positions beside it are still told."""
    position = {
        "coin": "BTC", "szi": "-0.5", "leverage": {"type": "cross", "value": 10}, "entryPx": "60000.0",
        "liquidationPx": None, "marginUsed": "3000.0",
    }  # fmt: skip
    venue.answers["clearinghouseState"] = {
        "marginSummary": {"accountValue": worth},
        "withdrawable": "1.5",
        "assetPositions": [{"type": "oneWay", "position": position}],
    }
    state = await rest.account(USER)
    assert (state.equity, state.withdrawable) == (None, Decimal("1.5"))
    assert [(p.coin, p.size, p.leverage, p.liquidation_px) for p in state.positions] == [
        ("BTC", Decimal("-0.5"), 10, None)
    ]


async def test_children_listed_twice_are_one_order(venue: FakeVenue, rest: VenueRest) -> None:
    child = {
        "coin": "BTC", "side": "A", "limitPx": "9.0", "sz": "1.0", "oid": 2, "timestamp": 1, "isTrigger": True,
        "triggerPx": "9.5", "reduceOnly": True, "orderType": "Stop Market", "origSz": "1.0", "children": [],
    }  # fmt: skip
    parent = child | {
        "side": "B",
        "oid": 1,
        "isTrigger": False,
        "reduceOnly": False,
        "orderType": "Limit",
        "children": [child],
    }
    venue.answers["frontendOpenOrders"] = [child, parent, child | {"coin": "@1", "oid": 3}]
    orders = await rest.resting_orders(USER)
    assert sorted((order.oid, order.is_stop, order.trigger_price) for order in orders) == [
        (1, False, None),
        (2, True, Decimal("9.5")),
    ]


async def test_an_order_is_looked_up_by_its_client_id(venue: FakeVenue, rest: VenueRest) -> None:
    venue.answers["orderStatus"] = {"status": "unknownOid"}
    assert await rest.order_status(USER, CLOID) is None
    assert venue.asked[-1] == {"type": "orderStatus", "user": USER.lower(), "oid": CLOID}
    order = {
        "coin": "BTC", "side": "A", "limitPx": "9.0", "sz": "1.0", "oid": 2, "timestamp": 1, "isTrigger": True,
        "triggerPx": "9.5", "reduceOnly": True, "orderType": "Stop Market", "origSz": "1.0",
    }  # fmt: skip
    report = {"order": order, "status": "siblingFilledCanceled", "statusTimestamp": 3}
    venue.answers["orderStatus"] = {"status": "order", "order": report}
    assert await rest.order_status(USER, CLOID) == OrderChanged(CLOID, OrderStatus.CANCELED, 2, "siblingFilledCanceled")


async def test_the_venues_count_of_requests_is_taken_over(venue: FakeVenue, rest: VenueRest) -> None:
    venue.answers["userRateLimit"] = {"cumVlm": "1500.5", "nRequestsUsed": 42, "nRequestsCap": 11500}
    limit = await rest.user_rate_limit(USER)
    assert (limit.used, limit.cap, limit.volume_usd) == (42, 11500, Decimal("1500.5"))
    assert (rest.action_budget.used, rest.action_budget.cap) == (42, 11500)


async def test_agents_are_told_with_their_end(venue: FakeVenue, rest: VenueRest) -> None:
    venue.answers["extraAgents"] = lambda body: [{"name": "bot", "address": "0xAA", "validUntil": 77}]
    (agent,) = await rest.extra_agents(USER)
    assert (agent.name, agent.address, agent.valid_until_ms) == ("bot", "0xaa", 77)


async def test_an_address_that_is_none_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(ConfigError, match="allowed"):
        VenueRest("ftp://x", "other", None, None, SystemClock())
    with pytest.raises(VenueUnavailable, match="async with"):
        await VenueRest(
            "http://127.0.0.1:1", "other", None, None, SystemClock(), timeouts=Timeouts(info_attempts=1)
        ).all_mids()
