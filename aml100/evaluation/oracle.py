"""The best that anybody could have earned on a known path, after the same costs: the yardstick of learning.

Exact for positions of one unit of notional, over every way to be long, flat or short: the optimum is the largest sum of
trade returns that any sequence of actions reaches in the kernel. With stop, target or time exit evaluation/hindsight.py
walks every entry forward; without them a trade may last for ever, and this is how it is solved all the same.

A trade's return depends on its entry's price, so the side alone is no sufficient state. But seen from an entry i, the
return of leaving at j is a line in one number that depends on j only:

    long    base_i - (1 + fee) + (x_j + F_i) / e_i          x_j = exit price x (1 - fee) - F_j
    short   base_i + (1 - fee) - (x_j + F_i) / e_i          x_j = exit price x (1 + fee) - F_j

with e the entry's fill price, F the funding paid so far by one coin held long, and base_i the best profit before i.
The best entry for each exit is the highest of these lines at x_j, which a Li Chao tree over the known x answers in
O(log n). Each contiguous stretch is a problem of its own: a position is closed at its last close.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aml100.domain.orders import Action
from aml100.evaluation.course import Course
from aml100.evaluation.hindsight import BY_SIGNAL, walk_back
from aml100.evaluation.kernel import BUY, SELL, KernelRules, Market, Records
from aml100.market.compiled import compiled
from aml100.market.series import Floats, Ints
from aml100.trading.policies import Scheduled

_NONE: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Hindsight:
    """The optimum: `profit` is the sum of trade returns on one unit of notional each, net of all costs.

    `actions` int8 [T] reaches it in the kernel. `only_leaves` bool [T]: the action only closes what is held; where
    a stop or target has closed it before, there is nothing to do.
    """

    profit: float
    trades: int
    actions: npt.NDArray[np.int8]
    only_leaves: npt.NDArray[np.bool_]


@compiled()
def _insert(lines: Any, slopes: Any, bases: Any, xs: Any, line: int) -> None:
    """Add a line to the tree: at each node the one that is higher in the middle stays, the other goes on down."""
    node, low, high = 1, 0, xs.shape[0] - 1
    while True:
        held = lines[node]
        if held == _NONE:
            lines[node] = line
            return
        middle = (low + high) // 2
        if slopes[line] * xs[middle] + bases[line] > slopes[held] * xs[middle] + bases[held]:
            lines[node] = line
            line, held = held, line
        if low == high:
            return
        if slopes[line] * xs[low] + bases[line] > slopes[held] * xs[low] + bases[held]:
            node, high = 2 * node, middle
        elif slopes[line] * xs[high] + bases[line] > slopes[held] * xs[high] + bases[held]:
            node, low = 2 * node + 1, middle + 1
        else:
            return


@compiled()
def _highest(lines: Any, slopes: Any, bases: Any, xs: Any, place: int) -> int:
    """The line that is highest at xs[place], or _NONE."""
    best = _NONE
    node, low, high = 1, 0, xs.shape[0] - 1
    while True:
        line = lines[node]
        if line != _NONE and (
            best == _NONE or slopes[line] * xs[place] + bases[line] > slopes[best] * xs[place] + bases[best]
        ):
            best = line
        if low == high:
            return best
        middle = (low + high) // 2
        if place <= middle:
            node, high = 2 * node, middle
        else:
            node, low = 2 * node + 1, middle + 1


@compiled()
def _stretch(
    opens: Any, paid: Any, allowed: Any, fee: float, slippage: float, reverse: bool, places: Any, xs: Any
) -> Any:
    """One contiguous stretch of m bars; returns (profit, entry rows, exit rows, sides, number of trades).

    Events 1..m-1 are the opens after a first close, event m is the last close, where nothing opens any more.
    Where the opposite signal reverses, leaving means entering the other side: only the last close makes flat.
    `places` and `xs` of shape [2, m + 1], by side (0 long, 1 short): each event's x, as its rank and sorted.
    """
    m = opens.shape[0]
    lines = np.full((2, 4 * (m + 1)), _NONE)
    slopes, bases = np.zeros((2, m)), np.zeros((2, m))
    left = np.full(m + 1, _NONE)
    left_side = np.zeros(m + 1, np.int64)
    turned = np.full((2, m), _NONE)
    flat = np.zeros(m + 1)
    exits = np.zeros(2)
    best = np.full(2, _NONE)
    for k in range(1, m + 1):
        flat[k] = flat[k - 1]
        exits[:] = -np.inf
        if k == m or allowed[k]:
            for side in range(2):
                best[side] = _highest(lines[side], slopes[side], bases[side], xs[side], places[side, k])
                if best[side] != _NONE:
                    exits[side] = slopes[side, best[side]] * xs[side, places[side, k]] + bases[side, best[side]]
                    if exits[side] > flat[k] and (k == m or not reverse):
                        flat[k], left[k], left_side[k] = exits[side], best[side], side
        if k < m and allowed[k]:
            for side in range(2):
                sign = 1.0 - 2.0 * side
                base = flat[k - 1]
                if reverse and exits[1 - side] > base:
                    base = exits[1 - side]
                    turned[side, k] = best[1 - side]
                entry = opens[k] * (1.0 + sign * slippage)
                slopes[side, k] = sign / entry
                bases[side, k] = base - sign - fee + sign * paid[k] / entry
                _insert(lines[side], slopes[side], bases[side], xs[side], k)
    entries, leaves, sides = np.empty(m, np.int64), np.empty(m, np.int64), np.empty(m, np.int64)
    count, k = 0, m
    while k > 0:
        if left[k] == _NONE:
            k -= 1
            continue
        side, entry_row, exit_row = left_side[k], left[k], k
        while True:
            entries[count], leaves[count], sides[count] = entry_row, exit_row, side
            count += 1
            if turned[side, entry_row] == _NONE:
                break
            entry_row, exit_row, side = turned[side, entry_row], entry_row, 1 - side
        k = entry_row - 1
    return flat[m], entries, leaves, sides, count


def _ranks(x: Floats) -> tuple[Ints, Floats]:
    order = np.argsort(x, kind="stable")
    place = np.empty(len(x), np.int64)
    place[order] = np.arange(len(x))
    return place, x[order]


def best_in_hindsight(market: Market, rules: KernelRules, decides: npt.NDArray[np.bool_] | None = None) -> Hindsight:
    """The largest net profit on `market` under `rules`, which `actions` reach in the kernel.

    Without stop, target, time exit and resting entries the lines above solve it; with any of them,
    evaluation/hindsight.py does, whose work grows with how long positions last.

    Args:
        decides: bars on whose close anything may be decided at all, bool [T]; None: every one.
    """
    bars, record = market.bars, rules.as_record()
    actions, only_leaves = np.zeros(len(bars), np.int8), np.zeros(len(bars), np.bool_)
    profit, trades = 0.0, 0
    starts = np.flatnonzero(bars["follows"] == 0)
    for start, stop in zip(starts, [*starts[1:], len(bars)], strict=True):
        part = bars[start:stop]
        allowed = np.zeros(len(part), np.bool_)
        allowed[1:] = part["ordinal"][:-1] % max(1, rules.decision_bars) == 0
        if decides is not None:
            allowed[1:] &= decides[start : stop - 1]
        if rules.stop_loss or rules.take_profit or rules.max_hold or rules.atr_stop or rules.entry_style != "taker":
            gained, entries, leaves, hows, sides, count = walk_back(part, allowed, record)
            by_signal = hows[:count] == BY_SIGNAL
        else:
            gained, entries, leaves, sides, count = _by_lines(part, allowed, rules)
            by_signal = leaves[:count] < len(part)
        profit += gained
        trades += count
        for entry, leave, side, signal in zip(
            entries[:count], leaves[:count], sides[:count], by_signal.tolist(), strict=True
        ):
            if signal and actions[start + leave - 1] == 0:
                actions[start + leave - 1] = BUY if side else SELL
                only_leaves[start + leave - 1] = True
            actions[start + entry - 1] = SELL if side else BUY
            only_leaves[start + entry - 1] = False
    return Hindsight(float(profit), trades, actions, only_leaves)


def _by_lines(part: Records, allowed: npt.NDArray[np.bool_], rules: KernelRules) -> Any:
    """One stretch without stop, target and time exit; as `_stretch` answers."""
    opens = np.ascontiguousarray(part["open"])
    paid = np.cumsum(part["funding"] * opens)
    prices, costs = np.append(opens, part["close"][-1]), np.append(paid, paid[-1])
    pairs = [
        _ranks(prices * (1.0 - sign * rules.slippage) * (1.0 - sign * rules.taker_fee) - costs) for sign in (1.0, -1.0)
    ]
    places, xs = np.stack([place for place, _ in pairs]), np.stack([x for _, x in pairs])
    return _stretch(opens, paid, allowed, rules.taker_fee, rules.slippage, rules.reverse_on_opposite, places, xs)


def hindsight_policy(course: Course, rules: KernelRules) -> Scheduled:
    """Plays the optimum of a course through the decision core, where it obeys every rule like anybody else."""
    found = best_in_hindsight(course.market, rules, course.decides)
    rows = np.flatnonzero(found.actions)
    times = course.series.open_ms[rows].tolist()
    actions = {time: Action(code) for time, code in zip(times, found.actions[rows].tolist(), strict=True)}
    only_leaves = frozenset(course.series.open_ms[found.only_leaves].tolist())
    return Scheduled("oracle", actions, only_leaves)
