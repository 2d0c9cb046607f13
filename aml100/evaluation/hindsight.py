"""The best that anybody could have earned under all the rules: stop, target and time exit included.

Backwards over the opens of one contiguous stretch. `flat[k]` is the best profit from the open of bar k on without a
position; an entry there is walked forward until a rule ends it, and may leave by signal at any open on the way:

    flat[k] = max( flat[k+1],  over sides: entry at open k, left at j, + what can be earned after j )

After a signal exit at open j, and after a stop or target inside bar j, the next entry is at open j + 1; after a time
exit at open j it is at j + 1 too, since its decision was taken up by the exit. Amounts are of one unit of notional.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from aml100.evaluation.transition import round_to_tick

BY_RULE: Final = 0
BY_SIGNAL: Final = 1
BY_TURN: Final = 2


@njit(cache=True, nogil=True, error_model="numpy")
def _entry(bars: Any, allowed: Any, rule: Any, k: int, side: int, flat: Any, turned: Any) -> Any:
    """The best of a position opened at the open of bar k: (value with all that follows, row left, how)."""
    m = bars.shape[0]
    sign = 1.0 - 2.0 * side
    entry = bars[k].open * (1.0 + sign * rule.slippage)
    stop = round_to_tick(entry * (1.0 - sign * rule.stop_loss), rule.px_decimals) if rule.stop_loss > 0.0 else 0.0
    target = round_to_tick(entry * (1.0 + sign * rule.take_profit), rule.px_decimals) if rule.take_profit > 0.0 else 0.0
    carried = -rule.taker_fee
    best, row, how = -np.inf, m, BY_RULE
    for j in range(k, m):
        bar = bars[j]
        if j > k:
            carried -= sign * bar.open * bar.funding / entry
            out = bar.open * (1.0 - sign * rule.slippage)
            gain = carried + sign * (out - entry) / entry - rule.taker_fee * out / entry
            if rule.max_hold > 0 and j - k >= rule.max_hold:
                if gain + flat[j + 1] > best:
                    best, row, how = gain + flat[j + 1], j, BY_RULE
                return best, row, how
            if allowed[j]:
                after = turned[1 - side, j] if rule.reverse else flat[j + 1]
                if gain + after > best:
                    best, row, how = gain + after, j, BY_TURN if rule.reverse else BY_SIGNAL
        out = 0.0
        if stop > 0.0 and (bar.low <= stop if side == 0 else bar.high >= stop):
            level = min(stop, bar.open) if side == 0 else max(stop, bar.open)
            out = level * (1.0 - sign * rule.slippage)
        elif target > 0.0 and (bar.high >= target if side == 0 else bar.low <= target):
            out = target
        elif j == m - 1:
            out = bar.close * (1.0 - sign * rule.slippage)
        if out > 0.0:
            gain = carried + sign * (out - entry) / entry - rule.taker_fee * out / entry
            if gain + flat[j + 1] > best:
                best, row, how = gain + flat[j + 1], j, BY_RULE
            return best, row, how
    return best, row, how


@njit(cache=True, nogil=True, error_model="numpy")
def walk_back(bars: Any, allowed: Any, rules: Any) -> Any:
    """One stretch of m bars; `allowed[k]`: something may be decided for the open of bar k.

    Returns (profit, entry rows, rows left, how, sides, number of trades), oldest first.
    """
    rule = rules[0]
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
            value, row, how = _entry(bars, allowed, rule, k, side, flat, turned)
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
