"""Signals of several coins on one account, compiled: sizes come from the whole equity, breaker and hard stop watch it.

Time moves as in the decision core: at a close everything is marked and guarded, then each coin decides in its order
from that one equity; at the next opens funding is paid and orders fill, coin by coin; then the ranges are played. The
rows of all coins lie in one array, one coin after the other, so that a coin's rows are found by their places alone.

While a coin acts, the account's equity travels in its record.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aml100.evaluation.fixed_signal import begin_trade, entry_size, finish_trade, is_last
from aml100.evaluation.transition import (
    END,
    NOT_CLOSED,
    RISK,
    at_open,
    decide,
    fill,
    guard,
    has_options,
    is_met,
    leave,
    open_entry,
    play,
)
from aml100.market.compiled import compiled


@compiled(error_model="numpy")
def _held_notional(bars: Any, places: Any, i: int, states: Any, without: int) -> float:
    """|size| x close of all positions but one coin's; 0 or more. A held coin has a bar at every step."""
    total = 0.0
    for k in range(states.shape[0]):
        if k != without and states[k].side != 0:
            total += states[k].size * bars[places[k, i]].close
    return total


@compiled(error_model="numpy")
def _decide(
    bars: Any, rules: Any, places: Any, i: int, actions: Any, multiplier: float, states: Any, a: Any, wanted: Any
) -> None:
    """What each coin does at the next open, from the equity at this close: rows of `wanted` are one coin's.

    Columns: exit reason, side to open, whether that is a resting entry's, size.
    """
    paused = False
    for k in range(states.shape[0]):
        if places[k, i] >= 0:
            paused = guard(rules[k], a, bars[places[k, i]].ordinal)
            break
    for k in range(states.shape[0]):
        t = places[k, i]
        wanted[k, :] = 0.0
        if t < 0 or is_last(bars, t):
            continue
        s, now = states[k], bars[t]
        leaving, entering, taken = decide(rules[k], s, now, actions[t])
        if paused:
            leaving, entering = (RISK if s.side != 0 else NOT_CLOSED), 0
            s.resting = 0
        size = 0.0
        if entering != 0:
            others = _held_notional(bars, places, i, states, k)
            size = s.size if taken else entry_size(rules[k], a, multiplier, now.close, others)
        wanted[k, 0], wanted[k, 1], wanted[k, 2], wanted[k, 3] = leaving, entering, taken, size


@compiled(error_model="numpy")
def _marked(bars: Any, places: Any, i: int, states: Any, entered: Any, equity: float) -> float:
    """The equity with positions opened at the next open already marked where all are: at this step's closes."""
    for k in range(states.shape[0]):
        if entered[k] and states[k].side != 0:
            t = places[k, i]
            equity += states[k].side * states[k].size * (bars[t].close - bars[t + 1].open)
    return equity


@compiled(error_model="numpy")
def walk_together(
    bars: Any,
    rules: Any,
    places: Any,
    actions: Any,
    multiplier: float,
    start: int,
    account: Any,
    states: Any,
    steps: Any,
    equity: Any,
    exposed: Any,
    trades: Any,
    coins: Any,
) -> int:
    """The account over the time steps from `start` on; returns the number of trades, in the order of their entries.

    One loop: divided into its passes over the coins it took twice as long.

    Args:
        bars: rows of all coins [R]; `rules` one record a coin [K]; `actions` int8 [R].
        places: the row of each coin at each time step, int64 [K, T]; -1 where it has no bar.
        account: one record, for equity, peak and pause of all; `states` one a coin, flat.
        equity, exposed: at each step's close [T]; whether anything is held there.
        trades, coins: room for the round trips, and whose they are.
    """
    a, step = account[0], steps[0]
    count, number = 0, states.shape[0]
    wanted = np.zeros((number, 4))
    opened = np.full(number, -1)
    entered = np.zeros(number, np.bool_)
    marks = np.zeros(number)
    for i in range(start, places.shape[1]):
        _decide(bars, rules, places, i, actions, multiplier, states, a, wanted)
        entered[:] = False
        for k in range(number):
            t = places[k, i]
            if t < 0:
                continue
            s, rule, now = states[k], rules[k], bars[t]
            s.equity = a.equity
            if is_last(bars, t):
                s.resting = 0
                if s.side != 0:
                    price = leave(rule, s, step, now.close, now.close, rule.slippage, END)
                    finish_trade(s, trades[opened[k]], t, price, END)
                    a.equity = s.equity
                    equity[i] = _marked(bars, places, i, states, entered, a.equity)
                    a.peak = max(a.peak, equity[i])
                    exposed[i] = False
                    for other in range(number):
                        exposed[i] |= states[other].side != 0
                continue
            after = bars[t + 1]
            marks[k] = now.close
            if s.side != 0:
                price = at_open(rule, bars, t, s, step, int(wanted[k, 0]))
                if price > 0.0:
                    finish_trade(s, trades[opened[k]], t + 1, price, step.exit_reason)
            size = wanted[k, 3]
            if size > 0.0:
                others = _held_notional(bars, places, i, states, k)
                if open_entry(rule, s, step, int(wanted[k, 1]), wanted[k, 2] > 0.0, size, 0.0, others, now, after):
                    opened[k], coins[count] = count, k
                    begin_trade(s, trades[count], t + 1, 0)
                    count += 1
                    marks[k], entered[k] = after.open, True
            a.equity = s.equity
        if i + 1 == places.shape[1]:
            break
        for k in range(number):
            t = places[k, i]
            if t < 0 or is_last(bars, t):
                continue
            s, rule, after = states[k], rules[k], bars[t + 1]
            s.equity = a.equity
            if has_options(rule) and s.resting != 0 and is_met(s, after):
                fill(rule, s, step)
                opened[k], coins[count] = count, k
                begin_trade(s, trades[count], t + 1, 1)
                count += 1
                marks[k] = s.entry
            if s.side != 0:
                price = play(rule, s, step, after, marks[k])
                if price > 0.0:
                    finish_trade(s, trades[opened[k]], t + 1, price, step.exit_reason)
            a.equity = s.equity
        a.peak = max(a.peak, a.equity)
        equity[i + 1] = a.equity
        exposed[i + 1] = False
        for k in range(number):
            exposed[i + 1] |= states[k].side != 0
    return count
