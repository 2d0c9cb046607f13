"""What the engine makes of orders whose outcome nobody told it."""

from __future__ import annotations

import pytest

from aml100.domain.clock import ManualClock
from aml100.domain.errors import AmlError, VenueUnavailable
from aml100.domain.events import AskOrders, CoreEvent, OrderChanged
from aml100.domain.orders import OrderStatus
from aml100.domain.units import Cloid
from aml100.engine.execution import Executor

CLOID = Cloid("0x" + "7" * 32)


class Venue:
    """Knows an order from `arrives_s` on, and answers at all from `answers_s` on."""

    def __init__(self, clock: ManualClock, arrives_s: float, answers_s: float = 0.0) -> None:
        self.clock, self.arrives_s, self.answers_s = clock, arrives_s, answers_s

    async def order_status(self, address: str, cloid: Cloid) -> OrderChanged | None:
        now_s = self.clock.monotonic_s()
        if now_s < self.answers_s:
            raise VenueUnavailable("no answer")
        return OrderChanged(cloid, OrderStatus.RESTING, 9) if now_s >= self.arrives_s else None


async def asked(arrives_s: float, order_life_s: float, answers_s: float = 0.0) -> tuple[list[CoreEvent], float]:
    """What is made of one unknown order, and after how many seconds."""
    clock = ManualClock(wall_s=0.0)
    heard: list[CoreEvent] = []

    def failed(error: AmlError) -> None:
        raise error

    async def sleep(seconds: float) -> None:
        assert clock.wall_s is not None
        clock.wall_s += seconds

    venue = Venue(clock, arrives_s, answers_s)
    executor = Executor(venue, "0x0", heard.append, clock, failed, order_life_s)  # type: ignore[arg-type]
    executor._sleep = sleep
    executor.start([AskOrders((CLOID,))])
    await executor.settle()
    return heard, clock.monotonic_s()


@pytest.mark.parametrize("order_life_s", [15.0, 60.0, 600.0])
async def test_d1_an_order_that_can_still_arrive_is_not_given_up(order_life_s: float) -> None:
    heard, _ = await asked(arrives_s=order_life_s - 1, order_life_s=order_life_s)
    assert heard == [OrderChanged(CLOID, OrderStatus.RESTING, 9)]


@pytest.mark.parametrize("order_life_s", [1.0, 15.0, 60.0])
async def test_d1_what_has_expired_unseen_never_reached_the_venue(order_life_s: float) -> None:
    heard, after_s = await asked(arrives_s=1e9, order_life_s=order_life_s)
    assert heard == [OrderChanged(CLOID, OrderStatus.REJECTED, None, "never reached the venue")]
    assert order_life_s <= after_s <= order_life_s + 10


async def test_d1_a_venue_that_is_silent_longer_than_an_order_lives_is_asked_on() -> None:
    heard, after_s = await asked(arrives_s=0.0, order_life_s=15.0, answers_s=100.0)
    assert heard == [OrderChanged(CLOID, OrderStatus.RESTING, 9)]
    assert after_s >= 100
