"""Phases: what a cycle must show, whether it was more than luck, and when the next phase begins.

A cycle is one window of `cycle_days`: the first begins at the first 00:00 UTC of the record, each other where the one
before ends; an unfinished last window is no cycle. Its figures are measured over the window alone. In mode `honest` a
figure that is met also needs evidence, gathered over all windows of the phase so far (GUARANTEES B3, E11): enough
trades, a Sharpe ratio that is not luck, a drawdown limit that resampled months keep. Met without it is PROVISIONAL.

Looking again and again at a growing record finds luck more often than looking once. Looks at lengths j < k correlate
by sqrt(j / k), so by the k-th look about 1 + ln k independent ones were taken: the error allowed is divided by that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from aml100.config.models import GatesMode, Objectives
from aml100.evaluation.metrics import (
    MONTH_DAYS,
    compounded,
    max_drawdown_of,
    profit_factor_of,
    sharpe_of,
    win_rate_of,
)
from aml100.evaluation.statistics import (
    Moments,
    deflated_sharpe,
    drawdown_probability,
    expected_max_sharpe,
    minimum_track_record,
    moments_of,
    probabilistic_sharpe,
    sharpe_lower_bound,
)
from aml100.evaluation.windows import PhaseRecord, Window, window_of, windows

Floats: TypeAlias = npt.NDArray[np.float64]

__all__ = [
    "CycleResult",
    "EvidenceResult",
    "ObjectiveResult",
    "PhaseRecord",
    "PhaseRules",
    "PhaseState",
    "PhaseTracker",
    "Trials",
    "Verdict",
    "Window",
    "account_phases",
    "gather_evidence",
    "judge_figures",
    "look_confidence",
    "phase_rules",
    "window_of",
    "windows",
]

YEAR_ROOT: Final = math.sqrt(365)
SEED: Final = 20140701
"""Of the bootstrap under the drawdown probability, so that a verdict can be drawn again (GUARANTEES E10)."""


class Verdict(StrEnum):
    """UNKNOWN, for one objective, is a figure that does not exist: it counts as not met."""

    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"
    PROVISIONAL = "PROVISIONAL"
    PASS = "PASS"


@dataclass(frozen=True, slots=True)
class PhaseRules:
    """One phase in fractions. Evidence of None is not asked for."""

    name: str
    monthly_return: float
    sharpe: float
    profit_factor: float
    win_rate: float
    max_drawdown: float
    trade_density: float
    cycles: int
    sharpe_bound: float | None
    dsr: float | None
    pbo: float | None
    trades: int
    drawdown_probability: float


def phase_rules(objectives: Objectives) -> tuple[PhaseRules, ...]:
    """The phases of objectives.json, in order."""
    return tuple(
        PhaseRules(
            name=name,
            monthly_return=asked.monthly_return_min_pct / 100.0,
            sharpe=asked.sharpe_min,
            profit_factor=asked.profit_factor_min,
            win_rate=asked.win_rate_min_pct / 100.0,
            max_drawdown=asked.max_drawdown_pct / 100.0,
            trade_density=asked.trade_density_min_pct / 100.0,
            cycles=asked.cycles,
            sharpe_bound=asked.sharpe_bound_min,
            dsr=asked.dsr_min,
            pbo=asked.pbo_max,
            trades=asked.trades_min,
            drawdown_probability=asked.drawdown_probability_max_pct / 100.0,
        )
        for name, asked in objectives.phases.items()
    )


# --- one cycle ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """`value` and `threshold` are fractions where the name is return, rate, drawdown or density."""

    name: str
    value: float | None
    threshold: float
    met: bool | None
    state: Verdict
    note: str = ""


@dataclass(frozen=True, slots=True)
class EvidenceResult:
    """One piece of evidence over the phase so far. `days_to_go` at the present pace; None is unknown or never.

    `note` says why there is no value.
    """

    name: str
    value: float | None
    threshold: float
    met: bool
    days_to_go: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Trials:
    """How a strategy was found: what its Sharpe ratio is deflated by. `pbo` None: not known."""

    count: int = 1
    sharpe_variance: float | None = None
    pbo: float | None = None

    @property
    def pbo_note(self) -> str:
        """Why there is no probability of overfitting; empty where there is one.

        >>> Trials().pbo_note, Trials(count=4).pbo_note, Trials(count=4, pbo=0.1).pbo_note
        ('n/a (no trials)', 'n/a (4 trials, no two of them judged by the same days)', '')
        """
        if self.pbo is not None:
            return ""
        if self.count <= 1:
            return "n/a (no trials)"
        return f"n/a ({self.count} trials, no two of them judged by the same days)"


@dataclass(frozen=True, slots=True)
class CycleResult:
    """One cycle judged. `phase` is the one it was lived in, `phase_after` the one that follows it.

    `luck` is how often a strategy without skill shows a Sharpe ratio as good over the phase so far.
    """

    number: int
    phase: str
    start_ms: int
    end_ms: int
    verdict: Verdict
    objectives: tuple[ObjectiveResult, ...]
    evidence: tuple[EvidenceResult, ...]
    days_to_go: float | None
    luck: float | None
    seed: int
    phase_after: str = ""
    reason: str = ""


def look_confidence(confidence: float, looks: int) -> float:
    """Confidence that one of several looks at a growing record needs so that together they have `confidence`."""
    return 1.0 - (1.0 - confidence) / (1.0 + math.log(max(looks, 1)))


_NEEDS: Final = {
    "monthly_return": ("sharpe_bound", "dsr", "pbo"),
    "sharpe": ("sharpe_bound", "dsr", "pbo"),
    "profit_factor": ("trades",),
    "win_rate": ("trades",),
    "max_drawdown": ("drawdown_probability",),
    "trade_density": (),
}


def judge_figures(
    window: Window, rules: PhaseRules, evidence: tuple[EvidenceResult, ...]
) -> tuple[ObjectiveResult, ...]:
    """Each objective over one window. With no evidence asked for, met is PASS."""
    bars, trades = len(window.equity), len(window.profits)
    final = float(window.equity[-1]) if bars else window.opening_equity
    alive = window.opening_equity > 0.0
    total = final / window.opening_equity - 1.0 if alive else -1.0
    drawdown = max_drawdown_of(window.equity, window.opening_equity) if alive else None
    figures = (
        ("monthly_return", compounded(total, window.days, MONTH_DAYS), rules.monthly_return),
        ("sharpe", sharpe_of(window.daily_returns), rules.sharpe),
        ("profit_factor", profit_factor_of(window.profits), rules.profit_factor),
        ("win_rate", win_rate_of(window.profits), rules.win_rate),
        ("max_drawdown", drawdown, rules.max_drawdown),
        ("trade_density", trades / bars if bars else None, rules.trade_density),
    )
    notes = {"sharpe": f"n/a ({len(window.daily_returns)} of 30)", "profit_factor": f"n/a (no loss in {trades} trades)"}
    results = []
    for name, value, threshold in figures:
        if value is None:
            results.append(ObjectiveResult(name, None, threshold, None, Verdict.UNKNOWN, notes.get(name, "n/a")))
            continue
        met = value <= threshold if name == "max_drawdown" else value >= threshold
        short = [e for e in evidence if e.name in _NEEDS[name] and not e.met]
        state = Verdict.FAIL if not met else Verdict.PROVISIONAL if short else Verdict.PASS
        note = "needs " + ", ".join(e.name for e in short) if met and short else ""
        results.append(ObjectiveResult(name, value, threshold, met, state, note))
    return tuple(results)


def gather_evidence(
    returns: Floats, trades: int, looks: int, rules: PhaseRules, trials: Trials
) -> tuple[EvidenceResult, ...]:
    """What honest gates want to see over a phase so far: `returns` are its daily ones, `looks` its cycles."""
    moments = moments_of(returns)
    found: list[EvidenceResult] = []
    if rules.sharpe_bound is not None:
        confidence = look_confidence(0.95, looks)
        asked = rules.sharpe_bound / YEAR_ROOT
        bound = None if moments is None else sharpe_lower_bound(moments, confidence)
        days = _days_to_go(moments, asked, confidence)
        annual = None if bound is None else bound * YEAR_ROOT
        found.append(
            EvidenceResult("sharpe_bound", annual, rules.sharpe_bound, bound is not None and bound > asked, days)
        )
    if rules.dsr is not None:
        asked = look_confidence(rules.dsr, looks)
        value = None if moments is None else deflated_sharpe(moments, trials.count, trials.sharpe_variance)
        days = None
        if moments is not None:
            variance = 1.0 / (moments.count - 1) if trials.sharpe_variance is None else trials.sharpe_variance
            days = _days_to_go(moments, expected_max_sharpe(trials.count, variance), asked)
        found.append(EvidenceResult("dsr", value, asked, value is not None and value >= asked, days))
    if rules.pbo is not None:
        met = trials.pbo is not None and trials.pbo < rules.pbo
        found.append(EvidenceResult("pbo", trials.pbo, rules.pbo, met, note=trials.pbo_note))
    pace = trades / len(returns) if len(returns) else 0.0
    missing = max(rules.trades - trades, 0)
    found.append(
        EvidenceResult(
            "trades", trades, rules.trades, not missing, missing / pace if pace else None if missing else 0.0
        )
    )
    chance = drawdown_probability(returns, rules.max_drawdown, seed=SEED)
    kept = chance is not None and chance <= rules.drawdown_probability
    found.append(EvidenceResult("drawdown_probability", chance, rules.drawdown_probability, kept))
    return tuple(found)


def _days_to_go(moments: Moments | None, benchmark: float, confidence: float) -> float | None:
    needed = None if moments is None else minimum_track_record(moments, benchmark, confidence)
    return None if needed is None or moments is None else max(needed - moments.count, 0.0)


# --- phases ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhaseState:
    """Where a ledger stands; plain values, to be saved. `earned` phases were completed by PASS cycles alone."""

    index: int = 0
    cycles_done: int = 0
    looks: int = 0
    number: int = 0
    failures_in_row: int = 0
    earned: int = 0
    relied_on_provisional: bool = False
    returns: tuple[float, ...] = ()
    trades: int = 0

    @property
    def is_provisional(self) -> bool:
        """Whether the phase was reached by cycles whose evidence was short: no live size by it."""
        return self.earned < self.index


class PhaseTracker:
    """Judges cycles one after the other and moves through the phases."""

    def __init__(
        self,
        phases: tuple[PhaseRules, ...],
        gates_mode: GatesMode = "honest",
        *,
        provisional_advances: bool = False,
        step_back_after: int = 0,
        state: PhaseState | None = None,
    ) -> None:
        """Args: step_back_after: failed cycles in a row that cost a phase; 0 is never."""
        if not phases:
            raise ValueError("there is no phase to be in")
        self.phases = phases
        self.gates_mode = gates_mode
        self.provisional_advances = provisional_advances
        self.step_back_after = step_back_after
        self.state = state or PhaseState()

    @property
    def rules(self) -> PhaseRules:
        """Of the present phase."""
        return self.phases[self.state.index]

    def preview(self, window: Window, trials: Trials = Trials(), *, is_realised: bool = True) -> CycleResult:
        """How this window would be judged now; nothing changes.

        In mode honest a window of an out-of-sample back-test, or of bars that the model was made from (`is_realised`
        false), is PROVISIONAL at best, and its returns are no evidence: what was earned and what was not are not mixed.
        """
        state, rules = self.state, self.rules
        returns = np.concatenate([np.array(state.returns), window.daily_returns if is_realised else np.zeros(0)])
        evidence: tuple[EvidenceResult, ...] = ()
        if self.gates_mode == "honest":
            trades = state.trades + (len(window.profits) if is_realised else 0)
            evidence = gather_evidence(returns, trades, state.looks + 1, rules, trials)
        objectives = judge_figures(window, rules, evidence)
        if self.gates_mode == "honest" and not is_realised:
            objectives = tuple(_computed(result) for result in objectives)
        states = {result.state for result in objectives}
        if states & {Verdict.FAIL, Verdict.UNKNOWN}:
            verdict = Verdict.FAIL
        else:
            verdict = Verdict.PROVISIONAL if Verdict.PROVISIONAL in states else Verdict.PASS
        waits = [e.days_to_go for e in evidence if not e.met]
        known = [days for days in waits if days is not None]
        moments = moments_of(returns)
        skill = None if moments is None else probabilistic_sharpe(moments)
        return CycleResult(
            number=state.number + 1,
            phase=rules.name,
            start_ms=window.start_ms,
            end_ms=window.end_ms,
            verdict=verdict,
            objectives=objectives,
            evidence=evidence,
            days_to_go=max(known) if known and len(known) == len(waits) else None,
            luck=None if skill is None else 1.0 - skill,
            seed=SEED,
            phase_after=rules.name,
        )

    def apply(self, window: Window, trials: Trials = Trials(), *, is_realised: bool = True) -> CycleResult:
        """Judge a finished cycle, count it, and move on or back where that is due."""
        result = self.preview(window, trials, is_realised=is_realised)
        state = self.state
        counts = result.verdict is Verdict.PASS or (result.verdict is Verdict.PROVISIONAL and self.provisional_advances)
        state = replace(
            state,
            cycles_done=state.cycles_done + counts,
            looks=state.looks + 1,
            number=state.number + 1,
            failures_in_row=0 if counts else state.failures_in_row + 1,
            relied_on_provisional=state.relied_on_provisional or (counts and result.verdict is Verdict.PROVISIONAL),
            returns=(*state.returns, *window.daily_returns.tolist()) if is_realised else state.returns,
            trades=state.trades + (len(window.profits) if is_realised else 0),
        )
        reason = ""
        if state.cycles_done >= self.rules.cycles and state.index + 1 < len(self.phases):
            reason = f"{state.cycles_done} of {self.rules.cycles} cycles done"
            earned = state.earned + (state.earned == state.index and not state.relied_on_provisional)
            state = PhaseState(index=state.index + 1, number=state.number, earned=earned)
        elif self.step_back_after and state.failures_in_row >= self.step_back_after and state.index > 0:
            reason = f"{state.failures_in_row} failed cycles in a row"
            index = state.index - 1
            state = PhaseState(index=index, number=state.number, earned=min(state.earned, index))
        self.state = state
        return replace(result, phase_after=self.rules.name, reason=reason)


def _computed(result: ObjectiveResult) -> ObjectiveResult:
    """A figure of a back-test, or of bars that the model was made from: met is not yet earned."""
    if result.state is not Verdict.PASS:
        return result
    return replace(result, state=Verdict.PROVISIONAL, note="not realised out of sample")


def account_phases(
    record: PhaseRecord,
    cycle_days: float,
    tracker: PhaseTracker,
    trials: Trials = Trials(),
    *,
    is_evidence: bool = True,
) -> list[CycleResult]:
    """Every finished cycle of a record, judged in order by `tracker`, which ends in the phase reached.

    Args:
        trials: by which the record's strategy was found.
        is_evidence: False for a record that saw the bars it is judged by: PROVISIONAL at best in mode honest.
    """
    return [tracker.apply(window, trials, is_realised=is_evidence) for window in windows(record, cycle_days)]
