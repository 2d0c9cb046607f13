"""What a batch of stretches is worth, in one compiled pass: states, next states, rewards and discounts of all actions.

The parts are the kernel's `advance`, the reward's `terms_of_step` and `position_features`, as everywhere else; put
together without a temporary between them. While a position is held, HOLD and the action of its own side lead to the
same place but for the count of HOLDs, so that bar is advanced once for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aml100.evaluation.kernel import Market, flat_positions
from aml100.evaluation.transition import (
    ACTIONS,
    HOLD,
    POSITION_DTYPE,
    STEP_DTYPE,
    Records,
    advance,
    stop_distance,
    trailing_stop,
)
from aml100.learning.mirror import ACTION_ORDER, SIDE
from aml100.learning.reward import sum_terms, terms_of_step
from aml100.market.compiled import compiled
from aml100.market.position import (
    BARS_COUNTED,
    DRAWDOWN_COUNTED,
    HOLDS_COUNTED,
    POSITION_SIZE,
    WINS_COUNTED,
    position_features,
)
from aml100.market.series import Floats, Ints

DRAWN_SIDES: Final = (1, -1, 0)
DRAWS: Final = 5
"""Uniform numbers that one drawn position takes."""
USUAL_SHARE: Final = 0.875
"""Of drawn returns: those within two standard deviations of the bars that the position is held."""
FARTHEST_MOVE: Final = math.log(2.0)
"""Drawn of the price since entry, as a logarithm. What is farther looks much the same, and a notional that has grown to
many times itself is noise to learn from."""

Floats32 = npt.NDArray[np.float32]
_DRAWN = np.array(DRAWN_SIDES, np.int8)
_TURNED = ACTION_ORDER
_UPRIGHT = tuple(range(ACTIONS))


@compiled(error_model="numpy")
def _drawn_gain(side: int, held: int, bar_sd: float, u: float) -> float:
    """A return since entry: within two standard deviations of `held` bars, or beyond, up to a steady trend's."""
    lean = 2.0 * u - 1.0
    move = 2.0 * bar_sd * math.sqrt(held)
    if abs(lean) <= USUAL_SHARE:
        move *= abs(lean) / USUAL_SHARE
    else:
        move *= held ** (0.5 * (abs(lean) - USUAL_SHARE) / (1.0 - USUAL_SHARE))
    move = math.copysign(min(move, FARTHEST_MOVE), lean)
    return side * (math.exp(side * move) - 1.0)


@compiled(error_model="numpy")
def _draw(s: Any, rule: Any, bar: Any, side: int, bar_sd: float, u: Any) -> None:
    """Fill `s`, a flat account's record, with a position that might be held at this bar's close."""
    close = bar.close
    s.wins = int(u[0] * (WINS_COUNTED + 1.0))
    s.holds = int(u[1] * (HOLDS_COUNTED + 1.0))
    s.equity = 1.0 - DRAWDOWN_COUNTED * u[2] ** 2
    s.peak = 1.0
    s.side = side
    s.entry = s.size = s.unit = s.stop = s.target = s.net = s.fees = s.funding = 0.0
    s.bars_held = s.resting = s.beyond = s.paused_until = 0
    if side == 0:
        return
    oldest = rule.max_hold if rule.max_hold > 0 else int(BARS_COUNTED)
    held = max(1, int(math.exp(u[3] ** 1.5 * math.log(oldest))))
    gain = _drawn_gain(side, held, bar_sd, u[4])
    distance = stop_distance(rule, bar)
    trailing = trailing_stop(rule)
    room = min(distance, trailing) if trailing > 0.0 else distance
    if distance > 0.0:
        gain = max(gain, -0.98 * room)
    if rule.take_profit > 0.0:
        gain = min(gain, 0.98 * rule.take_profit)
    entry = close / (1.0 + side * gain)
    s.entry = entry
    s.size = 1.0 / entry
    s.unit = rule.notional_frac
    s.bars_held = held
    if distance > 0.0:
        s.stop = entry * (1.0 - side * distance)
        if trailing > 0.0:
            best = (max(entry, bar.close) if side > 0 else min(entry, bar.close)) * (1.0 - side * trailing)
            s.stop = max(s.stop, best) if side > 0 else min(s.stop, best)
    if rule.take_profit > 0.0:
        s.target = entry * (1.0 + side * rule.take_profit)


@compiled(error_model="numpy")
def _draw_many(bars: Any, rules: Any, rows: Any, sides: Any, bar_sd: float, draws: Any, states: Any) -> None:
    for i in range(rows.shape[0]):
        _draw(states[i], rules[0], bars[rows[i]], sides[i], bar_sd, draws[i])


def random_positions(
    market: Market,
    rules: Records,
    rows: Ints,
    sides: npt.NDArray[np.int8],
    bar_sd: float,
    random: np.random.Generator,
) -> Records:
    """Positions that might be held at the close of `rows` [N], of the given `sides` [N]; POSITION_DTYPE [N].

    They cover what `position_features` can show. Ages reach the time exit or to where they look the same, most being
    young as those that are met (half below 26 bars without a time exit). Account and streaks are drawn as far as they
    are counted. Most unrealised returns lie within two standard deviations of that many bars (`bar_sd` is one bar's),
    the others, even in their logarithm, between there and what two a bar in one direction come to, at most twice or
    half the entry's price; all lie inside stop and target.
    """
    states = flat_positions(len(rows))
    _draw_many(market.bars, rules, rows, sides, bar_sd, random.random((len(rows), DRAWS)), states)
    return states


@compiled(error_model="numpy")
def _describe(s: Any, close: float, out: Any) -> None:
    drawdown = max(0.0, 1.0 - s.equity / s.peak)
    position_features(s.side, s.entry, close, s.bars_held, s.target, s.stop, drawdown, s.wins, s.holds, out)


@compiled(error_model="numpy")
def _price(
    bars: Any,
    rules: Any,
    weights: Any,
    calm: Any,
    trend: Any,
    first: Any,
    met: Any,
    at: Any,
    turned: Any,
    drawn: Any,
    draws: Any,
    bar_sd: float,
    gamma: float,
    factor: float,
    position: Any,
    following: Any,
    reward: Any,
    discount: Any,
) -> None:
    rule, weight = rules[0], weights[0]
    now = np.zeros(1, POSITION_DTYPE)
    after = np.zeros(ACTIONS, POSITION_DTYPE)
    steps = np.zeros(ACTIONS, STEP_DTYPE)
    row, held = np.zeros(POSITION_SIZE, np.float32), np.zeros(POSITION_SIZE, np.float32)
    for i in range(first.shape[0]):
        to = at[i]
        order = _TURNED if turned[to] else _UPRIGHT
        sign = np.float32(-1.0 if turned[to] else 1.0)
        for length in range(met.shape[1]):
            t = first[i] + length
            close, close_after = bars[t].close, bars[t + 1].close
            decides = rule.decision_bars <= 1 or bars[t].ordinal % rule.decision_bars == 0
            for k in range(1 + drawn.shape[0]):
                s = now[0]
                if k == 0:
                    now[0] = met[i, length]
                else:
                    _draw(s, rule, bars[t], drawn[k - 1], bar_sd, draws[i, length, k - 1])
                _describe(s, close, row)
                row[SIDE] *= sign
                for p in range(POSITION_SIZE):
                    position[to, length, k, p] = row[p]
                same = 0 if s.side == 0 else (1 if s.side > 0 else 2)
                for action in range(ACTIONS):
                    if action != HOLD and action == same:
                        after[action] = after[HOLD]
                        steps[action] = steps[HOLD]
                        row[:] = held
                        if decides:
                            after[action].holds = 0
                            row[POSITION_SIZE - 1] = 0.0
                    else:
                        after[action] = s
                        advance(bars, rule, t, action, after[action], steps[action])
                        _describe(after[action], close_after, row)
                        row[SIDE] *= sign
                        if action == HOLD:
                            held[:] = row
                    seen = to, length, k, order[action]
                    for p in range(POSITION_SIZE):
                        following[seen[0], seen[1], seen[2], seen[3], p] = row[p]
                    terms = terms_of_step(weight, steps[action], s, after[action], calm[t], trend[t], trend[t + 1])
                    reward[seen] = sum_terms(terms) * factor
                    discount[seen] = 0.0 if steps[action].terminated else gamma


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """Of B stretches of L bars with K positions each: `position` [B, L, K, P], `following` [B, L, K, 3, P], `reward`
    and `discount` [B, L, K, 3], all float32."""

    position: Floats32
    following: Floats32
    reward: Floats32
    discount: Floats32

    @staticmethod
    def empty(stretches: int, length: int, positions: int) -> Priced:
        """Room for a batch."""
        shape = (stretches, length, positions)
        return Priced(
            np.empty((*shape, POSITION_SIZE), np.float32),
            np.empty((*shape, ACTIONS, POSITION_SIZE), np.float32),
            np.empty((*shape, ACTIONS), np.float32),
            np.empty((*shape, ACTIONS), np.float32),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RewardSight:
    """What prices a coin's steps: reward weights, and `calm_factor` and sign of the trend of all its rows [T].

    `factor` turns the reward into the learner's unit, `bar_sd` is one bar's standard deviation.
    """

    weights: Records
    calm: Floats
    trend: Floats
    factor: float
    gamma: float
    bar_sd: float


def price_stretches(
    out: Priced,
    at: Ints,
    turned: npt.NDArray[np.bool_],
    market: Market,
    rules: Records,
    sight: RewardSight,
    first: Ints,
    met: Records,
    random: np.random.Generator,
) -> None:
    """Price the path `met` (POSITION_DTYPE [b, L]) and one drawn position of each of DRAWN_SIDES at each of its bars.

    Args:
        out: the batch of B, of which the stretches `at` [b] are filled, as they are seen in the mirrored market where
            `turned` [B] says so (mirror.py): long is short there, and BUY is SELL.
        first: the row of each stretch's first decision, int64 [b]; a bar must follow the last one.
    """
    stretches, length = met.shape
    if len(first) and (first.min() < 0 or first.max() + length >= len(market)):
        raise IndexError(f"stretches of {length} bars from rows {first.min()} to {first.max()} leave the market")
    draws = random.random((stretches, length, len(_DRAWN), DRAWS))
    _price(
        market.bars, rules, sight.weights, sight.calm, sight.trend, first, met, at, turned, _DRAWN, draws, sight.bar_sd,
        sight.gamma, sight.factor, out.position, out.following, out.reward, out.discount,
    )  # fmt: skip
