"""Actions: signed, sent once, and never guessed about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from aml100.domain.clock import SystemClock
from aml100.domain.errors import InvariantBroken, SafetyRefusal, VenueUnavailable
from aml100.domain.events import Grouping, OrderChanged
from aml100.domain.orders import Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import Cloid, Coin
from aml100.venue.budget import ActionBudget, IpBudget
from aml100.venue.placing import MarginMode
from aml100.venue.rest import VenueRest
from aml100.venue.signing import Signer, recover_signer
from aml100.venue.transport import Timeouts
from tests.unit.venue.fake_venue import FakeVenue, text

SIGNER = Signer("22" * 32, "other")
USER = "0x" + "1" * 40
BTC, ETH = Coin("BTC"), Coin("ETH")
WALL = 1_790_000_000_000


def cloid(number: int) -> Cloid:
    return Cloid(f"0x{number:032x}")


ENTRY = Order(cloid(1), BTC, Side.BUY, OrderKind.ENTRY, Decimal("0.01"), Decimal(65000), False, TimeInForce.IOC)
CLOSE = replace(ENTRY, cloid=cloid(2), side=Side.SELL, kind=OrderKind.EXIT, reduce_only=True)
STOP = replace(CLOSE, cloid=cloid(3), kind=OrderKind.STOP_LOSS, tif=None, trigger_price=Decimal(64000))


def statuses(*each: Any) -> dict[str, Any]:
    return {"status": "ok", "response": {"type": "order", "data": {"statuses": list(each)}}}


RESTING = {"resting": {"oid": 77}}


@pytest_asyncio.fixture
async def rest(venue: FakeVenue) -> AsyncIterator[VenueRest]:
    quick = Timeouts(connect_s=1.0, info_s=1.0, exchange_s=0.2, info_attempts=1)
    async with VenueRest(venue.url, "other", SIGNER, USER, SystemClock(), timeouts=quick, wall=lambda: WALL) as client:
        await client.instruments()
        yield client


async def test_a_bracket_goes_out_in_one_signed_request(venue: FakeVenue, rest: VenueRest) -> None:
    filled = {"filled": {"totalSz": "0.01", "avgPx": "64990.0", "oid": 5}}
    venue.answers["order"] = statuses(filled, "waitingForTrigger")
    results = await rest.place([ENTRY, STOP], Grouping.NORMAL_TPSL)
    assert results == [
        OrderChanged(ENTRY.cloid, OrderStatus.FILLED, 5),
        OrderChanged(STOP.cloid, OrderStatus.WAITING, None, "waitingForTrigger"),
    ]
    (body,) = venue.actions
    assert list(body) == ["action", "nonce", "signature", "vaultAddress", "expiresAfter"]
    assert (body["nonce"], body["vaultAddress"], body["expiresAfter"]) == (WALL, None, WALL + 15_000)
    assert body["action"]["grouping"] == "normalTpsl"
    signer = recover_signer(body["action"], body["nonce"], body["signature"], None, body["expiresAfter"])
    assert signer == SIGNER.address


@pytest.mark.parametrize(
    "trouble", [ConnectionResetError, text(500, "x"), text(502, ""), text(504, ""), text(429, "null"), text(200, "{")]
)
async def test_an_unknown_outcome_is_said_and_nothing_is_sent_again(
    venue: FakeVenue, rest: VenueRest, trouble: Any
) -> None:
    """D1."""
    venue.answers["order"] = lambda body: trouble
    with pytest.raises(VenueUnavailable, match="outcome unknown"):
        await rest.place([ENTRY])
    assert len(venue.actions) == 1


async def test_a_timeout_is_not_a_rejection(venue: FakeVenue, rest: VenueRest) -> None:
    """D1: the order is there, only its answer was lost."""
    arrived: list[str] = []

    async def swallow(body: dict[str, Any]) -> None:
        arrived.append(body["action"]["orders"][0]["c"])
        await asyncio.sleep(0.5)

    venue.answers["order"] = swallow
    with pytest.raises(VenueUnavailable, match="outcome unknown"):
        await rest.place([ENTRY])
    assert arrived == [ENTRY.cloid]


async def test_a_request_the_venue_would_not_read_is_refused(venue: FakeVenue, rest: VenueRest) -> None:
    venue.answers["order"] = lambda body: text(422, "Failed to deserialize the JSON body into the target type")
    (result,) = await rest.place([ENTRY])
    assert result.status is OrderStatus.REJECTED
    assert "Failed to deserialize" in result.reason


@pytest.mark.parametrize("field", ["price", "size"])
@pytest.mark.parametrize("bad", ["NaN", "Infinity", "0", "-1"])
async def test_what_cannot_be_meant_never_leaves(venue: FakeVenue, rest: VenueRest, field: str, bad: str) -> None:
    """D8, D9: not even the sound orders beside it."""
    with pytest.raises(InvariantBroken):
        await rest.place([ENTRY, replace(CLOSE, **{field: Decimal(bad)})])  # type: ignore[arg-type]
    assert venue.actions == []


async def test_a_size_below_one_lot_never_leaves(venue: FakeVenue, rest: VenueRest) -> None:
    """D8: reduce-only with size 0 would mean the whole position."""
    with pytest.raises(InvariantBroken):
        await rest.place([replace(CLOSE, size=Decimal("0.000009"))])
    assert venue.actions == []


async def test_prices_off_the_grid_are_brought_onto_it(venue: FakeVenue, rest: VenueRest) -> None:
    """D7: BTC has 1 decimal and 5 significant figures; a buy's limit is rounded up, a sell's down, sizes down."""
    filled = {"filled": {"totalSz": "0.01234", "avgPx": "65000.0", "oid": 5}}
    venue.answers["order"] = statuses(filled, RESTING, RESTING)
    price = Decimal("65432.123456789")
    stop = replace(STOP, price=price, trigger_price=Decimal("65000.6"))
    results = await rest.place(
        [replace(ENTRY, price=price, size=Decimal("0.0123456")), replace(CLOSE, price=price), stop]
    )
    wires = venue.actions[0]["action"]["orders"]
    assert [(w["p"], w["s"]) for w in wires] == [("65433", "0.01234"), ("65432", "0.01"), ("65432", "0.01")]
    assert (results[0].status, results[0].reason) == (OrderStatus.FILLED, "")
    assert wires[2]["t"] == {"trigger": {"isMarket": True, "triggerPx": "65001", "tpsl": "sl"}}


async def test_a_coin_that_is_not_listed_never_leaves(venue: FakeVenue, rest: VenueRest) -> None:
    with pytest.raises(InvariantBroken, match="OLD is not listed"):
        await rest.place([replace(ENTRY, coin=Coin("OLD"))])
    with pytest.raises(InvariantBroken, match="not listed"):
        await rest.cancel([(Coin("OLD"), cloid(1))])
    assert venue.actions == []


async def test_without_a_signer_nothing_can_be_ordered(venue: FakeVenue) -> None:
    """D21."""
    async with VenueRest(venue.url, "other", None, USER, SystemClock()) as paper:
        for order in (
            paper.place([ENTRY]),
            paper.cancel([(BTC, cloid(1))]),
            paper.cancel_oids([(BTC, 1)]),
            paper.update_leverage(BTC, 5),
        ):
            with pytest.raises(SafetyRefusal, match="no signer"):
                await order
    assert venue.actions == []


def test_a_signer_of_another_network_is_refused() -> None:
    with pytest.raises(SafetyRefusal, match="wrong network"):
        VenueRest("http://127.0.0.1:1", "mainnet", SIGNER, USER, SystemClock())
    with pytest.raises(SafetyRefusal, match="wrong network"):
        VenueRest("http://127.0.0.1:1", "other", Signer("22" * 32, "mainnet"), USER, SystemClock())


async def test_once_latched_only_cancels_and_reduce_only_orders_leave(venue: FakeVenue, rest: VenueRest) -> None:
    """D13."""
    venue.answers["order"] = statuses(RESTING)
    venue.answers["cancelByCloid"] = statuses("success")
    rest.refuse_risk("halted by console:someone")
    for orders in ([ENTRY], [CLOSE, ENTRY]):
        with pytest.raises(SafetyRefusal, match="halted by console:someone"):
            await rest.place(orders)
    assert venue.actions == []
    assert (await rest.place([CLOSE]))[0].oid == 77
    assert await rest.cancel([(BTC, ENTRY.cloid)]) == [None]
    rest.allow_risk()
    assert (await rest.place([ENTRY]))[0].oid == 77


async def test_a_close_goes_out_at_the_first_try_when_entries_spent_the_budget(venue: FakeVenue) -> None:
    """B8, D18."""
    venue.answers["order"] = statuses(RESTING)
    venue.answers["cancelByCloid"] = statuses("success")
    venue.answers["userRateLimit"] = {"cumVlm": "0.0", "nRequestsUsed": 95, "nRequestsCap": 100}
    budget = ActionBudget(cap=100, used=80)
    async with VenueRest(venue.url, "other", SIGNER, USER, SystemClock(), action_budget=budget) as rest:
        outcomes = [(await rest.place([ENTRY]))[0] for _ in range(15)]
        placed = [each for each in outcomes if each.status is OrderStatus.RESTING]
        refused = [each for each in outcomes if each.status is OrderStatus.REJECTED]
        assert (len(placed), len(refused)) == (10, 5)
        assert {each.reason for each in refused} == {
            "request budget: the account's actions are used up but for the reserve"
        }
        assert len(venue.actions) == 10
        assert [body["type"] for body in venue.asked].count("userRateLimit") == 1
        assert (await rest.place([CLOSE]))[0].status is OrderStatus.RESTING
        assert await rest.cancel([(BTC, ENTRY.cloid)]) == [None]


async def test_entries_do_not_wait_for_the_minute_and_closes_ignore_it(venue: FakeVenue) -> None:
    venue.answers["order"] = statuses(RESTING)
    spent = IpBudget(100, reserve=40)
    async with VenueRest(venue.url, "other", SIGNER, USER, SystemClock(), ip_budget=spent) as rest:
        await rest.instruments()
        spent.take(rest._clock.monotonic_s(), 100)
        assert "this minute's weight" in (await rest.place([ENTRY]))[0].reason
        assert (await rest.place([CLOSE]))[0].status is OrderStatus.RESTING


async def test_two_actions_in_one_millisecond_have_different_nonces(venue: FakeVenue, rest: VenueRest) -> None:
    venue.answers["order"] = statuses(RESTING)
    await asyncio.gather(*(rest.place([replace(ENTRY, cloid=cloid(k))]) for k in range(8)))
    assert sorted(body["nonce"] for body in venue.actions) == list(range(WALL, WALL + 8))


async def test_cancels_and_leverage(venue: FakeVenue, rest: VenueRest) -> None:
    gone = "Order was never placed, already canceled, or filled. asset=2"
    venue.answers["cancelByCloid"] = statuses("success", {"error": gone})
    venue.answers["cancel"] = statuses("success")
    assert await rest.cancel([(BTC, cloid(1)), (ETH, cloid(2))]) == [None, gone]
    assert await rest.cancel_oids([(ETH, 9)]) == [None]
    assert [body["action"]["cancels"] for body in venue.actions] == [
        [{"asset": 0, "cloid": cloid(1)}, {"asset": 2, "cloid": cloid(2)}],
        [{"a": 2, "o": 9}],
    ]
    assert venue.actions[0]["expiresAfter"] is None
    venue.answers["updateLeverage"] = {"status": "ok", "response": {"type": "default"}}
    assert await rest.update_leverage(BTC, 10, MarginMode.ISOLATED) is None
    assert venue.actions[-1]["action"] == {"type": "updateLeverage", "asset": 0, "isCross": False, "leverage": 10}
    refusal = "Cross margin is not allowed for this asset."
    venue.answers["updateLeverage"] = {"status": "err", "response": refusal}
    assert await rest.update_leverage(BTC, 10) == refusal
    assert await rest.place([]) == []
    assert await rest.cancel([]) == []
