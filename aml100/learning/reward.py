"""The reward of a step, term by term: profit net of costs, and shaping that cannot be farmed.

Profit (`pnl`) is the only term that adds up to money. Around it stand the terms of SPEC section 6. A bonus paid bar
after bar would be worth more than any honest trade (0.05 reward units a bar are 0.2 % of notional), so the standing
ones are differences of a potential, `discount x potential(after) - potential(before)`: paid when a state is entered,
taken back when it is left. Such shaping guides learning and leaves the best policy what it was (Ng, Harada and
Russell 1999). The potential of a state is

    streak   `streak_bonus_step` for each win in a row, at most `streak_bonus_max`
    trend    `trend_bonus` while a position is held with the trend
    hold     a penalty that grows with the HOLDs in a row up to `hold_cap`, and never falls under `hold_floor`

The one term that does not cancel is `win`: the profit of the step that closes a winning trade counts
`win_multiplier` times. It is small beside the costs of a round trip; what a policy is chosen by is money alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np

from aml100.evaluation.kernel import Records
from aml100.market.compiled import compiled
from aml100.market.series import Floats

REWARD_TERMS: Final = ("pnl", "win", "streak", "trend", "hold")

WEIGHTS_DTYPE: Final = np.dtype(
    [
        *((name, "f8") for name in ("pnl_scale", "win_extra", "streak_step", "streak_max", "trend")),
        *((name, "f8") for name in ("hold_step", "discount", "reference")),
        ("hold_cap", "i8"),
        ("shaped", "i8"),
    ]
)


class Shaping(StrEnum):
    """All terms, or profit net of costs alone (and not scaled by volatility)."""

    ON = "on"
    PURE = "pure"


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """The values of params.json's `reward`, in reward units.

    `reference_volatility` is the one-bar standard deviation up to which profit counts in full; above it, it counts
    less in proportion. 0 switches the scaling off. `discount` is the learner's gamma.
    """

    shaping: Shaping = Shaping.ON
    pnl_scale: float = 25.0
    win_multiplier: float = 1.5
    streak_bonus_step: float = 0.1
    streak_bonus_max: float = 0.3
    trend_bonus: float = 0.05
    hold_cap: int = 3
    hold_floor: float = -0.15
    reference_volatility: float = 0.0
    discount: float = 1.0

    def as_record(self) -> Records:
        """The weights as the compiled functions take them, shape [1]."""
        record = np.zeros(1, WEIGHTS_DTYPE)
        record["pnl_scale"] = self.pnl_scale
        record["win_extra"] = self.win_multiplier - 1.0
        record["streak_step"] = self.streak_bonus_step
        record["streak_max"] = self.streak_bonus_max
        record["trend"] = self.trend_bonus
        record["hold_step"] = self.hold_floor / self.hold_cap if self.hold_cap else 0.0
        record["hold_cap"] = self.hold_cap
        record["discount"] = self.discount
        record["reference"] = self.reference_volatility
        record["shaped"] = self.shaping is Shaping.ON
        return record


def calm_factor(weights: Records, volatility: Floats) -> Floats:
    """What profit counts in the given one-bar volatility: 1 up to the reference, above it less in proportion.

    Unknown volatility (NaN) counts in full.
    """
    reference = float(weights["reference"][0])
    if reference == 0.0:
        return np.ones_like(volatility)
    return reference / np.fmax(volatility, reference)


@compiled(error_model="numpy")
def _streak_potential(weight: Any, wins: int) -> float:
    bonus: float = min(weight.streak_step * wins, weight.streak_max)
    return bonus


@compiled(error_model="numpy")
def _trend_potential(weight: Any, side: int, trend: float) -> float:
    bonus: float = weight.trend if side * trend > 0.0 else 0.0
    return bonus


@compiled(error_model="numpy")
def _hold_potential(weight: Any, holds: int) -> float:
    penalty: float = weight.hold_step * min(holds, weight.hold_cap)
    return penalty


@compiled(error_model="numpy")
def terms_of_step(
    weight: Any, step: Any, before: Any, after: Any, calm: float, trend: float, trend_after: float
) -> tuple[float, float, float, float, float]:
    """The terms of one step in the order of REWARD_TERMS; the reward is their sum.

    Args:
        weight: a record of WEIGHTS_DTYPE.
        before, after: the position's records at the close of bar t and of bar t + 1.
        calm: `calm_factor` at the decision.
        trend, trend_after: sign of the trend at the two closes.
    """
    if weight.shaped == 0:
        return step.net * weight.pnl_scale, 0.0, 0.0, 0.0, 0.0
    pnl = step.net * weight.pnl_scale * calm
    win = weight.win_extra * pnl if step.closed_net > 0.0 and pnl > 0.0 else 0.0
    goes_on = 0.0 if step.terminated else weight.discount
    streak = goes_on * _streak_potential(weight, after.wins) - _streak_potential(weight, before.wins)
    held_with = goes_on * _trend_potential(weight, after.side, trend_after)
    hold = goes_on * _hold_potential(weight, after.holds) - _hold_potential(weight, before.holds)
    return pnl, win, streak, held_with - _trend_potential(weight, before.side, trend), hold


@compiled(error_model="numpy")
def sum_terms(terms: tuple[float, float, float, float, float]) -> float:
    """The reward."""
    return terms[0] + terms[1] + terms[2] + terms[3] + terms[4]


@compiled(error_model="numpy")
def _rewards(
    weights: Any,
    steps: Any,
    states: Any,
    following: Any,
    calm: Any,
    trend: Any,
    trend_after: Any,
    totals: Any,
    terms: Any,
) -> None:
    weight = weights[0]
    for row in range(steps.shape[0]):
        for action in range(steps.shape[1]):
            found = terms_of_step(
                weight,
                steps[row, action],
                states[row],
                following[row, action],
                calm[row],
                trend[row],
                trend_after[row],
            )
            totals[row, action] = sum_terms(found)
            for term in range(len(found)):
                terms[row, action, term] = found[term]


def rewards(
    weights: Records,
    steps: Records,
    states: Records,
    following: Records,
    volatility: Floats,
    trend: Floats,
    trend_after: Floats,
) -> tuple[Floats, Floats]:
    """Rewards of the steps that `evaluation.kernel.counterfactual` gives.

    Args:
        weights: `RewardConfig.as_record()`.
        steps, following: of shape [B, 3], by action; `states` [B] is where all three began.
        volatility, trend, trend_after: float64 [B], at the decision and at the close after it.

    Returns: totals [B, 3] and terms [B, 3, 5] in the order of REWARD_TERMS.
    """
    totals = np.empty(steps.shape)
    terms = np.empty((*steps.shape, len(REWARD_TERMS)))
    _rewards(weights, steps, states, following, calm_factor(weights, volatility), trend, trend_after, totals, terms)
    return totals, terms
