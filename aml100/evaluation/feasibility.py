"""Can a phase's targets hold together? A meter that asks what they imply before anybody chases them (GUARANTEES B4).

A strategy that earns a fixed return a month with a true Sharpe ratio S must move by sd = mean x sqrt(365) / S a day:
the smaller S, the wilder. From that follow how far it draws down in 30 days, and the Sharpe ratio without which the
drawdown limit breaks too often. Returns are drawn as independent and normal, which flatters: real ones have fatter
tails and cluster, so what is infeasible here is infeasible.

Two ways of looking: once a day, as the evidence of the gates does, and without a pause, as a breaker does (hourly steps
with Broadie, Glasserman and Kou's (1997) correction for what lies between them, at the peak and at the trough).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from aml100.evaluation.metrics import MONTH_DAYS, YEAR_DAYS, Floats
from aml100.evaluation.objectives import PhaseRules

_SEED: Final = 19970401
_PATHS: Final = 2000
_HOURS: Final = 24
_BETWEEN_STEPS: Final = 2 * 0.5826
_MOST_SHARPE: Final = 64.0


@dataclass(frozen=True, slots=True)
class Feasibility:
    """What targets imply. Fractions; Sharpe ratios a year.

    Attributes:
        volatility: standard deviation of a day at the Sharpe ratio asked for.
        median_drawdown: of 30 days at that ratio, watched without a pause.
        break_chance: that 30 days at that ratio break the drawdown limit, watched once a day.
        sharpe_needed: without which the limit breaks more often than the evidence allows, watched once a day.
        sharpe_needed_watched: the same, watched without a pause.
    """

    monthly_return: float
    sharpe: float
    max_drawdown: float
    chance_allowed: float
    volatility: float
    median_drawdown: float
    break_chance: float
    sharpe_needed: float
    sharpe_needed_watched: float

    @property
    def holds_together(self) -> bool:
        """The Sharpe ratio asked for keeps the drawdown limit as often as the evidence wants."""
        return self.break_chance <= self.chance_allowed

    @property
    def words(self) -> str:
        """One line for a screen."""
        asked = f"{self.monthly_return:+.0%} a month with drawdown <= {self.max_drawdown:.0%}"
        if self.holds_together:
            return f"{asked}: holds together at Sharpe {self.sharpe:g} (breaks in {self.break_chance:.0%} of months)"
        return (
            f"{asked} needs a true Sharpe near {self.sharpe_needed:.1f}; at the {self.sharpe:g} asked for, a month "
            f"draws down {self.median_drawdown:.0%} in the median"
        )


def feasibility_of(rules: PhaseRules) -> Feasibility:
    """The meter of one phase."""
    return feasibility(rules.monthly_return, rules.sharpe, rules.max_drawdown, rules.drawdown_probability)


@functools.lru_cache(maxsize=64)
def feasibility(monthly_return: float, sharpe: float, max_drawdown: float, chance_allowed: float) -> Feasibility:
    """What a return a month, a Sharpe ratio and a drawdown limit imply for each other.

    Raises:
        ValueError: the return or the Sharpe ratio is not positive: nothing is implied by it.
    """
    if monthly_return <= 0.0 or sharpe <= 0.0:
        raise ValueError(f"only a positive return and Sharpe ratio imply something, not {monthly_return}, {sharpe}")
    mean = math.expm1(math.log1p(monthly_return) / MONTH_DAYS)
    once, watched = drawdowns(mean, sharpe, 1), drawdowns(mean, sharpe, _HOURS)
    return Feasibility(
        monthly_return=monthly_return,
        sharpe=sharpe,
        max_drawdown=max_drawdown,
        chance_allowed=chance_allowed,
        volatility=_deviation(mean, sharpe),
        median_drawdown=float(np.median(watched)),
        break_chance=float(np.mean(once > max_drawdown)),
        sharpe_needed=_needed(mean, max_drawdown, chance_allowed, 1),
        sharpe_needed_watched=_needed(mean, max_drawdown, chance_allowed, _HOURS),
    )


def drawdowns(mean: float, sharpe: float, steps_a_day: int) -> Floats:
    """Maximum drawdowns of many months, fractions, shape [paths]; with more than one step a day without a pause.

    Args:
        mean: daily return.
    """
    deviation = _deviation(mean, sharpe)
    step = deviation / math.sqrt(steps_a_day)
    level = np.cumsum(_shocks(steps_a_day) * step + (mean - deviation**2 / 2.0) / steps_a_day, axis=1)
    peak = np.maximum(np.maximum.accumulate(level, axis=1), 0.0)
    fallen = (peak - level).max(axis=1) + (_BETWEEN_STEPS * step if steps_a_day > 1 else 0.0)
    fractions: Floats = -np.expm1(-fallen)
    return fractions


def _deviation(mean: float, sharpe: float) -> float:
    return mean * math.sqrt(YEAR_DAYS) / sharpe


@functools.lru_cache(maxsize=2)
def _shocks(steps_a_day: int) -> Floats:
    return np.random.default_rng(_SEED).standard_normal((_PATHS, MONTH_DAYS * steps_a_day))


def _needed(mean: float, max_drawdown: float, chance: float, steps_a_day: int) -> float:
    """The least Sharpe ratio whose months keep the limit often enough, by bisection; the bound where none does."""
    low, high = 1e-3, _MOST_SHARPE
    while high - low > 0.01:
        middle = (low + high) / 2.0
        if float(np.mean(drawdowns(mean, middle, steps_a_day) > max_drawdown)) > chance:
            low = middle
        else:
            high = middle
    return high
