"""The fast back-test of a signal that is known beforehand: one account, one market, exact sizes and fees.

The rules are the kernel's, in account mode. What makes it fast is that most bars change nothing: while the account is
flat and the signal says HOLD, and while a position is held and nothing touches it, the loop only writes the equity.
The guards of section 9 that count trades, losses or seconds need the decision core.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aml100.evaluation.kernel import KernelRules, Market, flat_positions
from aml100.evaluation.transition import (
    END,
    HALTED,
    HOLD,
    MIN_NOTIONAL,
    NOT_CLOSED,
    RISK,
    STEP_DTYPE,
    Records,
    at_open,
    decide,
    fill,
    guard,
    has_options,
    is_met,
    leave,
    open_entry,
    play,
    scaled_down,
    trailing_stop,
)
from aml100.market.compiled import compiled
from aml100.market.series import Floats

TRADE_DTYPE: Final = np.dtype(
    [
        ("entry_row", "i8"),
        ("exit_row", "i8"),
        *((name, "f8") for name in ("entry_price", "exit_price", "size")),
        *((name, "f8") for name in ("net", "fees", "funding", "entry_fee")),
        ("bars_held", "i4"),
        ("side", "i1"),
        ("exit_reason", "i1"),
        ("is_maker", "i1"),
    ],
    align=True,
)
"""A round trip: filled at the open of `entry_row`, or in its range where `is_maker`; left in `exit_row` (at its open
for signal, time and risk, inside it for stop and target, at its close for end). `fees` and `funding` are signed by
effect: a fee paid is negative."""


@dataclass(frozen=True, slots=True, eq=False)
class SignalResult:
    """Equity at each bar's close [T], signed size held at it [T], and the round trips, TRADE_DTYPE [trades]."""

    equity: Floats
    position: Floats
    trades: Records


@compiled(error_model="numpy")
def entry_size(rule: Any, s: Any, multiplier: float, close: float, others: float) -> float:
    """Coins that an entry decided at `close` buys, down to the lot; 0 where it is refused.

    `others`: what other positions of the account hold, USD; it counts towards the leverage.
    """
    equity = s.equity
    notional = equity * rule.notional_frac * multiplier * scaled_down(rule, s)
    if rule.max_notional > 0.0:
        notional = min(notional, rule.max_notional)
    if rule.max_leverage > 0.0:
        notional = min(notional, equity * rule.max_leverage - others)
    size = math.floor(notional / close * rule.lot + 1e-7) / rule.lot
    return size if size * close >= MIN_NOTIONAL - 1e-9 else 0.0


@compiled(error_model="numpy")
def begin_trade(s: Any, trade: Any, row: int, is_maker: int) -> None:
    trade.entry_row = row
    trade.is_maker = is_maker
    trade.side = s.side
    trade.entry_price = s.entry
    trade.size = s.size
    trade.entry_fee = s.fees


@compiled(error_model="numpy")
def finish_trade(s: Any, trade: Any, row: int, price: float, reason: int) -> None:
    trade.exit_row = row
    trade.exit_price = price
    trade.exit_reason = reason
    trade.net = s.net
    trade.fees = s.fees
    trade.funding = s.funding
    trade.bars_held = s.bars_held


@compiled(error_model="numpy")
def _skip_flat(actions: Any, t: int, last: int, level: float, equity: Any, position: Any) -> int:
    """Write a flat account's rows until the signal wants something; return the row of that decision."""
    while t < last and actions[t] == HOLD:
        t += 1
        equity[t] = level
        position[t] = 0.0
    return t


@compiled(error_model="numpy")
def is_last(bars: Any, row: int) -> bool:
    """Whether no bar follows this row: its close is marked and guarded like any other, then a position is closed."""
    last: bool = row + 1 >= bars.shape[0] or bars[row + 1].follows == 0
    return last


@compiled(error_model="numpy")
def _skip_held(bars: Any, rule: Any, actions: Any, t: int, s: Any, floor: float, equity: Any, position: Any) -> int:
    """Write a held position's rows while nothing happens to it; return the last row written (or `t`).

    Nothing happens as long as the next bar follows, is off the full hour, touches neither stop nor target, the
    signal does not oppose, the time is not up and the equity stays above `floor` (a fraction of its peak).
    """
    same = 1 if s.side > 0 else 2
    quantity = s.side * s.size
    stop, target = s.stop, s.target
    low_bound = stop if s.side > 0 else target
    high_bound = target if s.side > 0 else stop
    if high_bound == 0.0:
        high_bound = np.inf
    base = s.equity - quantity * bars[t].close
    stay = bars.shape[0] - 1
    if rule.max_hold > 0:
        stay = min(stay, t + rule.max_hold - s.bars_held)
    peak = s.peak
    level = s.equity
    row = t
    while row < stay and (actions[row] == HOLD or actions[row] == same):
        bar = bars[row + 1]
        if bar.low <= low_bound or bar.high >= high_bound or bar.funding != 0.0 or bar.follows == 0:
            break
        level = base + quantity * bar.close
        row += 1
        equity[row] = level
        position[row] = quantity
        peak = max(peak, level)
        if level <= floor * peak:
            break
    if row > t:
        s.bars_held += row - t
        s.net += level - s.equity
        s.equity = level
        s.peak = peak
    return row


@compiled(error_model="numpy")
def _walk(
    bars: Any,
    rules: Any,
    actions: Any,
    confidence: Any,
    start: int,
    states: Any,
    steps: Any,
    equity: Any,
    position: Any,
    trades: Any,
) -> int:
    """The account over the rows from `start` on; returns the number of trades."""
    rule = rules[0]
    s = states[0]
    step = steps[0]
    last = bars.shape[0] - 1
    limit = min(rule.breaker_dd if rule.breaker_dd > 0.0 else 2.0, rule.hard_dd if rule.hard_dd > 0.0 else 2.0)
    floor = 1.0 - limit
    hard_floor = 1.0 - rule.hard_dd if rule.hard_dd > 0.0 else -1.0
    trails = trailing_stop(rule) > 0.0
    count = 0
    t = start
    while t < last or s.side != 0:
        paused = s.paused_until
        if paused == HALTED or s.equity > s.peak * (hard_floor if paused > 0 else floor):
            if s.side != 0:
                if paused == 0 and not trails:
                    t = _skip_held(bars, rule, actions, t, s, floor, equity, position)
            elif s.resting == 0:
                t = _skip_flat(actions, t, last, s.equity, equity, position)
        if t == last and s.side == 0:
            break
        now = bars[t]
        if is_last(bars, t):
            s.resting = 0
            guard(rule, s, now.ordinal)
            if s.side != 0:
                price = leave(rule, s, step, now.close, now.close, rule.slippage, END)
                finish_trade(s, trades[count], t, price, END)
                count += 1
                equity[t] = s.equity
                position[t] = 0.0
            s.peak = max(s.peak, s.equity)
            if t < last:
                t += 1
                equity[t] = s.equity
                position[t] = 0.0
            continue
        after = bars[t + 1]
        leaving, entering, taken = decide(rule, s, now, actions[t])
        if guard(rule, s, now.ordinal):
            leaving, entering = (RISK if s.side != 0 else NOT_CLOSED), 0
            s.resting = 0
        size = 0.0
        if entering != 0:
            multiplier = confidence[t] if confidence.shape[0] else 1.0
            size = s.size if taken else entry_size(rule, s, multiplier, now.close, 0.0)
        mark = now.close
        if s.side != 0:
            price = at_open(rule, bars, t, s, step, leaving)
            if price > 0.0:
                finish_trade(s, trades[count], t + 1, price, step.exit_reason)
                count += 1
        t += 1
        if size > 0.0 and open_entry(rule, s, step, entering, taken, size, 0.0, 0.0, now, after):
            begin_trade(s, trades[count], t, 0)
            mark = after.open
        if has_options(rule) and s.resting != 0 and is_met(s, after):
            fill(rule, s, step)
            begin_trade(s, trades[count], t, 1)
            mark = s.entry
        if s.side != 0:
            price = play(rule, s, step, after, mark)
            if price > 0.0:
                finish_trade(s, trades[count], t, price, step.exit_reason)
                count += 1
        s.peak = max(s.peak, s.equity)
        equity[t] = s.equity
        position[t] = s.side * s.size
    return count


def backtest_signal(
    market: Market,
    rules: KernelRules,
    actions: npt.NDArray[np.int8],
    *,
    start: int = 0,
    initial_equity: float = 10_000.0,
    confidence: Floats | None = None,
) -> SignalResult:
    """Trade a fixed signal with account sizing, from the decision at the close of row `start` on.

    Args:
        actions: int8 [T]; 0 HOLD, 1 BUY, 2 SELL. After a gap the caller says HOLD until its features are complete.
        confidence: size multiplier of an entry decided at each row, float64 [T]; None for 1.

    Raises: ValueError where shapes do not match the market, or `start` lies outside it.
    """
    n = len(market)
    if actions.shape != (n,) or (confidence is not None and confidence.shape != (n,)):
        raise ValueError(f"the signal must have one value for each of the {n} bars")
    if not 0 <= start < n:
        raise ValueError(f"start must lie in [0, {n}), not {start}")
    equity, position = np.empty(n), np.empty(n)
    equity[: start + 1] = initial_equity
    position[: start + 1] = 0.0
    trades = np.empty(2 * n, TRADE_DTYPE)
    count = _walk(
        market.bars,
        rules.as_record(account=True),
        actions,
        np.zeros(0) if confidence is None else confidence,
        start,
        flat_positions(1, initial_equity),
        np.zeros(1, STEP_DTYPE),
        equity,
        position,
        trades,
    )
    return SignalResult(equity, position, trades[:count].copy())
