"""Recorded inputs through a fresh core, and what comes out held against what was journalled (GUARANTEES B6).

Every decision with its Q values and gates, every order with its size, every fill's effect and every marked equity must
come out again. The fills themselves are inputs; they are held against what the simulator would have given: exactly on
a simulated venue, in basis points on a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias

from aml100.domain.errors import InvariantBroken, StateError
from aml100.domain.events import (
    BarsClosed,
    Decision,
    Effect,
    EquityMarked,
    FillRecorded,
    OrderRecorded,
)
from aml100.domain.market import Bar
from aml100.domain.orders import ExitReason, Order, OrderKind, OrderStatus, Side
from aml100.domain.units import ZERO, Cloid, Coin, iso_utc
from aml100.engine.inputs import (
    CoreBegan,
    CoreInput,
    Deposited,
    PolicyChanged,
    PolicyNote,
    Ready,
    RulesChanged,
    WarmBar,
    unpack,
)
from aml100.storage import inputs as recorded
from aml100.storage.reader import EquityPoint, StateReader
from aml100.trading.core import TradingCore
from aml100.trading.policies import Policy

PolicyMaker: TypeAlias = Callable[[PolicyNote], Policy]
"""A policy as it was noted, without its memory; raises where it cannot be had any more."""

_KEPT_DIFFERENCES = 1_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that came out otherwise. `kind`: decision, order, fill, equity, state, simulator."""

    kind: str
    key: str
    field: str
    recorded: str
    replayed: str


@dataclass(slots=True)
class ReplayReport:
    """What was compared and what differed. `simulated_bps`: largest distance of a fill from the simulator's."""

    runs: list[str] = field(default_factory=list)
    inputs: int = 0
    decisions: int = 0
    orders: int = 0
    fills: int = 0
    equity_marks: int = 0
    simulated_fills: int = 0
    simulated_bps: float | None = None
    difference_count: int = 0
    differences: list[Difference] = field(default_factory=list)

    def differs(self, kind: str, key: str, name: str, ours: object, theirs: object) -> None:
        """Count it, and keep the first ones."""
        self.difference_count += 1
        if len(self.differences) < _KEPT_DIFFERENCES:
            self.differences.append(Difference(kind, key, name, str(ours), str(theirs)))


@dataclass(slots=True)
class Outcome:
    """What replayed cores said, by what identifies it."""

    decisions: dict[tuple[Coin, int], Decision] = field(default_factory=dict)
    orders: dict[str, OrderRecorded] = field(default_factory=dict)
    fills: dict[str, FillRecorded] = field(default_factory=dict)
    equity: dict[int, EquityMarked] = field(default_factory=dict)
    bars: dict[tuple[Coin, int], Bar] = field(default_factory=dict)
    slippage: dict[str, Decimal | None] = field(default_factory=dict)
    """Of the market that gave each fill, by its id."""

    def take(self, effects: Sequence[Effect], slippage: Decimal | None) -> None:
        for effect in effects:
            match effect:
                case Decision():
                    self.decisions.setdefault((effect.coin, effect.bar_ms), effect)
                case OrderRecorded():
                    self.orders.setdefault(effect.order.cloid, effect)
                case FillRecorded():
                    self.fills.setdefault(effect.fill.fill_id, effect)
                    self.slippage.setdefault(effect.fill.fill_id, slippage)
                case EquityMarked():
                    self.equity[effect.time_ms] = effect
                case _:
                    pass


def replay(reader: StateReader, from_ms: int, to_ms: int, make_policy: PolicyMaker) -> ReplayReport:
    """Replay every run that has inputs in [from_ms, to_ms) and compare what it journalled there.

    Args:
        make_policy: builds a policy from its note.

    Raises:
        StateError: nothing is recorded in the span, or it does not read.
    """
    report = ReplayReport()
    outcome = Outcome()
    heads = recorded.heads(reader)
    for run_id in dict.fromkeys(row.run_id for row in heads if row.to_ms >= from_ms and row.from_ms < to_ms):
        report.runs.append(run_id)
        of_run = [row for row in heads if row.run_id == run_id]
        begins = [number for number, row in enumerate(of_run) if row.begins]
        if not begins:
            raise StateError(f"{reader.path}: the inputs of run {run_id} do not begin with a core; they are not whole")
        first = max((number for number in begins if of_run[number].to_ms < from_ms), default=begins[0])
        last = max(number for number, row in enumerate(of_run) if row.from_ms < to_ms)
        entries = _entries(reader, of_run[first : last + 1])
        play(entries, make_policy, outcome, report)
    if not report.runs:
        raise StateError(
            f"{reader.path}: no inputs are recorded from {iso_utc(max(from_ms, 0))} on; allowed: a span of a run"
        )
    _compare_decisions(reader.decisions(from_ms, to_ms), outcome, report, from_ms, to_ms)
    _compare_orders(reader.orders(), outcome, report, from_ms, to_ms)
    _compare_fills(reader.fills(from_ms, to_ms), outcome, report)
    _compare_equity(reader.equity_curve(from_ms, to_ms), outcome, report)
    _compare_with_simulator(reader.fills(from_ms, to_ms), outcome, report)
    return report


def _entries(reader: StateReader, rows: Sequence[recorded.InputRow]) -> Iterator[CoreInput]:
    for row in recorded.rows(reader, rows):
        for _, one in unpack(row.data):
            yield one


def play(
    entries: Iterable[CoreInput], make_policy: PolicyMaker, outcome: Outcome, report: ReplayReport
) -> TradingCore | None:
    """One run: from the core it began with to its last input; the core as it stands then."""
    core: TradingCore | None = None
    slippage: Decimal | None = None
    for one in entries:
        if isinstance(one, CoreBegan):
            slippage = one.slippage
            if core is None or one.is_start:
                core = _begun(one, make_policy)
            elif one.state is not None and core.export_state() != one.state:
                report.differs("state", iso_utc(core.state.now_ms), "core", "as journalled", "another")
            continue
        if core is None:
            continue  # before the core that this replay begins with
        report.inputs += 1
        match one:
            case WarmBar(bar):
                core.warm_up(bar)
                outcome.bars[bar.coin, bar.open_ms] = bar
            case Ready(now_ms):
                outcome.take(core.begin(now_ms), slippage)
            case RulesChanged(rules):
                core.rules = rules
            case Deposited(amount):
                core.ledger.deposit(amount, core.state.now_ms, "replay")
            case PolicyChanged(note):
                policy = make_policy(note)
                policy.restore(note.memory)
                core.adopt_policy(_only(core, note.coin, policy))
                policy.restore(note.memory)
            case _:
                if isinstance(one, BarsClosed):
                    outcome.bars.update({(bar.coin, bar.open_ms): bar for bar in one.bars})
                outcome.take(core.process(one), slippage)
    return core


def _only(core: TradingCore, coin: Coin, policy: Policy) -> Callable[[Coin], Policy]:
    """The policies as they are but for one coin."""
    return lambda other: policy if other == coin else core.policy(other)


def _begun(began: CoreBegan, make_policy: PolicyMaker) -> TradingCore:
    notes = {note.coin: note for note in began.policies}
    core = TradingCore(
        {one.coin: one for one in began.instruments},
        began.rules,
        lambda coin: make_policy(notes[coin]),
        salt=began.salt,
        state=began.state,
    )
    for coin, note in notes.items():
        core.policy(coin).restore(note.memory)
    for _, event in unpack(began.standing) if began.standing else ():
        if isinstance(event, CoreBegan | WarmBar | Ready | RulesChanged | PolicyChanged | Deposited):
            raise InvariantBroken(f"recorded inputs: {type(event).__name__} is no standing event")
        core.process(event)
    return core


# --- comparing --------------------------------------------------------------------------------------------------


def _compare_decisions(
    known: Sequence[Decision], outcome: Outcome, report: ReplayReport, from_ms: int, to_ms: int
) -> None:
    left = {key: one for key, one in outcome.decisions.items() if from_ms <= key[1] < to_ms}
    for ours in known:
        report.decisions += 1
        key = f"{ours.coin} {iso_utc(ours.bar_ms)}"
        theirs = left.pop((ours.coin, ours.bar_ms), None)
        if theirs is None:
            report.differs("decision", key, "decision", ours.action.name, "none")
            continue
        for name in ("action", "q", "regime", "confidence", "outcome", "gates", "time_ms"):
            if getattr(ours, name) != getattr(theirs, name):
                report.differs("decision", key, name, getattr(ours, name), getattr(theirs, name))
    for (coin, bar_ms), theirs in left.items():
        report.differs("decision", f"{coin} {iso_utc(bar_ms)}", "decision", "none", theirs.action.name)


def _compare_orders(
    known: Sequence[OrderRecorded], outcome: Outcome, report: ReplayReport, from_ms: int, to_ms: int
) -> None:
    left = {cloid: one for cloid, one in outcome.orders.items() if from_ms <= one.order.created_ms < to_ms}
    for ours in known:
        if not from_ms <= ours.order.created_ms < to_ms:
            continue
        report.orders += 1
        theirs = left.pop(ours.order.cloid, None)
        if theirs is None:
            report.differs("order", ours.order.cloid, "order", f"{ours.order.kind} {ours.order.size}", "none")
            continue
        for name in ("coin", "side", "kind", "size", "reduce_only", "created_ms"):
            if getattr(ours.order, name) != getattr(theirs.order, name):
                report.differs("order", ours.order.cloid, name, getattr(ours.order, name), getattr(theirs.order, name))
    for cloid, theirs in left.items():
        if theirs.status is OrderStatus.CREATED:
            report.differs("order", cloid, "order", "none", f"{theirs.order.kind} {theirs.order.size}")


def _compare_fills(known: Sequence[FillRecorded], outcome: Outcome, report: ReplayReport) -> None:
    for ours in known:
        report.fills += 1
        theirs = outcome.fills.get(ours.fill.fill_id)
        if theirs is None:
            report.differs("fill", ours.fill.fill_id, "fill", ours.fill.size, "none")
            continue
        for name in ("kind", "reason", "realised", "position_after"):
            if getattr(ours, name) != getattr(theirs, name):
                report.differs("fill", ours.fill.fill_id, name, getattr(ours, name), getattr(theirs, name))


def _compare_equity(known: Sequence[EquityPoint], outcome: Outcome, report: ReplayReport) -> None:
    for ours in known:
        report.equity_marks += 1
        theirs = outcome.equity.get(ours.time_ms)
        if theirs is None:
            report.differs("equity", iso_utc(ours.time_ms), "equity", ours.equity, "none")
        elif (ours.equity, ours.balance) != (theirs.equity, theirs.balance):
            report.differs("equity", iso_utc(ours.time_ms), "equity", ours.equity, theirs.equity)


def _compare_with_simulator(known: Sequence[FillRecorded], outcome: Outcome, report: ReplayReport) -> None:
    """Each fill against the price at which a replayed bar gives it (SPEC section 6): exactly where the market was the
    embedded venue's, else only measured."""
    placed = {cloid: one.order for cloid, one in outcome.orders.items()}
    for ours in known:
        fill = ours.fill
        level = _level(ours, outcome.bars, placed.get(fill.cloid or Cloid("")))
        if level is None:
            continue
        slippage = outcome.slippage.get(fill.fill_id)
        slip = ZERO if ours.kind is OrderKind.TAKE_PROFIT or not fill.is_taker else slippage or ZERO
        expected = level * (1 + slip * fill.side.sign)
        report.simulated_fills += 1
        bps = float(abs(fill.price / expected - 1)) * 1e4
        report.simulated_bps = max(bps, report.simulated_bps or 0.0)
        if slippage is not None and bps > 1e-5:
            report.differs("simulator", fill.fill_id, "price", fill.price, expected)


def _level(known: FillRecorded, bars: Mapping[tuple[Coin, int], Bar], order: Order | None) -> Decimal | None:
    """The price before slippage; None where no bar says it.

    What fills at an open has the bar's opening time, an exit inside a bar or at its close the bar's end.
    """
    fill = known.fill
    span = next((bar.interval_ms for bar in bars.values()), 0)
    if known.kind is None or not span:
        return None
    here = bars.get((fill.coin, fill.time_ms // span * span))
    before = bars.get((fill.coin, fill.time_ms - span))
    if known.kind is OrderKind.ENTRY and not fill.is_taker:
        return None if order is None else order.price
    if known.reason == ExitReason.END:
        return None if before is None else before.close
    if known.kind not in (OrderKind.TAKE_PROFIT, OrderKind.STOP_LOSS):
        return None if here is None else here.open
    trigger = None if order is None else order.trigger_price
    if order is None or trigger is None or known.kind is OrderKind.TAKE_PROFIT:
        return trigger
    sells = fill.side is Side.SELL
    lay_in_it = before is not None and order.created_ms < fill.time_ms and before.low <= trigger <= before.high
    if lay_in_it or here is None or fill.time_ms != here.open_ms:
        return trigger  # touched inside the bar that ends here
    return min(trigger, here.open) if sells else max(trigger, here.open)
