"""A core in the middle of trading, its venue played by the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from aml100.domain.events import BarsClosed, Effect, FillReceived, OrderChanged, PlaceOrders
from aml100.domain.market import Bar
from aml100.domain.orders import Action, Fill, Order, OrderStatus
from aml100.domain.units import MINUTE_MS, Cloid
from aml100.trading.core import TradingCore
from aml100.trading.policies import Scheduled
from tests.harness import BTC, INSTRUMENT, QUIET_BARS, START_MS, rules_for_tests

DECIDED_MS = START_MS + (QUIET_BARS - 1) * MINUTE_MS


def bar(row: int, close: str = "100", high: str = "", low: str = "") -> Bar:
    price = Decimal(close)
    top, bottom = Decimal(high or close), Decimal(low or close)
    return Bar(BTC, MINUTE_MS, START_MS + row * MINUTE_MS, price, top, bottom, price, Decimal(1), 1)


class Stage:
    """`core` warmed up on quiet bars at 100; `act` sends a bar whose decision is known."""

    def __init__(self, actions: dict[int, Action] | None = None, **changes: object) -> None:
        live = {"risk": replace(rules_for_tests().risk, live_guards=True)} if changes.pop("guarded", False) else {}
        rules = rules_for_tests(**(live | changes))
        by_time = {START_MS + row * MINUTE_MS: action for row, action in (actions or {}).items()}
        self.core = TradingCore({BTC: INSTRUMENT}, rules, lambda coin: Scheduled("scheduled", by_time), salt="test")
        self.core.ledger.deposit(Decimal(10_000), START_MS, "initial")
        for row in range(QUIET_BARS - 1):
            self.core.warm_up(bar(row))
        self.core.begin(DECIDED_MS)
        self._tid = 0

    def close(self, row: int, close: str = "100", high: str = "", low: str = "", **extra: object) -> list[Effect]:
        one = bar(row, close, high, low)
        return self.core.process(BarsClosed(one.end_ms, (one,), **extra))  # type: ignore[arg-type]

    def answer(self, cloid: Cloid, status: OrderStatus, reason: str = "", oid: int | None = 1) -> list[Effect]:
        return self.core.process(OrderChanged(cloid, status, oid, reason))

    def fill(self, order: Order, size: str, price: str = "100", *, taker: bool = True) -> list[Effect]:
        self._tid += 1
        now_ms = self.core.state.now_ms
        fill = Fill(
            BTC, order.side, Decimal(price), Decimal(size), Decimal(0), now_ms, self._tid, 1, order.cloid, taker
        )
        return self.core.process(FillReceived(fill))

    def open_long(self, size: str = "40") -> tuple[Order, Order]:
        """A position with its stop and target resting, as after a market entry."""
        (placed,) = placed_in(self.close(QUIET_BARS - 1))
        entry = placed.orders[0]
        effects = self.fill(entry, size)
        self.answer(entry.cloid, OrderStatus.FILLED)
        known = self.core.coin(BTC)
        for order in [*placed.orders[1:], *(one for each in placed_in(effects) for one in each.orders)]:
            self.answer(order.cloid, OrderStatus.RESTING)
        stop, target = self.core.blotter.get(known.stop_cloid), self.core.blotter.get(known.target_cloid)
        assert stop is not None
        assert target is not None
        return stop.order, target.order


def placed_in(effects: Sequence[Effect]) -> list[PlaceOrders]:
    return [one for one in effects if isinstance(one, PlaceOrders)]
