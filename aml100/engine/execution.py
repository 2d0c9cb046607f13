"""Carries out what the core asks of the venue, and turns the answers back into events.

An answer that does not come is not a refusal: the orders become *unknown* and are asked for by client id until the
venue says what became of them; they are never sent again (GUARANTEES D1). After a halt the transport itself lets
nothing pass but cancels and reduce-only orders (D13).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, assert_never

from aml100.domain.clock import Clock
from aml100.domain.errors import AmlError, InvariantBroken, SafetyRefusal, VenueError, VenueUnavailable
from aml100.domain.events import (
    AskOrders,
    CancelForeign,
    CancelOrders,
    CoreEvent,
    FundingPaid,
    Grouping,
    OrderChanged,
    PlaceOrders,
    RestingOrder,
    VenueAction,
)
from aml100.domain.orders import Fill, Order, OrderStatus
from aml100.domain.units import Cloid, Coin
from aml100.venue.news import AccountState, CoinLeverage, MoneyMoved
from aml100.venue.placing import MarginMode

log = logging.getLogger(__name__)

ASK_AGAIN_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits between look-ups of an unknown order; the last one goes on until it can no longer arrive."""
_ARRIVAL_MARGIN_S: Final = 0.5
CLOSE_GRACE_S: Final = 5.0
"""For so long an engine that ends goes on asking what became of an order; then the next start asks."""


class OrderVenue(Protocol):
    """What execution needs of a venue."""

    async def place(self, orders: Sequence[Order], grouping: Grouping) -> list[OrderChanged]: ...

    async def cancel(self, orders: Sequence[tuple[Coin, Cloid]]) -> list[str | None]: ...

    async def cancel_oids(self, orders: Sequence[tuple[Coin, int]]) -> list[str | None]: ...

    async def order_status(self, address: str, cloid: Cloid) -> OrderChanged | None: ...


class AccountVenue(OrderVenue, Protocol):
    """Where an account is held: the venue itself, or the paper account of this engine."""

    def refuse_risk(self, because: str) -> None: ...

    def allow_risk(self) -> None: ...

    async def update_leverage(self, coin: Coin, leverage: int, mode: MarginMode = ...) -> str | None: ...

    async def leverage_of(self, address: str, coin: Coin) -> CoinLeverage: ...

    async def account(self, address: str) -> AccountState: ...

    async def resting_orders(self, address: str) -> tuple[RestingOrder, ...]: ...

    async def fills_since(self, address: str, start_ms: int) -> list[Fill]: ...

    async def funding_since(self, address: str, start_ms: int) -> list[FundingPaid]: ...

    async def money_moved_since(self, address: str, start_ms: int) -> list[MoneyMoved]: ...


class Executor:
    """One engine's hands at the venue.

    Args:
        venue: signs and sends.
        address: the account whose orders are asked for.
        post: puts an event in the engine's queue.
        clock: for the measured latency of orders.
        on_journal_failure: told when orders could not be journalled; it must stop entries (GUARANTEES D3).
        order_life_s: wall seconds after which the venue refuses an order that is still on its way. One that it does not
            know by then never reached it, and not before.
    """

    def __init__(
        self,
        venue: OrderVenue,
        address: str,
        post: Callable[[CoreEvent], None],
        clock: Clock,
        on_journal_failure: Callable[[AmlError], None],
        order_life_s: float,
    ) -> None:
        self._venue = venue
        self._address = address
        self._post = post
        self._clock = clock
        self._on_journal_failure = on_journal_failure
        self._order_life_s = order_life_s
        self._sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._tasks: set[asyncio.Task[None]] = set()
        self._placing: dict[Cloid, asyncio.Event] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self.requests_sent = 0
        self.latency_ms: float | None = None
        self.reduce_only = False
        self.refusal = "halted"

    @property
    def is_idle(self) -> bool:
        """No request under way."""
        return not self._tasks

    def start(self, actions: Sequence[VenueAction], durable: Awaitable[None] | None = None) -> None:
        """Carry out one step's actions in their order, once `durable` says that the journal has them."""
        for action in actions:
            if isinstance(action, PlaceOrders):
                answered = asyncio.Event()
                self._placing.update((order.cloid, answered) for order in action.orders)
        task = asyncio.create_task(self._run(tuple(actions), durable), name="venue actions")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Until at least one request that is under way has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Let what was sent be answered, which a timeout bounds; what only asks is left to the next start.

        A venue that is away would be asked for ever, and the engine never end.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_GRACE_S)
        self._is_closing = True
        for task in self._asking:
            task.cancel()
        await self.settle()

    async def settle(self) -> None:
        """Until no request is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, actions: tuple[VenueAction, ...], durable: Awaitable[None] | None) -> None:
        if durable is not None:
            try:
                await durable
            except AmlError as error:
                self._on_journal_failure(error)
        try:
            await self._carry_out(actions)
        finally:
            self._end_placing(actions)

    def _end_placing(self, actions: tuple[VenueAction, ...]) -> None:
        """Whoever waits to cancel these need not wait any more."""
        for action in actions:
            for order in action.orders if isinstance(action, PlaceOrders) else ():
                answered = self._placing.pop(order.cloid, None)
                if answered is not None:
                    answered.set()

    async def _carry_out(self, actions: tuple[VenueAction, ...]) -> None:
        for action in actions:
            match action:
                case PlaceOrders():
                    try:
                        await self._place(action)
                    finally:
                        self._end_placing((action,))
                case CancelOrders():
                    await self._cancel(action.orders)
                case CancelForeign():
                    self.requests_sent += 1
                    try:
                        await self._venue.cancel_oids(action.orders)
                    except VenueError as error:
                        log.warning("cancel of foreign orders failed: %s", error)
                case AskOrders():
                    await self._ask(action.cloids)
                case _:
                    assert_never(action)

    async def _place(self, action: PlaceOrders) -> None:
        if self.reduce_only and not all(order.reduce_only for order in action.orders):
            for order in action.orders:
                self._post(
                    OrderChanged(order.cloid, OrderStatus.REJECTED, None, f"{self.refusal}: only reducing orders pass")
                )
            return
        started = self._clock.monotonic_s()
        self.requests_sent += 1
        try:
            changes = await self._venue.place(action.orders, action.grouping)
        except VenueUnavailable as error:
            log.warning("no answer to an order, asking by client id: %s", error)
            for order in action.orders:
                self._post(OrderChanged(order.cloid, OrderStatus.UNKNOWN, None, str(error)))
            self.start([AskOrders(tuple(order.cloid for order in action.orders))])
            return
        except (VenueError, SafetyRefusal, InvariantBroken) as error:  # none of these has sent anything
            log.warning("not sent: %s", error)
            for order in action.orders:
                self._post(OrderChanged(order.cloid, OrderStatus.REJECTED, None, str(error)))
            return
        self.latency_ms = (self._clock.monotonic_s() - started) * 1000
        for change in changes:
            self._post(change)

    async def _cancel(self, orders: Sequence[tuple[Coin, Cloid]]) -> None:
        for _, cloid in orders:  # what is still on its way there cannot be cancelled yet
            if cloid in self._placing:
                await self._placing[cloid].wait()
        self.requests_sent += 1
        try:
            errors = await self._venue.cancel(orders)
        except VenueError as error:
            log.warning("cancel not confirmed, asking by client id: %s", error)
            await self._ask(tuple(cloid for _, cloid in orders))
            return
        for (_, cloid), refusal in zip(orders, errors, strict=True):
            if refusal is None:
                self._post(OrderChanged(cloid, OrderStatus.CANCELED, None, "canceled"))
            else:
                await self._ask((cloid,))

    async def _ask(self, cloids: Sequence[Cloid]) -> None:
        """Look orders up by client id until the venue answers for each, and until what it does not know has expired.

        While the engine ends nothing is asked any more: the next start does.
        """
        task = asyncio.current_task()
        if self._is_closing or task is None:
            return
        self._asking.add(task)
        try:
            await self._ask_until_known(cloids)
        finally:
            self._asking.discard(task)

    async def _ask_until_known(self, cloids: Sequence[Cloid]) -> None:
        left = list(cloids)
        since_s = self._clock.monotonic_s()
        for wait_s in itertools.chain((0.0, *ASK_AGAIN_S), itertools.repeat(ASK_AGAIN_S[-1])):
            await self._sleep(wait_s)
            missing = []
            for cloid in left:
                try:
                    found = await self._venue.order_status(self._address, cloid)
                except VenueError:
                    missing.append((cloid, False))
                    continue
                if found is None:
                    missing.append((cloid, True))
                else:
                    self._post(found)
            left = [cloid for cloid, _ in missing]
            if not left:
                return
            if self._clock.monotonic_s() - since_s >= self._order_life_s + _ARRIVAL_MARGIN_S:
                break
        for cloid, answered in missing:
            if answered:
                self._post(OrderChanged(cloid, OrderStatus.REJECTED, None, "never reached the venue"))
            else:
                log.error("order %s is still unknown: the venue does not answer", cloid)
                self.start([AskOrders((cloid,))])
