"""Positions walked through encoded bars, compiled: the policy's own roll-outs, and the greedy walk of validation.

Both use the single-bar form of the head (`inference.price_actions`) and the kernel's `advance`, so what is learned
from and what is validated is what back-test and live do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aml100.evaluation.kernel import Market, flat_positions
from aml100.evaluation.transition import POSITION_DTYPE, STEP_DTYPE, Records, advance
from aml100.learning.inference import CompiledHead, CompiledWeights, Floats32, greedy_action, price_actions
from aml100.learning.reward import RewardConfig, Shaping, sum_terms, terms_of_step
from aml100.market.compiled import compiled
from aml100.market.position import POSITION_SIZE, position_features
from aml100.market.series import Floats

Actions = npt.NDArray[np.int8]


@compiled()
def _roll_out(
    bars: Any,
    rules: Any,
    first: Any,
    share: Any,
    w_position: Any,
    w_duel: Any,
    b_duel: Any,
    epsilon: float,
    draws: Any,
    live: Any,
    met: Any,
    taken: Any,
) -> None:
    rule = rules[0]
    stretches, length = share.shape[0], share.shape[1]
    row = np.zeros(POSITION_SIZE, np.float64)
    q = np.zeros(3, np.float64)
    scratch = np.zeros(w_position.shape[1], np.float32)
    step = np.zeros(1, STEP_DTYPE)
    for b in range(stretches):
        for k in range(live.shape[1]):
            s = live[b, k]
            for i in range(length):
                met[b, i, k] = s
                t = first[b] + i
                if draws[b, i, k, 0] < epsilon:
                    action = min(2, int(draws[b, i, k, 1] * 3.0))
                else:
                    drawdown = max(0.0, 1.0 - s.equity / s.peak)
                    position_features(
                        s.side, s.entry, bars[t].close, s.bars_held, s.target, s.stop, drawdown, s.wins, s.holds, row
                    )
                    price_actions(share[b, i], row, w_position, w_duel, b_duel, scratch, q)
                    action = greedy_action(q, float(s.side), 0.0)
                taken[b, i, k] = action
                advance(bars, rule, t, action, s, step[0])


def roll_out(
    market: Market,
    rules: Records,
    first: npt.NDArray[np.int64],
    share: Floats32,
    head: CompiledHead,
    epsilon: float,
    live: Records,
    random: np.random.Generator,
) -> tuple[Records, Actions]:
    """Walk R positions through each of B stretches, exploring a share `epsilon` of the decisions.

    Args:
        first: row of each stretch's first decision [B]; `share` the head's share of its bars [B, L, D].
        live: where each position starts, POSITION_DTYPE [B, R]; moved on in place.

    Returns: the states met, POSITION_DTYPE [B, L, R], and the actions taken there, int8 [B, L, R].
    """
    shape = (share.shape[0], share.shape[1], live.shape[1])
    met = np.empty(shape, POSITION_DTYPE)
    taken = np.empty(shape, np.int8)
    draws = random.random((*shape, 2))
    _roll_out(
        market.bars, rules, first, share, head.w_position, head.w_duel, head.b_duel, epsilon, draws, live, met, taken,
    )  # fmt: skip
    return met, taken


@compiled()
def _walk(
    bars: Any,
    rules: Any,
    start: int,
    share: Any,
    w_position: Any,
    w_duel: Any,
    b_duel: Any,
    min_q_gap: float,
    reward_weights: Any,
    calm: Any,
    trend: Any,
    state: Any,
    net: Any,
    actions: Any,
    closed: Any,
    q_all: Any,
    reward: Any,
    sides: Any,
) -> None:
    rule, reward_weight = rules[0], reward_weights[0]
    members, count = share.shape[0], share.shape[1]
    row = np.zeros(POSITION_SIZE, np.float64)
    q = np.zeros(3, np.float64)
    scratch = np.zeros(w_position.shape[2], np.float32)
    step = np.zeros(1, STEP_DTYPE)
    before = np.zeros(1, POSITION_DTYPE)
    s = state[0]
    for i in range(count):
        t = start + i
        drawdown = max(0.0, 1.0 - s.equity / s.peak)
        position_features(s.side, s.entry, bars[t].close, s.bars_held, s.target, s.stop, drawdown, s.wins, s.holds, row)
        for m in range(members):
            price_actions(share[m, i], row, w_position[m], w_duel[m], b_duel[m], scratch, q)
            q_all[i] += q / members
        actions[i] = greedy_action(q_all[i], float(s.side), min_q_gap)
        sides[i] = s.side
        last = i == count - 1
        if last and s.side == 0:
            net[i] = 0.0
            closed[i] = 0.0
            continue
        before[0] = s
        advance(bars[: t + 1] if last else bars, rule, t, actions[i], s, step[0])
        after = t if last else t + 1
        reward[i] = sum_terms(terms_of_step(reward_weight, step[0], before[0], s, calm[t], trend[t], trend[after]))
        net[i] = step[0].net
        closed[i] = step[0].closed_net if step[0].exit_reason != 0 else np.nan


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """A greedy walk of one position: per decision row the net return on one unit of notional, the action, the Qs.

    `net` float64 [n], `actions` int8 [n], `q` float64 [n, 3] (of an ensemble their mean), `trade_nets` the net return
    of each closed trade, `reward` float64 [n] in reward units, `close_ms` int64 [n] when each step ended, `sides` int8
    [n] what was held when it was decided.
    """

    net: Floats
    actions: Actions
    q: Floats
    trade_nets: Floats
    reward: Floats
    close_ms: npt.NDArray[np.int64]
    sides: npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class RewardView:
    """What the reward of a walk looks at: its weights, and `calm_factor` and sign of the trend of every row [T]."""

    weights: Records
    calm: Floats
    trend: Floats

    @staticmethod
    def pure(rows: int) -> RewardView:
        """Profit net of costs alone."""
        return RewardView(RewardConfig(shaping=Shaping.PURE).as_record(), np.ones(rows), np.zeros(rows))


def greedy_walk(
    market: Market,
    rules: Records,
    start: int,
    share: Floats32,
    weights: CompiledWeights | Sequence[CompiledWeights],
    min_q_gap: float,
    reward: RewardView | None = None,
) -> Walk:
    """Walk one position from flat through the rows [start, start + n), closing it at the last close.

    Args:
        share: the head's share of those bars [n, D]; of an ensemble [M, n, D], by member as in `weights`.
        reward: None for profit alone.
    """
    members = [weights] if isinstance(weights, CompiledWeights) else list(weights)
    share = share.reshape(len(members), -1, share.shape[-1])
    n = share.shape[1]
    net, closed, q, gained = np.zeros(n), np.zeros(n), np.zeros((n, 3)), np.zeros(n)
    actions, sides = np.zeros(n, np.int8), np.zeros(n, np.int8)
    view = reward or RewardView.pure(len(market))
    w_position = np.stack([one.w_position for one in members])
    w_duel, b_duel = np.stack([one.w_duel for one in members]), np.stack([one.b_duel for one in members])
    _walk(
        market.bars, rules, start, share, w_position, w_duel, b_duel, min_q_gap, view.weights, view.calm, view.trend,
        flat_positions(1), net, actions, closed, q, gained, sides,
    )  # fmt: skip
    close_ms = market.open_ms[start : start + n] + 2 * market.interval_ms
    trade_nets = closed[np.isfinite(closed) & (closed != 0.0)]
    return Walk(net, actions, q, trade_nets, gained, close_ms, sides)
