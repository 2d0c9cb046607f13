"""Cycles and phases while the engine runs: each finished window is judged, counted, journalled and shown.

Windows follow one another from the first 00:00 UTC on (from the first multiple of a shorter window) and never overlap.
After a restart the finished ones are judged again from the journal, which gives the same counts: nothing but equity
and trades has to be remembered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from aml100.config.models import Objectives
from aml100.control.protocol import ObjectiveView, PhaseView
from aml100.domain.events import EquityMarked, Record, TradeClosed
from aml100.domain.units import DAY_MS
from aml100.engine.listener import Listeners
from aml100.evaluation.metrics import SHARPE_MIN_RETURNS, returns_of, sampled_equity, sharpe_of
from aml100.evaluation.objectives import (
    CycleResult,
    ObjectiveResult,
    PhaseTracker,
    Verdict,
    phase_rules,
)
from aml100.evaluation.windows import PhaseRecord, Window, window_of
from aml100.storage.database import Database
from aml100.storage.entries import Cycle, PhaseStep

EARLIEST_RETURN = 0.5
"""Share of a window that must have passed before its return is compounded to a month."""

_IN_PERCENT = frozenset({"monthly_return", "win_rate", "max_drawdown", "trade_density"})


class CycleKeeper:
    """Listens to equity and trades; `on_time` closes windows."""

    def __init__(
        self, objectives: Objectives, database: Database, listeners: Listeners, interval_ms: int, network: str
    ) -> None:
        self._objectives = objectives
        self._database = database
        self._listeners = listeners
        self._interval_ms = interval_ms
        self._network = network
        self._span_ms = max(round(objectives.cycle_days * DAY_MS), interval_ms)
        self._tracker = PhaseTracker(
            phase_rules(objectives),
            objectives.gates_mode,
            provisional_advances=objectives.provisional_advances and network != "mainnet",
            step_back_after=objectives.step_back_after_failures,
        )
        self._times: list[int] = []
        self._equity: list[float] = []
        self._exits: list[int] = []
        self._profits: list[float] = []
        self._initial = 0.0
        self._start_ms: int | None = None
        self._last: CycleResult | None = None
        self.completed = 0
        """Cycles finished in this run."""

    # --- what happens ---------------------------------------------------------------------------------------

    def restore(self, initial_equity: float) -> None:
        """Judge again what earlier runs on this journal finished."""
        self._initial = initial_equity
        for point in self._database.equity_curve():
            self._add(point.time_ms, float(point.equity))
        for trade in self._database.trades():
            self._exits.append(trade.exit_ms)
            self._profits.append(float(trade.pnl))
        while self._times and self._finish(self._times[-1]) is not None:
            pass

    def on_record(self, record: Record) -> None:
        match record:
            case EquityMarked():
                self._add(record.time_ms, float(record.equity))
            case TradeClosed():
                self._exits.append(record.exit_ms)
                self._profits.append(float(record.pnl))
            case _:
                pass

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        """Nothing here depends on the engine's own events."""

    def on_time(self, end_ms: int) -> CycleResult | None:
        """Bars up to `end_ms` are closed: judge the window that ends there, if one does."""
        result = self._finish(end_ms)
        if result is None:
            return None
        self.completed += 1
        metrics = {o.name: _shown(o.name, o.value) for o in result.objectives}
        counted = result.verdict is Verdict.PASS or (
            result.verdict is Verdict.PROVISIONAL and self._tracker.provisional_advances
        )
        self._database.record_cycle(
            Cycle(
                number=result.number,
                phase=result.phase,
                from_ms=result.start_ms,
                to_ms=result.end_ms,
                source="realised",
                verdict=result.verdict.value,
                counted=counted,
                metrics=json.dumps(metrics),
                network=self._network,
            )
        )
        self._listeners.on_event(
            "cycle",
            {"number": result.number, "source": "realised", "verdict": result.verdict.value, "metrics": metrics},
        )
        if result.phase_after != result.phase:
            step = PhaseStep(
                end_ms,
                result.phase,
                result.phase_after,
                result.reason,
                self._tracker.state.is_provisional,
                self._network,
            )
            self._database.record_phase(step)
            self._listeners.on_event("phase", {"from": result.phase, "to": result.phase_after, "reason": result.reason})
        return result

    def _add(self, time_ms: int, equity: float) -> None:
        open_ms = time_ms - self._interval_ms
        if self._start_ms is None:
            grid = min(self._span_ms, DAY_MS)
            day = open_ms // DAY_MS * DAY_MS
            self._start_ms = day + -(-(open_ms - day) // grid) * grid
        if self._times and self._times[-1] == open_ms:
            self._equity[-1] = equity
        else:
            self._times.append(open_ms)
            self._equity.append(equity)

    def _finish(self, now_ms: int) -> CycleResult | None:
        if self._start_ms is None or now_ms < self._start_ms + self._span_ms:
            return None
        window = self._window(self._start_ms + self._span_ms)
        self._start_ms += self._span_ms
        self._last = self._tracker.apply(window)
        return self._last

    def _window(self, end_ms: int) -> Window:
        assert self._start_ms is not None
        record = PhaseRecord(
            open_ms=np.array(self._times, dtype=np.int64),
            equity=np.array(self._equity),
            interval_ms=self._interval_ms,
            initial_equity=self._initial or self._equity[0],
            exit_ms=np.array(self._exits, dtype=np.int64),
            profits=np.array(self._profits),
        )
        return window_of(record, self._start_ms, end_ms)

    # --- what is shown --------------------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        """Name of the present phase."""
        return self._tracker.rules.name

    def sharpe(self) -> tuple[float | None, str]:
        """Of all daily returns so far; under 30 of them only a note of how many there are (GUARANTEES E3)."""
        if len(self._times) < 2:
            return None, f"n/a (0 of {SHARPE_MIN_RETURNS})"
        times, equity = np.array(self._times, dtype=np.int64), np.array(self._equity)
        _, levels = sampled_equity(times, equity, self._interval_ms, self._initial or self._equity[0], DAY_MS)
        returns = returns_of(levels)
        if len(returns) < SHARPE_MIN_RETURNS:
            return None, f"n/a ({len(returns)} of {SHARPE_MIN_RETURNS})"
        return sharpe_of(returns), ""

    def view(self, now_ms: int) -> PhaseView:
        """The phase, and the running window as it would be judged now."""
        state, rules = self._tracker.state, self._tracker.rules
        objectives: tuple[ObjectiveView, ...] = ()
        progress = 0.0
        if self._start_ms is not None and len(self._times) > 1 and now_ms > self._start_ms:
            progress = min((now_ms - self._start_ms) / self._span_ms, 1.0)
            window = self._window(now_ms)
            if len(window.equity):
                objectives = tuple(_view(o, progress) for o in self._tracker.preview(window).objectives)
        return PhaseView(
            name=rules.name,
            number=state.index + 1,
            cycles_done=state.cycles_done,
            cycles_required=rules.cycles,
            objectives=objectives,
            provisional=state.is_provisional,
            cycle_number=state.number + 1,
            cycle_progress=progress,
            cycle_days=self._objectives.cycle_days,
            last_verdict="" if self._last is None else self._last.verdict.value,
        )


def _shown(name: str, value: float | None) -> float | None:
    """Percent where people read percent."""
    return value * 100 if value is not None and name in _IN_PERCENT else value


def _view(result: ObjectiveResult, progress: float) -> ObjectiveView:
    """As the screen shows it; a return compounded to a month from the first minutes of a window says nothing yet."""
    if result.name == "monthly_return" and progress < EARLIEST_RETURN:
        return ObjectiveView(
            "monthly_return_pct", None, result.threshold * 100, None, Verdict.UNKNOWN.value, "too early"
        )
    name = f"{result.name}_pct" if result.name in _IN_PERCENT else result.name
    threshold = _shown(result.name, result.threshold)
    assert threshold is not None
    return ObjectiveView(
        name, _shown(result.name, result.value), threshold, result.met, result.state.value, result.note
    )
