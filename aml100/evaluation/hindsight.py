"""The best that anybody could have earned under all the rules: stop, target and time exit included.

Backwards over the opens of one contiguous stretch. `flat[k]` is the best profit from the open of bar k on without a
position; an entry there is walked forward until a rule ends it, and may leave by signal at any open on the way:

    flat[k] = max( flat[k+1],  over sides: entry at open k, left at j, + what can be earned after j )

After a signal exit at open j, and after a stop or target inside bar j, the next entry is at open j + 1; after a time
exit at open j it is at j + 1 too, since its decision was taken up by the exit. Amounts are of one unit of notional.
What happens on the way is the transition's own code, so every option of entries and stops is in it; breaker, hard stop
and what they make of sizes are not. Where the opposite signal reverses and entries rest, a turn into an entry that
never fills would be a way out too; it is not looked at, so that the answer may lie under the best there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from aml100.evaluation.transition import (
    END,
    HOLD,
    NOT_CLOSED,
    POSITION_DTYPE,
    SIGNAL,
    STEP_DTYPE,
    TIME,
    at_open,
    decide,
    fill,
    has_options,
    is_met,
    leave,
    open_entry,
    play,
)
from aml100.market.compiled import compiled

BY_RULE: Final = 0
BY_SIGNAL: Final = 1
BY_TURN: Final = 2


@compiled(error_model="numpy")
def _open(bars: Any, rule: Any, k: int, sign: int, s: Any, step: Any) -> tuple[int, float]:
    """An entry decided at the close before bar k: (the bar that fills it, or -1 for none; where it is marked then).

    Afterwards `s` holds the position as filled.
    """
    s.side = s.resting = s.paused_until = 0
    s.equity = s.peak = 1.0
    m = bars.shape[0]
    if open_entry(rule, s, step, sign, False, 0.0, 1.0, 0.0, bars[k - 1], bars[k]):
        return k, bars[k].open
    if not has_options(rule):
        return -1, 0.0
    j = k
    while s.resting != 0:
        if is_met(s, bars[j]):
            fill(rule, s, step)
            return j, s.entry
        _, entering, taken = decide(rule, s, bars[j], HOLD)
        j += 1
        if j == m:
            break
        if taken and open_entry(rule, s, step, entering, True, 0.0, 1.0, 0.0, bars[j - 1], bars[j]):
            return j, bars[j].open
    return -1, 0.0


@compiled(error_model="numpy")
def _entry(
    bars: Any, allowed: Any, rule: Any, k: int, side: int, flat: Any, turned: Any, held: Any, tried: Any, steps: Any
) -> Any:
    """The best of a position decided for the open of bar k: (value with all that follows, row left, how).

    `held`, `tried` and `steps` are single records to work on.
    """
    m, s, w, step = bars.shape[0], held[0], tried[0], steps[0]
    best, row, how = -np.inf, m, BY_RULE
    filled, mark = _open(bars, rule, k, 1 - 2 * side, s, step)
    if filled < 0:
        return best, row, how
    for j in range(filled, m):
        if j > filled:
            mark = bars[j - 1].close
            is_over = rule.max_hold > 0 and s.bars_held >= rule.max_hold
            if is_over or allowed[j]:
                tried[0] = s
                at_open(rule, bars, j - 1, w, step, TIME if is_over else SIGNAL)
                gain = w.net
                after = turned[1 - side, j] if rule.reverse and not is_over else flat[j + 1]
                if gain + after > best:
                    how = BY_RULE if is_over else BY_TURN if rule.reverse else BY_SIGNAL
                    best, row = gain + after, j
                if is_over:
                    return best, row, how
            if at_open(rule, bars, j - 1, s, step, NOT_CLOSED) > 0.0:
                break
        if play(rule, s, step, bars[j], mark) > 0.0:
            break
        if j == m - 1:
            leave(rule, s, step, bars[j].close, bars[j].close, rule.slippage, END)
    if s.net + flat[j + 1] > best:
        best, row, how = s.net + flat[j + 1], j, BY_RULE
    return best, row, how


@compiled(error_model="numpy")
def walk_back(bars: Any, allowed: Any, rules: Any) -> Any:
    """One stretch of m bars; `allowed[k]`: something may be decided for the open of bar k.

    Returns (profit, entry rows, rows left, how, sides, number of trades), oldest first.
    """
    rule = rules[0]
    s, w = np.zeros(1, POSITION_DTYPE), np.zeros(1, POSITION_DTYPE)
    steps = np.zeros(1, STEP_DTYPE)
    m = bars.shape[0]
    flat = np.zeros(m + 2)
    turned = np.full((2, m + 1), -np.inf)
    left = np.zeros((2, m + 1), np.int64)
    ways = np.zeros((2, m + 1), np.int64)
    chosen = np.full(m + 1, -1)
    for k in range(m - 1, 0, -1):
        flat[k] = flat[k + 1]
        if not allowed[k]:
            continue
        for side in range(2):
            value, row, how = _entry(bars, allowed, rule, k, side, flat, turned, s, w, steps)
            turned[side, k], left[side, k], ways[side, k] = value, row, how
            if value > flat[k]:
                flat[k], chosen[k] = value, side
    entries, leaves = np.empty(m, np.int64), np.empty(m, np.int64)
    hows, sides = np.empty(m, np.int64), np.empty(m, np.int64)
    count, k = 0, 1
    while k < m:
        if chosen[k] < 0:
            k += 1
            continue
        side = chosen[k]
        while True:
            row, how = left[side, k], ways[side, k]
            entries[count], leaves[count], hows[count], sides[count] = k, row, how, side
            count += 1
            if how != BY_TURN:
                break
            k, side = row, 1 - side
        k = row + 1
    return flat[1], entries, leaves, hows, sides, count
