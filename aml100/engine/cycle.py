"""Cycles and phases while the engine runs: each finished window is judged, counted, journalled and shown.

Windows follow one another from the first 00:00 UTC on (from the first multiple of a shorter window) and never overlap.
A window with enough realised trades is judged by them. One without is judged by an out-of-sample back-test of the
champion, labelled so, where that can be had: PROVISIONAL at best, and never evidence. Where the accounting stands is
journalled with each cycle, in one transaction with the step of the phase; a restart goes on from the latest.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import Final, TypeAlias

from aml100.config.models import Objectives
from aml100.control.protocol import EvidenceView, ObjectiveView, PhaseView
from aml100.domain.errors import AmlError
from aml100.domain.events import EquityMarked, LedgerPosted, Record, TradeClosed
from aml100.engine.bounds import phase_bounds
from aml100.engine.listener import Listeners
from aml100.evaluation.curve import LedgerCurve, LedgerWindow, SharpeSeen, first_window_ms
from aml100.evaluation.feasibility import feasibility_of
from aml100.evaluation.metrics import SHARPE_MIN_RETURNS, max_drawdown_of
from aml100.evaluation.objectives import (
    CycleResult,
    ObjectiveResult,
    PhaseRules,
    PhaseState,
    PhaseTracker,
    Trials,
    Verdict,
    phase_rules,
)
from aml100.evaluation.standing import cycle_ms
from aml100.evaluation.windows import Window
from aml100.storage.database import Database
from aml100.storage.entries import Cycle, Entry, PhaseStep
from aml100.storage.reader import StateReader

log = logging.getLogger(__name__)

EARLIEST_RETURN: Final = 0.5
"""Share of a window that must have passed before its return is compounded to a month."""
REALISED_TRADES: Final = 20
"""With fewer trades in a window its realised figures say little; then the champion is back-tested, where it can be."""

_IN_PERCENT: Final = frozenset({"monthly_return", "win_rate", "max_drawdown", "trade_density"})

OutOfSample: TypeAlias = Callable[[int, int], Awaitable[Window | None]]
"""The champion back-tested over [from_ms, to_ms), on bars it was not trained on; None where that cannot be had."""


class CycleKeeper:
    """Listens to equity and trades; `on_time` closes windows.

    Attributes: `completed` cycles of this run; `out_of_sample`, `in_sample_until_ms` and `trials` are given by whoever
    knows them.
    """

    def __init__(
        self, objectives: Objectives, database: Database, listeners: Listeners, interval_ms: int, network: str
    ) -> None:
        self._objectives = objectives
        self._database = database
        self._listeners = listeners
        self._network = network
        self._span_ms = cycle_ms(objectives, interval_ms)
        self._tracker = PhaseTracker(
            phase_rules(objectives),
            objectives.gates_mode,
            provisional_advances=objectives.provisional_advances and network != "mainnet",
            step_back_after=objectives.step_back_after_failures,
        )
        self._curve = LedgerCurve(interval_ms)
        self._start_ms: int | None = None
        self._last_source = self._last_verdict = ""
        self._earned_elsewhere = -1
        self._computing: asyncio.Task[Window | None] | None = None
        self._bounds: dict[str, float] = {}
        self._feasible: dict[str, str] = {}
        self._measuring: asyncio.Task[None] | None = None
        self.out_of_sample: OutOfSample | None = None
        self.in_sample_until_ms: Callable[[], int] = int
        self.trials: Callable[[], Trials] = Trials
        self.model: Callable[[], str] = str
        self.completed = 0

    # --- what happens ---------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Take up the ledger and the accounting where the journal ends."""
        moved = deque(self._database.money_moved())
        for point in self._database.equity_curve():
            while moved and moved[0][0] <= point.time_ms:
                self._curve.add_flow(float(moved.popleft()[1]))
            self._curve.add_equity(point.time_ms, float(point.equity))
        for _, amount in moved:
            self._curve.add_flow(float(amount))
        for trade in self._database.trades():
            self._curve.add_trade(trade.exit_ms, float(trade.pnl))
        self._earned_elsewhere = earned_index(self._database, self._objectives)
        cycles = self._database.cycles()
        if not cycles or not cycles[-1].state:
            return
        last = cycles[-1]
        self._tracker.state = read_state(last.state, len(self._tracker.phases))
        if not judged_honestly(last):
            self._tracker.state = replace(self._tracker.state, earned=0, relied_on_provisional=True)
        self._start_ms = last.to_ms
        self._last_source = _source_words(last.source, is_in_sample(last))
        self._last_verdict = last.verdict

    def on_record(self, record: Record) -> None:
        match record:
            case EquityMarked():
                self._curve.add_equity(record.time_ms, float(record.equity))
            case TradeClosed():
                self._curve.add_trade(record.exit_ms, float(record.pnl))
            case LedgerPosted(kind="deposit"):
                self._curve.add_flow(float(record.amount))
            case _:
                pass

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        """Nothing here depends on the engine's own events."""

    def on_time(self, end_ms: int) -> CycleResult | None:
        """Bars up to `end_ms` are closed: judge the windows that have ended; answers the last one judged."""
        judged: CycleResult | None = None
        while True:
            if self._start_ms is None:
                self._start_ms = self._first_window()
            if self._start_ms is None or end_ms < self._start_ms + self._span_ms or self._computing is not None:
                return judged
            to_ms = self._start_ms + self._span_ms
            window = self._curve.window(self._start_ms, to_ms)
            if self._needs_back_test(window):
                assert self.out_of_sample is not None
                self._computing = asyncio.ensure_future(self.out_of_sample(self._start_ms, to_ms))
                return judged
            judged = self._judge(window, "realised")

    def poll(self) -> CycleResult | None:
        """Take in a back-test that has finished; one that failed leaves the realised figures to judge by."""
        self._measure_feasibility()
        if self._computing is None or not self._computing.done() or self._start_ms is None:
            return None
        computing, self._computing = self._computing, None
        try:
            window = computing.result()
        except (AmlError, OSError, asyncio.CancelledError) as error:
            log.warning("no out-of-sample back-test of this cycle: %s", error)
            window = None
        if window is None:
            return self._judge(self._curve.window(self._start_ms, self._start_ms + self._span_ms), "realised")
        return self._judge(window, "backtest")

    def _measure_feasibility(self) -> None:
        """What the targets of the phase imply; drawn in a thread, since it takes a second."""
        rules = self._tracker.rules
        if rules.name in self._feasible or self._measuring is not None:
            return
        self._feasible[rules.name] = ""

        async def measure() -> None:
            try:
                self._feasible[rules.name] = (await asyncio.to_thread(feasibility_of, rules)).words
            except ValueError as error:
                self._feasible[rules.name] = str(error)
            self._measuring = None

        self._measuring = asyncio.create_task(measure(), name="feasibility")

    async def close(self) -> None:
        """A back-test under way is given up; the next run judges that window."""
        if self._computing is not None:
            self._computing.cancel()
            await asyncio.gather(self._computing, return_exceptions=True)
            self._computing = None

    def _first_window(self) -> int | None:
        first = self._curve.first_open_ms
        return None if first is None else first_window_ms(first, self._span_ms)

    def _needs_back_test(self, window: Window) -> bool:
        """A window too short for a Sharpe ratio fails either way."""
        long_enough = window.days >= SHARPE_MIN_RETURNS
        return self.out_of_sample is not None and long_enough and len(window.profits) < REALISED_TRADES

    def _judge(self, window: Window, source: str) -> CycleResult:
        """What was earned on bars that the model was made from is as little evidence as what was computed."""
        in_sample = source == "realised" and self.in_sample_until_ms() > window.start_ms
        result = self._tracker.apply(window, self.trials(), is_realised=source == "realised" and not in_sample)
        self._start_ms, self._last_verdict = window.end_ms, result.verdict.value
        self._last_source = _source_words(source, in_sample)
        self.completed += 1
        figures = {_shown_name(o.name): _shown(o.name, o.value) for o in result.objectives}
        facts: list[Entry] = [self._cycle(result, window, source, figures, in_sample)]
        moved = result.phase_after != result.phase
        if moved:
            provisional = self._tracker.state.is_provisional
            facts.append(
                PhaseStep(result.end_ms, result.phase, result.phase_after, result.reason, provisional, self._network)
            )
        self._database.journal(facts)
        self._listeners.on_event(
            "cycle", {"number": result.number, "source": source, "verdict": result.verdict.value, "metrics": figures}
        )
        if moved:
            self._listeners.on_event("phase", {"from": result.phase, "to": result.phase_after, "reason": result.reason})
        return result

    def _cycle(
        self, result: CycleResult, window: Window, source: str, figures: Mapping[str, object], in_sample: bool
    ) -> Cycle:
        """The row of a cycle: what it was judged by, and where the accounting stands after it."""
        record = {
            "figures": figures,
            "in_sample": in_sample,
            "objectives": [asdict(one) for one in result.objectives],
            "evidence": [asdict(one) for one in result.evidence],
            "days_to_go": result.days_to_go,
            "luck": result.luck,
            "seed": result.seed,
            "trades": len(window.profits),
            "opening_equity": window.opening_equity,
            "closing_equity": float(window.equity[-1]) if len(window.equity) else window.opening_equity,
        }
        provisional = result.verdict is Verdict.PROVISIONAL and self._tracker.provisional_advances
        return Cycle(
            number=result.number,
            phase=result.phase,
            from_ms=result.start_ms,
            to_ms=result.end_ms,
            source=source,
            verdict=result.verdict.value,
            counted=result.verdict is Verdict.PASS or provisional,
            metrics=json.dumps(record),
            model=self.model(),
            network=self._network,
            state=write_state(self._tracker.state, self._objectives.gates_mode),
        )

    # --- what is shown --------------------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        """Name of the present phase."""
        return self._tracker.rules.name

    @property
    def rules(self) -> PhaseRules:
        """Of the present phase."""
        return self._tracker.rules

    def sharpe(self) -> SharpeSeen:
        """Of all daily returns so far."""
        return self._curve.sharpe()

    def ledger_window(self, now_ms: int, span_ms: int) -> LedgerWindow:
        """The last `span_ms` of the ledger."""
        return self._curve.ledger_window(now_ms, span_ms)

    def refresh_bounds(self) -> None:
        """Recompute what the figures are worth; resampling, so not for every redraw."""
        if self._start_ms is None or not len(self._curve):
            return
        began = self._start_ms - self._tracker.state.looks * self._span_ms
        seen = self._curve.window(began, self._curve.last_end_ms)
        fallen = max_drawdown_of(seen.equity, seen.opening_equity) if len(seen.equity) else 0.0
        self._bounds = phase_bounds(self._curve.daily_returns(began), self._curve.profits(began), fallen)

    def view(self, now_ms: int) -> PhaseView:
        """The phase, and the running window as it would be judged now."""
        state, rules = self._tracker.state, self._tracker.rules
        seen: CycleResult | None = None
        progress = 0.0
        if self._start_ms is not None and len(self._curve) > 1 and now_ms > self._start_ms:
            progress = min((now_ms - self._start_ms) / self._span_ms, 1.0)
            window = self._curve.window(self._start_ms, min(now_ms, self._curve.last_end_ms))
            if len(window.equity):
                seen = self._tracker.preview(window, self.trials())
        return PhaseView(
            name=rules.name,
            number=state.index + 1,
            cycles_done=state.cycles_done,
            cycles_required=rules.cycles,
            objectives=tuple(self._objective(o, progress) for o in (seen.objectives if seen else _not_begun(rules))),
            provisional=state.is_provisional,
            cycle_number=state.number + 1,
            cycle_progress=progress,
            cycle_days=self._objectives.cycle_days,
            last_verdict=self._last_verdict,
            last_source=self._last_source,
            gates_mode=self._tracker.gates_mode,
            evidence=() if seen is None else tuple(EvidenceView(**asdict(one)) for one in seen.evidence),
            days_to_go=None if seen is None else seen.days_to_go,
            luck=None if seen is None else seen.luck,
            failures_in_row=state.failures_in_row,
            step_back_after=self._tracker.step_back_after,
            obstacle=too_short(self._objectives.cycle_days),
            feasibility=self._feasible.get(rules.name, ""),
            live_phase=self._live_phase(),
            live_min_phase=self._objectives.live_min_phase,
        )

    def _live_phase(self) -> str:
        state, earned = self._tracker.state, self._earned_elsewhere
        if self._network in ("testnet", "mainnet") and self._tracker.gates_mode == "honest" and state.number:
            earned = max(earned, min(state.earned, state.index))
        return self._objectives.phase_names[earned] if earned >= 0 else ""

    def _objective(self, result: ObjectiveResult, progress: float) -> ObjectiveView:
        """As the screen shows it; a return compounded to a month from less than a day says nothing."""
        name = _shown_name(result.name)
        threshold = _shown(result.name, result.threshold)
        assert threshold is not None
        bound = _shown(result.name, self._bounds.get(result.name))
        too_early = progress < EARLIEST_RETURN or progress * self._objectives.cycle_days < 1.0
        if result.name == "monthly_return" and too_early:
            return ObjectiveView(name, None, threshold, None, Verdict.UNKNOWN.value, "too early", bound)
        value = _shown(result.name, result.value)
        return ObjectiveView(name, value, threshold, result.met, result.state.value, result.note, bound)


def too_short(cycle_days: float) -> str:
    """Why cycles of that length can never pass; empty where they can.

    >>> too_short(0.25)
    'no cycle here can pass: it lasts 6 h, and a Sharpe ratio needs 30 whole days; cycle_days 30 or more can'
    """
    if cycle_days >= SHARPE_MIN_RETURNS:
        return ""
    length = f"{cycle_days * 24:g} h" if cycle_days < 2 else f"{cycle_days:g} days"
    return (
        f"no cycle here can pass: it lasts {length}, and a Sharpe ratio needs {SHARPE_MIN_RETURNS} whole days; "
        f"cycle_days {SHARPE_MIN_RETURNS} or more can"
    )


def write_state(state: PhaseState, gates_mode: str) -> str:
    """Where the accounting stands, as JSON for the cycle's row."""
    return json.dumps({"gates_mode": gates_mode, **asdict(state)})


def read_state(text: str, phases: int) -> PhaseState:
    """The accounting of a cycle's row; where the configuration has fewer phases now, the last of them."""
    fields = json.loads(text)
    fields.pop("gates_mode", None)
    fields["returns"] = tuple(fields["returns"])
    fields["index"] = min(fields["index"], phases - 1)
    return PhaseState(**fields)


def is_in_sample(cycle: Cycle) -> bool:
    """What it was judged by was earned, at least in part, on bars that the model was made from."""
    return bool(json.loads(cycle.metrics).get("in_sample"))


def judged_honestly(cycle: Cycle) -> bool:
    """The gates asked for evidence; what mode document passed has earned nothing."""
    return bool(cycle.state) and json.loads(cycle.state).get("gates_mode") == "honest"


def earned_index(database: StateReader, objectives: Objectives) -> int:
    """Index of the phase that honest PASS cycles on testnet or mainnet data earned, on either ledger; -1: none.

    Cycles of the simulated venue unlock nothing, nor do those judged in mode document or moved by PROVISIONAL ones.
    """
    earned = -1
    for cycle in database.latest_cycles():
        if cycle.network in ("testnet", "mainnet") and judged_honestly(cycle):
            state = read_state(cycle.state, len(objectives.phases))
            earned = max(earned, min(state.earned, state.index))
    return earned


def _source_words(source: str, in_sample: bool) -> str:
    return f"{source}, in sample" if in_sample else source


def _not_begun(rules: PhaseRules) -> tuple[ObjectiveResult, ...]:
    """What will be asked, before there is a window to judge."""
    names = ("monthly_return", "sharpe", "profit_factor", "win_rate", "max_drawdown", "trade_density")
    note = "the first window has not begun"
    return tuple(ObjectiveResult(name, None, getattr(rules, name), None, Verdict.UNKNOWN, note) for name in names)


def _shown_name(name: str) -> str:
    return f"{name}_pct" if name in _IN_PERCENT else name


def _shown(name: str, value: float | None) -> float | None:
    """Percent where people read percent, without the dust of the multiplication."""
    return round(value * 100, 10) if value is not None and name in _IN_PERCENT else value
