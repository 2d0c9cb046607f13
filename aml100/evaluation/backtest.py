"""The back-test: the live decision core over history, against the matching engine of the simulated venue.

Nothing here decides anything. Bars are played in the order in which the embedded venue plays them (range, close,
decision, next open, protection, range, ...), and what the core asks for is carried out at once. So a back-test and a
run over the wire on the same bars take the same decisions and end with the same trades and equity.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
import numpy as np

from aml100.domain.events import (
    AskOrders,
    BarsClosed,
    CancelForeign,
    CancelOrders,
    CoreEvent,
    Decision,
    Effect,
    EquityMarked,
    FillReceived,
    FillRecorded,
    OrderChanged,
    PlaceOrders,
    SizeFactorSet,
    TradeClosed,
)
from aml100.domain.orders import Action, OrderKind, OrderStatus
from aml100.domain.units import ZERO, Coin
from aml100.evaluation.metrics import RunRecord
from aml100.evaluation.standing import StatusSizes
from aml100.sim.accounts import FillEvent, FundingEvent, VenueEvent
from aml100.sim.exchange import Exchange
from aml100.sim.scenario import Tape, TapeStep
from aml100.trading.core import TradingCore

ADDRESS = "0x" + "00" * 19 + "01"


class EquityRow(msgspec.Struct, frozen=True):
    """One bar: its open time, and the account at its close.

    `position` is the signed size of the first coin, `exposed` whether any coin is held.
    """

    time_ms: int
    equity: Decimal
    balance: Decimal
    drawdown_frac: float
    position: Decimal
    exposed: bool = False


@dataclass(slots=True)
class BacktestResult:
    """All that happened; `equity` has a row for every step of the tape, those of the warm-up included.

    `begins_ms` is the open of the first bar after the warm-up, on whose close the first decision falls.
    """

    begins_ms: int = 0
    equity: list[EquityRow] = field(default_factory=list)
    trades: list[TradeClosed] = field(default_factory=list)
    fills: list[FillRecorded] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    deposits: Decimal = ZERO
    final_equity: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO


class Backtest:
    """One run of a core over a tape.

    Args:
        core: fresh; its deposit is made here.
        exchange: fresh, knowing the tape's instruments.
        tape: the bars; the first `warmup_bars` of them are history.
        deposit: USD.
        on_progress: told the number of bars done, every few thousand.
        statuses: where sizes follow the account's status.
    """

    def __init__(
        self,
        core: TradingCore,
        exchange: Exchange,
        tape: Tape,
        *,
        warmup_bars: int,
        deposit: Decimal,
        on_progress: Callable[[int], None] | None = None,
        statuses: StatusSizes | None = None,
    ) -> None:
        self._statuses = statuses
        self._core = core
        self._exchange = exchange
        self._tape = tape
        self._row = warmup_bars
        self._deposit = deposit
        self._on_progress = on_progress
        self._next: TapeStep | None = None
        self._opened = False
        self._ending: Collection[Coin] = ()
        self._first_coin, self._interval_ms = tape.coins[0], tape.interval_ms
        self._held_back: list[Effect] | None = None
        self.result = BacktestResult()

    def run(self) -> BacktestResult:
        """From the first bar after the warm-up to the end of the tape.

        A run keeps millions of records and makes no cycles: the collector would only walk them again and again.
        """
        collects = gc.isenabled()
        gc.disable()
        try:
            return self._run()
        finally:
            if collects:
                gc.enable()

    def _run(self) -> BacktestResult:
        core, exchange, tape, result = self._core, self._exchange, self._tape, self.result
        for row in range(self._row):
            warm = tape.step(row)
            if warm is not None:
                for bar in warm.bars:
                    core.warm_up(bar)
                result.equity.append(EquityRow(warm.open_ms, self._deposit, self._deposit, 0.0, ZERO))
        exchange.add_account(ADDRESS, self._deposit)
        for coin in core.instruments:
            exchange.set_leverage(ADDRESS, coin, core.rules.leverage)
        step = tape.step(self._row)
        if step is not None:
            core.ledger.deposit(self._deposit, step.open_ms, "initial")
            result.deposits, result.begins_ms = self._deposit, step.open_ms
            core.begin(step.open_ms)
            exchange.open_bars(step.bars, step.funding)
        while step is not None:
            self._play(step)
            self._row += 1
            step = self._next
            if self._on_progress is not None and self._row % 2048 == 0:
                self._on_progress(self._row)
        result.final_equity = core.ledger.equity()
        return result

    def _play(self, step: TapeStep) -> None:
        """Range and close of one step, the decision on it, and the open of the next."""
        self._next, self._opened = self._tape.step(self._row + 1), False
        self._ending = [coin for coin, _ in step.ending] if step.ending else ()
        events = self._exchange.play_bars()
        self._held_back = []  # what follows from the range is sent with what the close decides, as over the wire
        if events:
            self._tell(events)
        for settled in step.settled:
            self._process(settled)
        effects = self._core.process(BarsClosed(step.end_ms, step.bars, step.ending))
        if self._statuses is not None:
            self._judge(self._statuses, step.end_ms, effects)
        held_back, self._held_back = self._held_back, None
        if held_back:
            self._carry_out(held_back)
        self._carry_out(effects)
        if not self._opened:
            self._open_next()

    def _judge(self, statuses: StatusSizes, end_ms: int, effects: Sequence[Effect]) -> None:
        """The close is marked and nothing of what it decided is done yet: as an engine does, the status is judged."""
        for effect in effects:
            if isinstance(effect, EquityMarked):
                statuses.take(effect)
        if statuses.has_changed(end_ms):
            self._process(SizeFactorSet(statuses.factor, end_ms))

    def _open_next(self) -> None:
        self._opened = True
        if self._next is not None:
            events = self._exchange.open_bars(self._next.bars, self._next.funding)
            if events:
                self._tell(events)

    def _tell(self, events: Sequence[VenueEvent]) -> None:
        for event in events:
            self._process(_from_venue(event))

    def _process(self, event: CoreEvent) -> None:
        self._carry_out(self._core.process(event))

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        """Keep the records; do at the venue what is asked, and fold the answers until nothing is left to do."""
        for effect in effects:
            match effect:
                case Decision():
                    self.result.decisions.append(effect)
                case EquityMarked():
                    self._mark(effect)
                case PlaceOrders() | CancelOrders() if self._held_back is not None:
                    self._held_back.append(effect)
                case PlaceOrders():
                    if not self._opened and effect.orders[0].coin not in self._ending:
                        self._open_next()
                    results, events = self._exchange.place(ADDRESS, effect.orders, effect.grouping)
                    self._tell(events)
                    for order, answer in zip(effect.orders, results, strict=True):
                        self._process(OrderChanged(order.cloid, answer.status, answer.oid, answer.error))
                case CancelOrders():
                    for coin, cloid in effect.orders:
                        refusal, events = self._exchange.cancel(ADDRESS, coin, cloid)
                        self._tell(events)
                        if refusal is None:
                            self._process(OrderChanged(cloid, OrderStatus.CANCELED, None, "canceled"))
                case CancelForeign() | AskOrders():
                    pass  # nobody else acts on this account, and no answer is ever lost
                case _:
                    self._keep(effect)

    def slippage_usd(self) -> float:
        """What market fills cost against the price before slippage, USD, >= 0; a target has none."""
        share = self._exchange.rules.slippage_frac
        total = ZERO
        for done in self.result.fills:
            fill = done.fill
            if fill.is_taker and done.kind is not OrderKind.TAKE_PROFIT:
                total += fill.size * fill.price * share / (1 + share * fill.side.sign)
        return float(total)

    def record(self, policy: str, model: str | None, origin: str, sha256: str | None) -> RunRecord:
        """The run as the figures want it."""
        result = self.result
        counts = Counter(decision.action for decision in result.decisions)
        return RunRecord(
            open_ms=np.array([row.time_ms for row in result.equity], dtype=np.int64),
            equity=np.array([float(row.equity) for row in result.equity]),
            exposed=np.array([row.exposed for row in result.equity]),
            interval_ms=self._tape.interval_ms,
            initial_equity=float(result.deposits),
            trades=result.trades,
            fills=[done.fill for done in result.fills],
            actions=(counts[Action.HOLD], counts[Action.BUY], counts[Action.SELL]),
            funding_usd=float(result.funding),
            slippage_usd=self.slippage_usd(),
            policy=policy,
            model=model,
            data_origin=origin,
            data_sha256=sha256,
            risk_checks=self._core.rules.risk.enabled,
        )

    def _mark(self, marked: EquityMarked) -> None:
        """A row of the curve; where a close at the end of a series marks a bar again, the later one counts."""
        if self._statuses is not None:
            self._statuses.take(marked)
        rows, ledger = self.result.equity, self._core.ledger
        time_ms = marked.time_ms - self._interval_ms
        position, exposed = ledger.position(self._first_coin).size, bool(ledger.book.positions)
        row = EquityRow(time_ms, marked.equity, marked.balance, marked.drawdown_frac, position, exposed)
        if rows and rows[-1].time_ms == time_ms:
            rows[-1] = row
        else:
            rows.append(row)

    def _keep(self, record: Effect) -> None:
        result = self.result
        match record:
            case FillRecorded():
                result.fills.append(record)
                result.fees += record.fill.fee
            case TradeClosed():
                result.trades.append(record)
                if self._statuses is not None:
                    self._statuses.take(record)
                result.funding += record.funding
            case _:
                pass


def _from_venue(event: VenueEvent) -> CoreEvent:
    if isinstance(event, FillEvent):
        return FillReceived(event.fill)
    if isinstance(event, FundingEvent):
        return event.paid
    return OrderChanged(event.order.cloid, event.status, event.oid, event.reason)
