"""How an account stands: its status, and what sizes make of it with `risk.status_sizing`.

Status, over the last `cycle_days` of the ledger (with fewer than 20 trades only CRITICAL can be told):

    CRITICAL   lost `risk.max_dd_pct` or fell that far from the window's peak     halt, retrain
    POOR       profit factor under 1, or under half of the wins the phase asks    retrain, size -25 %
    GOOD       every plain figure of the phase met, drawdown under half its limit size +10 %
    MODERATE   everything else                                                    as it is

It is judged every `cycle_hours` of market time, by a running engine (engine/watch.py) and, where sizes follow it, by a
back-test (`StatusSizes`), so that both end with the same trades. Halting and retraining are the engine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from aml100.config.models import Objectives
from aml100.domain.events import EquityMarked, TradeClosed
from aml100.domain.units import DAY_MS, HOUR_MS
from aml100.evaluation.curve import LedgerCurve, LedgerWindow, first_window_ms
from aml100.evaluation.metrics import MONTH_DAYS, compounded, max_drawdown_of, profit_factor_of, win_rate_of
from aml100.evaluation.objectives import PhaseRules, PhaseTracker, phase_rules

FEWEST_TRADES: Final = 20


class Status(StrEnum):
    CRITICAL = "CRITICAL"
    POOR = "POOR"
    MODERATE = "MODERATE"
    GOOD = "GOOD"


SIZE_FACTORS: Final = {
    Status.CRITICAL: Decimal("0.75"),
    Status.POOR: Decimal("0.75"),
    Status.MODERATE: Decimal(1),
    Status.GOOD: Decimal("1.1"),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A status with its reason and the figures it rests on; fractions, None where nothing stands under one."""

    status: Status
    reason: str
    figures: dict[str, float | None]


def judge_status(window: LedgerWindow, rules: PhaseRules, max_drawdown: float) -> Standing:
    """Status of the ledger under the present phase's plain figures; `max_drawdown` of 0 switches CRITICAL off."""
    if not len(window.equity):
        return Standing(Status.MODERATE, "no bars yet", {})
    total = float(window.equity[-1]) / window.opening_equity - 1.0
    fallen = max_drawdown_of(window.equity, window.opening_equity)
    factor, wins = profit_factor_of(window.profits), win_rate_of(window.profits)
    trades = len(window.profits)
    figures: dict[str, float | None] = {
        "return": total,
        "max_drawdown": fallen,
        "profit_factor": factor,
        "win_rate": wins,
        "trades": float(trades),
    }
    if max_drawdown and (fallen >= max_drawdown or total <= -max_drawdown):
        worst = max(fallen, -total)
        return Standing(Status.CRITICAL, f"lost {worst:.2%} where {max_drawdown:.2%} is the limit", figures)
    if trades < FEWEST_TRADES:
        return Standing(Status.MODERATE, f"{trades} of {FEWEST_TRADES} trades: too few to judge", figures)
    if factor is not None and factor < 1.0:
        return Standing(Status.POOR, f"profit factor {factor:.2f} over {trades} trades", figures)
    if wins is not None and wins < rules.win_rate / 2.0:
        return Standing(Status.POOR, f"win rate {wins:.1%} over {trades} trades", figures)
    monthly = compounded(total, window.days, MONTH_DAYS)
    met = (
        monthly is not None
        and monthly >= rules.monthly_return
        and (factor is None or factor >= rules.profit_factor)
        and (wins is None or wins >= rules.win_rate)
        and fallen <= rules.max_drawdown / 2.0
    )
    if met and window.days < 1.0:
        return Standing(Status.MODERATE, "less than a day: too early for a return of a month", figures)
    if met:
        words = f"return, profit factor, win rate and drawdown are those of {rules.name}"
        return Standing(Status.GOOD, words, figures)
    return Standing(Status.MODERATE, "not every figure of the phase is met", figures)


def check_every_ms(objectives: Objectives, interval_ms: int) -> int:
    """Market time between two judgements."""
    return max(round(objectives.cycle_hours * HOUR_MS), interval_ms)


def cycle_ms(objectives: Objectives, interval_ms: int) -> int:
    """Length of a cycle's window."""
    return max(round(objectives.cycle_days * DAY_MS), interval_ms)


class StatusSizes:
    """The size factor of a back-test, as an engine on a fresh state file would set it.

    It lives through the phases from the first on. An engine judges a window that holds too few trades by a back-test of
    its model; here such a window is judged as it is.
    """

    def __init__(
        self, objectives: Objectives, *, max_drawdown: float, interval_ms: int, initial_equity: Decimal
    ) -> None:
        self._max_drawdown = max_drawdown
        self._every_ms = check_every_ms(objectives, interval_ms)
        self._span_ms = cycle_ms(objectives, interval_ms)
        self._judged_ms = round(objectives.cycle_days * DAY_MS)
        self._curve = LedgerCurve(interval_ms, float(initial_equity))
        self._phases = PhaseTracker(
            phase_rules(objectives),
            objectives.gates_mode,
            provisional_advances=objectives.provisional_advances,
            step_back_after=objectives.step_back_after_failures,
        )
        self._start_ms: int | None = None
        self._last_ms = 0
        self.factor = Decimal(1)

    def take(self, record: EquityMarked | TradeClosed) -> None:
        """A mark of the account, or a round trip that ended."""
        if isinstance(record, EquityMarked):
            self._curve.add_equity(record.time_ms, float(record.equity))
        else:
            self._curve.add_trade(record.exit_ms, float(record.pnl))

    def has_changed(self, end_ms: int) -> bool:
        """Bars up to `end_ms` are closed: judge what is due; whether `factor` is another one now."""
        self._close_windows(end_ms)
        if end_ms // self._every_ms <= self._last_ms // self._every_ms:
            return False
        self._last_ms, before = end_ms, self.factor
        window = self._curve.ledger_window(end_ms, self._judged_ms)
        self.factor = SIZE_FACTORS[judge_status(window, self._phases.rules, self._max_drawdown).status]
        return self.factor != before

    def _close_windows(self, end_ms: int) -> None:
        if self._start_ms is None and self._curve.first_open_ms is not None:
            self._start_ms = first_window_ms(self._curve.first_open_ms, self._span_ms)
        while self._start_ms is not None and end_ms >= self._start_ms + self._span_ms:
            window = self._curve.window(self._start_ms, self._start_ms + self._span_ms)
            self._phases.apply(window)
            self._start_ms = window.end_ms
