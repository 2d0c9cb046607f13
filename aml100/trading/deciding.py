"""One decision a coin and bar: what the policy wants, every gate's verdict on it, and the orders if all agree."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from aml100.domain.events import BarsClosed, Decision, Effect, Gate, PlaceOrders, SeriesEnd, TradingState
from aml100.domain.market import Bar
from aml100.domain.orders import Action, ExitReason, Position, Side
from aml100.domain.units import Coin
from aml100.market.position import HOLDS_COUNTED, POSITION_SIZE, position_features
from aml100.trading.observer import Observer
from aml100.trading.policies import PolicyAnswer
from aml100.trading.risk import passed
from aml100.trading.sizing import entry_size, q_gap
from aml100.trading.state import CoinState

if TYPE_CHECKING:
    from aml100.trading.core import TradingCore

_STATE_GATES: Final = {
    TradingState.HALTED: "halt",
    TradingState.PAUSED: "pause",
    TradingState.MANAGE_ONLY: "manage_only",
    TradingState.STARTING: "starting",
    TradingState.STOPPED: "halt",
}
_HOLD: Final = Action.HOLD  # at hand here: an enum's member is looked up through its metaclass every time
NOT_TRADED: Final = "not a coin of this run: what an earlier one left is managed, nothing is opened"
_HOLD_GATES: Final = (Gate("policy", False, "HOLD: keep what is"),)
_LATE_GATES: Final = (Gate("late", False, "the bar was learnt too long after its end"),)
_LONG_GATES: Final = (Gate("policy", False, "already long"),)
_SHORT_GATES: Final = (Gate("policy", False, "already short"),)

Verdict: TypeAlias = tuple[tuple[Gate, ...], Sequence[Effect]]
"""The gates in the order in which they were asked, and what is to be done."""


class Deciding:
    """The part of the core that turns a policy's answer into a decision."""

    def __init__(self, core: TradingCore) -> None:
        self._core = core
        self._row = np.zeros(POSITION_SIZE)
        self._flat: tuple[float, float, float] | None = None  # what the row holds, where it is of a flat position

    def decide(
        self, bar: Bar, observer: Observer, forced: str, ending: SeriesEnd | None, equity: Decimal, event: BarsClosed
    ) -> list[Effect]:
        """The decision of this bar and what follows from it.

        Args:
            forced: why the position is being closed whatever the policy says, "" where it is not.
            ending: why no bar follows, where that is known.
            equity: of the account at this close.
        """
        known, position = observer.known, self._core.ledger.position(bar.coin)
        answer = observer.policy.decide(self._position_row(position, known), bar.open_ms)
        known.holds_in_row = known.holds_in_row + 1 if answer.action is _HOLD else 0
        gates: tuple[Gate, ...] = _LATE_GATES
        todo: Sequence[Effect] = ()
        if not event.is_late:
            gates, todo = self._judge(bar, known, position, answer, forced, ending, equity, event.end_ms)
        decision = Decision(
            bar.coin,
            bar.open_ms,
            event.end_ms,
            answer.action,
            answer.q,
            known.regime,
            answer.confidence,
            "order" if todo and any(isinstance(one, PlaceOrders) for one in todo) else "none",
            gates,
        )
        return [decision, *todo]

    def _judge(
        self,
        bar: Bar,
        known: CoinState,
        position: Position,
        answer: PolicyAnswer,
        forced: str,
        ending: SeriesEnd | None,
        equity: Decimal,
        now_ms: int,
    ) -> Verdict:
        """What the policy wants, up to where an entry has to be judged."""
        core = self._core
        state_gate = _STATE_GATES.get(core.state.trading)
        standing = () if state_gate is None else (Gate(state_gate, False, core.state.reason),)
        if forced:
            return (*standing, Gate(f"{forced}_exit", False, f"position is being closed: {forced}")), ()
        if answer.action is _HOLD:
            return standing + (_HOLD_GATES if not answer.note else (Gate("model", False, answer.note),)), ()
        side = Side.BUY if answer.action is Action.BUY else Side.SELL
        if position.side is side and not known.is_dust:
            return standing + (_LONG_GATES if side is Side.BUY else _SHORT_GATES), ()
        if any(t.is_in_flight for t in core.blotter.live(bar.coin) if not t.order.is_trigger):
            return (*standing, Gate("in_flight", False, "an order's outcome is not known yet")), ()
        if position.size == 0 and core.blotter.awaits_fills(bar.coin, now_ms):
            return (*standing, Gate("in_flight", False, "an entry was filled and its fills have not come yet")), ()
        orders: list[Effect] = []
        resting = None if core.rules.entry_style == "taker" else core.entries.resting(bar.coin)
        if resting is not None and resting.order.side is side:
            words = f"a {side} entry has been resting for {known.entry_bars} bars"
            return (*standing, Gate("entry_resting", False, words)), ()
        if resting is not None:
            orders += core.entries.cancel(bar.coin)
            if position.size == 0:
                return (*standing, Gate("entry_resting", False, "opposite signal: the resting entry goes")), orders
        if position.size != 0 and not known.is_dust:
            known.closing = ExitReason.SIGNAL
            orders += core.exits.leave(bar.coin, ExitReason.SIGNAL, now_ms)
            if not core.rules.reverse_on_opposite:
                return (passed("policy"),), orders
        entry_gates, size = self._entry_gates(bar, answer, ending, equity, now_ms)
        gates = (passed("policy"), *standing, *entry_gates)
        if all(gate.ok for gate in gates):
            orders += core.entries.open(bar.coin, side, size, bar.close)
        return gates, orders

    def _entry_gates(
        self, bar: Bar, answer: PolicyAnswer, ending: SeriesEnd | None, equity: Decimal, now_ms: int
    ) -> tuple[list[Gate], Decimal]:
        core = self._core
        rules, instrument = core.rules, core.instruments[bar.coin]
        gates: list[Gate] = []
        if core.is_leaving:
            gates.append(Gate("leaving", False, "the engine ends"))
        if ending is not None:
            gates.append(Gate("series", False, f"no bar follows: {ending}"))
        if bar.coin in rules.closing_only:
            gates.append(Gate("coin", False, NOT_TRADED))
        if answer.q is not None:
            gap = q_gap(answer.q)
            enough = gap > rules.min_q_gap
            gates.append(passed("q_gap") if enough else Gate("q_gap", False, f"Q gap {gap:.4f} <= {rules.min_q_gap:g}"))
        others = core.ledger.notional()
        if rules.reverse_on_opposite:
            others -= abs(core.ledger.position(bar.coin).size) * bar.close
        basis, fallen = equity * core.state.size_factor, core.risk.state.drawdown
        sized = entry_size(instrument, rules, basis, bar.close, answer.q, others, fallen)
        gates.append(Gate("size", False, sized.refusal) if sized.refusal else passed("size"))
        seen = core.surroundings.conditions(bar.coin, now_ms)
        stop = rules.stop_distance(core.coin(bar.coin).atr)
        gates += core.risk.entry_gates(stop, instrument, equity, sized.size, bar.close, others, seen)
        return gates, sized.size

    def entry_gates_now(self, coin: Coin, size: Decimal) -> list[Gate]:
        """The guards' verdicts on an entry of `size` between two decisions."""
        core = self._core
        known, equity, now_ms = core.coin(coin), core.ledger.equity(), core.state.now_ms
        others = core.ledger.notional()
        if known.closing:
            others -= abs(core.ledger.position(coin).size) * known.close
        seen = core.surroundings.conditions(coin, now_ms)
        stop = core.rules.stop_distance(known.atr)
        return core.risk.entry_gates(stop, core.instruments[coin], equity, size, known.close, others, seen)

    def _position_row(self, position: Position, known: CoinState) -> npt.NDArray[np.float64]:
        """What the policy sees of the position; the array is the same every time."""
        core, row, size = self._core, self._row, position.size
        drawdown, wins = core.risk.state.drawdown, float(core.state.wins_in_row)
        holds = min(float(known.holds_in_row), HOLDS_COUNTED)
        if not size:  # what needs an entry is not looked at, so that one flat bar is often as the one before
            flat = (drawdown, wins, holds)
            if flat != self._flat:
                position_features(0.0, 1.0, 1.0, 0.0, 0.0, 0.0, drawdown, wins, holds, row)
                self._flat = flat
            return row
        self._flat = None
        position_features(
            1.0 if size > 0 else -1.0,
            float(position.entry),
            float(known.close),
            float(known.bars_held),
            0.0 if known.target_price is None else float(known.target_price),
            0.0 if known.stop_price is None else float(known.stop_price),
            drawdown,
            wins,
            holds,
            row,
        )
        return row
