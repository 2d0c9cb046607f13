"""Beside the learner: the best simple rule, and what hindsight would have earned.

A simple rule is one feature, a threshold to enter beyond and one to leave at, tuned on the training part.
It is given more than the learner: it turns from long to short at one close, and of all its settings it takes the one
that earned most on the whole training part, validation included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from aml100.learning.inference import Floats32
from aml100.market.compiled import compiled
from aml100.market.features import FEATURES
from aml100.market.series import Floats

ENTERS: Final = tuple(0.25 * step for step in range(1, 13))
"""Standard deviations of the feature beyond which a position is taken."""
LEAVES: Final = (-1.0, -0.5, 0.0, 0.5)
"""Where it is given up, as a share of that; -1: only for the opposite one."""


@dataclass(frozen=True, slots=True)
class SimpleRule:
    """With (`sign` 1) or against (-1) a scaled feature: in beyond `enter`, out at `leave` x `enter`."""

    feature: str
    sign: int
    enter: float
    leave: float

    def __str__(self) -> str:
        against = "with" if self.sign > 0 else "against"
        return f"{against} {self.feature} beyond {self.enter:g}, out at {self.leave * self.enter:g}"

    def earned(self, scaled: Floats32, moves: Floats, fee: float) -> float:
        """Net return on one notional over rows [n, F] and what each bar after them returned [n]."""
        signal = np.ascontiguousarray(scaled[:, FEATURES.index(self.feature)])
        return float(_earned(signal, moves, self.sign, self.enter, self.leave * self.enter, fee))


@compiled()
def _earned(signal: Any, moves: Any, sign: int, enter: float, leave: float, fee: float) -> float:
    side, total = 0, 0.0
    for i in range(signal.shape[0]):
        x = sign * signal[i]
        wanted = side
        if x > enter:
            wanted = 1
        elif x < -enter:
            wanted = -1
        elif side * x <= leave:
            wanted = 0
        total += wanted * moves[i] - fee * abs(wanted - side)
        side = wanted
    return total - fee * abs(side)


def best_rule(scaled: Floats32, moves: Floats, fee: float) -> SimpleRule:
    """The rule that earns most on these rows."""
    rules = [
        SimpleRule(feature, sign, enter, leave)
        for feature in FEATURES
        for sign in (1, -1)
        for enter in ENTERS
        for leave in LEAVES
    ]
    return max(rules, key=lambda rule: rule.earned(scaled, moves, fee))


@compiled()
def hindsight(moves: Any, fee: float) -> float:
    """The most that sides of one notional each bar could have earned, known afterwards; `moves` [n] of each bar.

    Unlike `evaluation.oracle`, whose positions grow with the price, it holds one notional at every bar, as a share of
    a policy's profit per bar needs it.
    """
    long, flat, short = -fee, 0.0, -fee  # worth from here to the end, by the side held
    for i in range(moves.shape[0] - 1, -1, -1):
        up, none, down = long + moves[i], flat, short - moves[i]
        long = max(up, none - fee, down - 2.0 * fee)
        flat = max(none, up - fee, down - fee)
        short = max(down, none - fee, up - 2.0 * fee)
    return flat
