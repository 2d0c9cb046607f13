"""B8, D18: entries use the budgets up, and a close still goes out at the first try; shown through the real client."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

from aml100.domain.clock import ManualClock
from aml100.domain.orders import Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import Cloid, Coin
from aml100.venue.budget import ActionBudget, IpBudget
from aml100.venue.rest import VenueRest
from aml100.venue.signing import Signer
from tests.unit.venue.fake_venue import FakeVenue, text

BTC = Coin("BTC")


class Counting:
    """A venue that counts as the real one does: 1200 of weight a minute an address, and so many actions in all."""

    def __init__(self, actions: int) -> None:
        self.weight, self.actions = 0, actions
        self.refused: list[str] = []

    def act(self, body: dict[str, Any]) -> Any:
        action = body["action"]
        batch = len(action.get("orders") or action.get("cancels") or [1])
        kind = "close" if action["type"] != "order" or action["orders"][0]["r"] else "entry"
        self.weight += 1 + batch // 40
        if self.weight > 1200:
            self.refused.append(kind)
            return text(429, "null")
        self.actions -= batch
        if self.actions < 0:
            self.refused.append(kind)
            said = "Too many cumulative requests sent (10001 > 10000) for cumulative volume traded $0"
            return {"status": "err", "response": said}
        statuses = [{"filled": {"totalSz": "0.001", "avgPx": "100", "oid": 1}}] * batch
        return {"status": "ok", "response": {"type": "order", "data": {"statuses": statuses}}}


def order(number: int, *, closes: bool) -> Order:
    side, kind = (Side.SELL, OrderKind.EXIT) if closes else (Side.BUY, OrderKind.ENTRY)
    cloid = Cloid(f"0x{number:032x}")
    return Order(cloid, BTC, side, kind, Decimal("0.001"), Decimal(100_000), closes, TimeInForce.IOC)


def client(venue: FakeVenue, ip: IpBudget, actions: ActionBudget) -> VenueRest:
    signer = Signer("0x" + "1" * 64, "other")
    return VenueRest(
        venue.url, "other", signer, None, ManualClock(wall_s=time.monotonic()), ip_budget=ip, action_budget=actions
    )


async def test_b8_weight_used_up_by_entries_leaves_a_close_its_way(venue: FakeVenue) -> None:
    counting = Counting(actions=10**6)
    venue.answers["order"] = counting.act
    async with client(venue, IpBudget(1200, 200), ActionBudget(10**6)) as rest:
        await rest.instruments()
        counting.weight += 20  # what asking for the metadata has cost
        refused = 0
        for number in range(1500):
            (change,) = await rest.place([order(number, closes=False)])
            refused += change.status is OrderStatus.REJECTED
        assert refused > 400
        (closed,) = await rest.place([order(9999, closes=True)])
        assert closed.status is OrderStatus.FILLED
    assert counting.refused == []


async def test_b8_actions_used_up_by_entries_leave_a_close_its_way(venue: FakeVenue) -> None:
    counting = Counting(actions=1000)
    venue.answers["order"] = counting.act
    async with client(venue, IpBudget(10**6, 0), ActionBudget(1000, reserve=200)) as rest:
        for number in range(1000):
            await rest.place([order(number, closes=False)])
            counting.weight = 0
        assert rest.action_budget.remaining == rest.action_budget.reserve == 100
        (closed,) = await rest.place([order(9999, closes=True)])
        assert closed.status is OrderStatus.FILLED
    assert counting.refused == []
