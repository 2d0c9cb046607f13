"""Whether a policy still lets go of a position that is far ahead. It is asked, as no walk of validation need meet one.

What a position has earned does not bear on what it will earn. A policy that leaves a young one on many bars and, on the
same bars, next to never one that is old and far ahead is caught by what it never learned, and gives back what it had
(docs/adr/0013-a-bounded-position.md). There is nothing to ask where a target, a time exit or a trailing stop ends such
positions (`is_open_ended`). Free of torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from aml100.evaluation.kernel import Market
from aml100.evaluation.transition import HOLD, Records, stop_distance
from aml100.learning.inference import CompiledWeights, Floats32, greedy_action, price_actions
from aml100.learning.pricing import FARTHEST_MOVE
from aml100.market.compiled import compiled
from aml100.market.position import BARS_COUNTED, HOLDS_COUNTED, POSITION_SIZE, position_features
from aml100.market.series import Floats, Ints

DECISIONS_APART: Final = 16
"""Of validation, one decision in so many is asked."""
MOVES: Final[Floats] = FARTHEST_MOVE * np.array([0.0, 0.25, 0.5, 1.0, 4.0])
"""Of the price since entry, as logarithms: none of young positions; of old ones up to what training draws and one far
beyond, where hardly a gain looks larger."""
SIDES: Final = (1, -1)
COUNTED: Final = (len(SIDES), 1 + len(MOVES))
_ENDINGS: Final = ("take_profit", "max_hold", "trailing_stop")


@dataclass(frozen=True, slots=True)
class Letting:
    """On how many of `asked` bars positions are left, by side (long, short): `young` ones and, of those `ahead`, the
    ones that are left least."""

    asked: int
    young: tuple[int, int]
    ahead: tuple[int, int]

    @staticmethod
    def of(counts: Iterable[Ints]) -> Letting:
        """From what `positions_left` found in stretches of bars, if any."""
        total = sum(counts, np.zeros(COUNTED, np.int64))
        left = total[:, 1:]
        return Letting(
            int(total[0, 0]), (int(left[0, 0]), int(left[1, 0])), (int(left[0, 1:].min()), int(left[1, 1:].min()))
        )


def is_open_ended(rules: Records) -> bool:
    """Whether the rules leave it to the policy when a position that is far ahead ends."""
    return not any(rules[name][0] > 0.0 for name in _ENDINGS if name in (rules.dtype.names or ()))


@compiled()
def _ask(
    bars: Any,
    rules: Any,
    start: int,
    share: Any,
    w_position: Any,
    w_duel: Any,
    b_duel: Any,
    sides: Any,
    moves: Any,
    left: Any,
) -> None:
    rule = rules[0]
    row = np.zeros(POSITION_SIZE, np.float64)
    q, one = np.zeros(3, np.float64), np.zeros(3, np.float64)
    scratch = np.zeros(w_position.shape[2], np.float32)
    decisions = 0
    for i in range(share.shape[1]):
        bar = bars[start + i]
        if rule.decision_bars > 1 and bar.ordinal % rule.decision_bars != 0:
            continue
        decisions += 1
        if decisions % DECISIONS_APART != 0:
            continue
        distance = stop_distance(rule, bar)
        for n in range(len(sides)):
            side = sides[n]
            left[n, 0] += 1
            for k in range(len(moves)):
                entry = bar.close * math.exp(-side * moves[k])
                held, holds = (1.0, 0.0) if k == 0 else (BARS_COUNTED, HOLDS_COUNTED)
                stop = entry * (1.0 - side * distance) if distance > 0.0 else 0.0
                position_features(float(side), entry, bar.close, held, 0.0, stop, 0.0, 0.0, holds, row)
                q[:] = 0.0
                for m in range(share.shape[0]):
                    price_actions(share[m, i], row, w_position[m], w_duel[m], b_duel[m], scratch, one)
                    q += one
                action = greedy_action(q, float(side), 0.0)
                if action != HOLD and action != (1 if side > 0 else 2):
                    left[n, 1 + k] += 1


def positions_left(
    market: Market, rules: Records, start: int, share: Floats32, weights: Sequence[CompiledWeights]
) -> Ints:
    """How often positions are left that might be held on the rows [start, start + n), of each of SIDES (long, short).

    Args:
        share: the head's share of those bars, [M, n, D], by member as in `weights`.

    Returns: int64 [2, 1 + len(MOVES)]: bars asked, and on how many of them a position is left whose price moved as in
        MOVES since its entry, in its favour.
    """
    left = np.zeros(COUNTED, np.int64)
    w_position = np.stack([one.w_position for one in weights])
    w_duel, b_duel = np.stack([one.w_duel for one in weights]), np.stack([one.b_duel for one in weights])
    _ask(market.bars, rules, start, share, w_position, w_duel, b_duel, np.array(SIDES), MOVES, left)
    return left
