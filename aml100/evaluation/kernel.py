"""Positions over one market, compiled: fills, stops and targets, time exits, funding, fees and marks (SPEC section 6).

The one idea: a step is decided at the close of bar t and ends at the close of bar t+1, and it is made of four small
parts that every user of this module shares: `_plan` (what the action means), `_leave`, `_enter` and `_play` (the
range of t+1, stop before target). They act on one record of `POSITION_DTYPE`. Two accountings differ in two lines:

    unit     a position is ONE unit of notional at its entry's fill price (size = 1 / entry); amounts are fractions
             of that notional; nothing is rounded. For learning.
    account  a position has the size that the account's equity buys, down to the lot; amounts are USD; fees and
             funding are truncated to 6 decimals as the venue does. For back-tests.

Amounts are signed by their effect on the account: a fee paid is negative. The market does not react to us, so all
three actions of any state at any bar can be priced (`counterfactual`). Only taker entries are played here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from aml100.domain.units import HOUR_MS
from aml100.market.position import POSITION_SIZE, position_features
from aml100.market.series import BarSeries, Floats, FundingSeries, Ints

Records: TypeAlias = npt.NDArray[np.void]

HOLD: Final = 0
BUY: Final = 1
SELL: Final = 2
ACTIONS: Final = 3

NOT_CLOSED: Final = 0
SIGNAL: Final = 1
TAKE_PROFIT: Final = 2
STOP_LOSS: Final = 3
TIME: Final = 4
RISK: Final = 5
END: Final = 6
EXIT_REASONS: Final = ("", "signal", "take_profit", "stop_loss", "time", "risk", "end")
"""Names of the exit codes, by code."""

_MIN_NOTIONAL: Final = 10.0

BAR_DTYPE: Final = np.dtype(
    [(name, "f8") for name in ("open", "high", "low", "close", "funding")] + [("ordinal", "i8"), ("follows", "i8")]
)
"""One bar. `funding` is the rate charged at its open (0 off the full hour), `ordinal` its end in intervals since the
epoch, `follows` 1 where it directly follows the row before."""

RULES_DTYPE: Final = np.dtype(
    [
        *((name, "f8") for name in ("take_profit", "stop_loss", "taker_fee", "slippage", "notional_frac")),
        *((name, "f8") for name in ("max_leverage", "max_notional", "breaker_dd", "hard_dd", "lot")),
        *((name, "i8") for name in ("max_hold", "reverse", "px_decimals", "decision_bars", "pause_bars", "account")),
    ]
)

POSITION_DTYPE: Final = np.dtype(
    [
        *((name, "f8") for name in ("entry", "size", "unit", "stop", "target")),
        *((name, "f8") for name in ("net", "fees", "funding", "equity", "peak")),
        ("bars_held", "i4"),
        ("wins", "i2"),
        ("holds", "i2"),
        ("side", "i1"),
    ],
    align=True,
)
"""State of one position and its account at a bar's close.

`side` is +1 long, -1 short, 0 flat (then entry, size, stop and target mean nothing). `net`, `fees`, `funding`: sums of
the trade under way, or of the last one. `unit`: equity per amount (1 in account mode). `wins` and `holds` in a row.
"""

STEP_DTYPE: Final = np.dtype(
    [
        *((name, "f8") for name in ("net", "price", "slippage", "fees", "funding", "closed_net")),
        ("exit_reason", "i1"),
        ("entered", "i1"),
        ("truncated", "i1"),
        ("terminated", "i1"),
    ],
    align=True,
)
"""What one step brought: net = price + slippage + fees + funding; `closed_net` the net of all trades it closed (whole
trades), `exit_reason` of the last one, `entered` the side it opened. `truncated`: no bar follows. `terminated`: the
account is gone."""


@dataclass(frozen=True, slots=True)
class KernelRules:
    """How positions are opened, protected and closed. Fractions; 0 switches TP, SL, time exit or a limit off.

    `notional_frac` is position size x leverage: the notional of an entry as a fraction of equity. `px_decimals` of -1:
    only the five significant figures bind. Breaker, hard stop and the two caps act in `backtest_signal` only.
    """

    take_profit: float = 0.018
    stop_loss: float = 0.006
    taker_fee: float = 0.00045
    slippage: float = 0.0001
    notional_frac: float = 0.4
    max_hold: int = 720
    reverse_on_opposite: bool = False
    decision_bars: int = 1
    sz_decimals: int = 5
    px_decimals: int = -1
    max_leverage: float = 0.0
    max_notional: float = 0.0
    breaker_dd: float = 0.0
    hard_dd: float = 0.0
    breaker_pause_bars: int = 0

    def as_record(self, *, account: bool = False) -> Records:
        """The rules as the compiled functions take them, shape [1]; `account` picks the accounting."""
        record = np.zeros(1, RULES_DTYPE)
        for name in ("take_profit", "stop_loss", "taker_fee", "slippage", "notional_frac"):
            record[name] = getattr(self, name)
        for name in ("max_leverage", "max_notional", "breaker_dd", "hard_dd"):
            record[name] = getattr(self, name)
        record["lot"] = 10.0**self.sz_decimals
        record["max_hold"] = self.max_hold
        record["reverse"] = self.reverse_on_opposite
        record["px_decimals"] = self.px_decimals
        record["decision_bars"] = self.decision_bars
        record["pause_bars"] = self.breaker_pause_bars
        record["account"] = account
        return record


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """One coin's bars as the kernel reads them: `bars` of BAR_DTYPE [T]."""

    bars: Records
    open_ms: Ints
    interval_ms: int

    def __len__(self) -> int:
        return len(self.bars)

    @staticmethod
    def from_series(series: BarSeries, funding: FundingSeries | None = None, constant_rate: float = 0.0) -> Market:
        """Lay bars and funding out row by row.

        Args:
            funding: hourly rates; an hour that it does not list costs nothing.
            constant_rate: charged at each full hour where `funding` is None.
        """
        bars = np.zeros(len(series), BAR_DTYPE)
        for name in ("open", "high", "low", "close"):
            bars[name] = getattr(series, name)
        bars["ordinal"] = series.open_ms // series.interval_ms + 1
        bars["follows"][1:] = np.diff(series.open_ms) == series.interval_ms
        full_hour = series.open_ms % HOUR_MS == 0
        if funding is None:
            bars["funding"] = np.where(full_hour, constant_rate, 0.0)
        elif len(funding.time_ms):
            row = np.minimum(np.searchsorted(funding.time_ms, series.open_ms), len(funding.time_ms) - 1)
            bars["funding"] = np.where(funding.time_ms[row] == series.open_ms, funding.rate[row], 0.0)
        return Market(bars, series.open_ms, series.interval_ms)


def flat_positions(count: int, equity: float = 1.0) -> Records:
    """Fresh accounts without a position, POSITION_DTYPE [count]."""
    states = np.zeros(count, POSITION_DTYPE)
    states["equity"] = equity
    states["peak"] = equity
    return states


@njit(cache=True, nogil=True)
def round_to_tick(price: float, px_decimals: int) -> float:
    """The nearest price the venue accepts, as domain.units.round_price; a tie is what lies within 1e-8 of one."""
    exponent = math.floor(math.log10(price))
    if 10.0**exponent > price:
        exponent -= 1
    elif 10.0 ** (exponent + 1) <= price:
        exponent += 1
    decimals = 4 - exponent
    if px_decimals >= 0 and decimals > px_decimals:
        decimals = px_decimals
    decimals = max(decimals, 0)
    scale = 10.0**decimals
    scaled = price * scale
    below = float(math.floor(scaled))
    rest = scaled - below
    if rest > 0.5 + 1e-8 or (rest > 0.5 - 1e-8 and below % 2.0 == 1.0):
        below += 1.0
    return below / scale


@njit(cache=True, nogil=True)
def _truncate(amount: float) -> float:
    """Toward zero to 6 decimals; the 1e-7 of a step undoes binary rounding of amounts that are exact in decimals."""
    return math.copysign(math.floor(abs(amount) * 1e6 + 1e-7) / 1e6, amount)


@njit(cache=True, nogil=True)
def _book(s: Any, step: Any, amount: float) -> None:
    s.net += amount
    s.equity += s.unit * amount
    step.net += amount


@njit(cache=True, nogil=True)
def _fee(rule: Any, s: Any, step: Any, fill: float) -> None:
    fee = -rule.taker_fee * s.size * fill
    if rule.account:
        fee = _truncate(fee)
    s.fees += fee
    step.fees += fee
    _book(s, step, fee)


@njit(cache=True, nogil=True)
def _move(s: Any, step: Any, origin: float, to: float) -> None:
    amount = s.side * s.size * (to - origin)
    step.price += amount
    _book(s, step, amount)


@njit(cache=True, nogil=True)
def _leave(rule: Any, s: Any, step: Any, mark: float, level: float, slippage: float, reason: int) -> float:
    """Close the position, last marked at `mark`, at `level` worsened by `slippage`; return the fill price."""
    fill: float = level * (1.0 - s.side * slippage)
    _move(s, step, mark, level)
    slipped = s.side * s.size * (fill - level)
    step.slippage += slipped
    _book(s, step, slipped)
    _fee(rule, s, step, fill)
    step.closed_net += s.net
    step.exit_reason = reason
    s.wins = min(s.wins + 1, 32_000) if s.net > 0.0 else 0
    s.side = 0
    return fill


@njit(cache=True, nogil=True)
def _enter(rule: Any, s: Any, step: Any, side: int, size: float, notional: float, level: float) -> None:
    """Open `side` at `level` worsened by slippage and mark it there.

    `size` in coin; 0 means one unit of notional, for which the account would have bought `notional` / `level`.
    """
    fill = level * (1.0 + side * rule.slippage)
    if size > 0.0:
        s.size = size
        s.unit = 1.0
    else:
        s.size = 1.0 / fill
        s.unit = notional * fill / level
    s.side = side
    s.entry = fill
    s.bars_held = 0
    s.net = 0.0
    s.fees = 0.0
    s.funding = 0.0
    s.stop = round_to_tick(fill * (1.0 - side * rule.stop_loss), rule.px_decimals) if rule.stop_loss > 0.0 else 0.0
    s.target = (
        round_to_tick(fill * (1.0 + side * rule.take_profit), rule.px_decimals) if rule.take_profit > 0.0 else 0.0
    )
    slipped = side * s.size * (level - fill)
    step.slippage += slipped
    _book(s, step, slipped)
    _fee(rule, s, step, fill)
    step.entered = side


@njit(cache=True, nogil=True)
def _accrue(rule: Any, s: Any, step: Any, bar: Any) -> None:
    """Funding on the notional at the bar's open, before any fill there."""
    if bar.funding != 0.0:
        paid = -s.side * s.size * bar.open * bar.funding
        if rule.account:
            paid = _truncate(paid)
        s.funding += paid
        step.funding += paid
        _book(s, step, paid)


@njit(cache=True, nogil=True)
def _play(rule: Any, s: Any, step: Any, bar: Any, mark: float) -> float:
    """The range of a bar for a held position last marked at `mark`: stop, else target, else the close as mark.

    Returns the fill price, 0 where the position stays.
    """
    s.bars_held += 1
    if s.stop > 0.0:
        if s.side > 0 and bar.low <= s.stop:
            return _leave(rule, s, step, mark, min(s.stop, bar.open), rule.slippage, STOP_LOSS)
        if s.side < 0 and bar.high >= s.stop:
            return _leave(rule, s, step, mark, max(s.stop, bar.open), rule.slippage, STOP_LOSS)
    if s.target > 0.0 and ((s.side > 0 and bar.high >= s.target) or (s.side < 0 and bar.low <= s.target)):
        return _leave(rule, s, step, mark, s.target, 0.0, TAKE_PROFIT)
    _move(s, step, mark, bar.close)
    return 0.0


@njit(cache=True, nogil=True)
def _plan(rule: Any, s: Any, bar: Any, action: int) -> tuple[int, int]:
    """What is done at the next open, decided at this bar's close: (exit reason or NOT_CLOSED, side to open or 0)."""
    decides = rule.decision_bars <= 1 or bar.ordinal % rule.decision_bars == 0
    if decides:
        s.holds = min(s.holds + 1, 32_000) if action == HOLD else 0
    if s.side != 0 and rule.max_hold > 0 and s.bars_held >= rule.max_hold:
        return TIME, 0
    if not decides or action == HOLD:
        return NOT_CLOSED, 0
    wanted = 1 if action == BUY else -1
    if s.side == 0:
        return NOT_CLOSED, wanted
    if s.side == wanted:
        return NOT_CLOSED, 0
    return SIGNAL, wanted if rule.reverse else 0


@njit(cache=True, nogil=True)
def advance(bars: Any, rule: Any, t: int, action: int, s: Any, step: Any) -> None:
    """One step of a unit position, in place: decided at the close of bar t, ends at the close of bar t+1.

    Where no bar follows, the position is closed at the close of bar t and the step is truncated.
    """
    step.net = step.price = step.slippage = step.fees = step.funding = step.closed_net = 0.0
    step.exit_reason = step.entered = step.truncated = step.terminated = 0
    now = bars[t]
    if t + 1 >= bars.shape[0] or bars[t + 1].follows == 0:
        step.truncated = 1
        if s.side != 0:
            _leave(rule, s, step, now.close, now.close, rule.slippage, END)
    else:
        after = bars[t + 1]
        leaving, entering = _plan(rule, s, now, action)
        mark = now.close
        equity = s.equity
        if s.side != 0:
            _accrue(rule, s, step, after)
            if leaving != NOT_CLOSED:
                _leave(rule, s, step, mark, after.open, rule.slippage, leaving)
        if entering != 0:
            _enter(rule, s, step, entering, 0.0, equity * rule.notional_frac * after.open / now.close, after.open)
            mark = after.open
        if s.side != 0:
            _play(rule, s, step, after, mark)
    s.peak = max(s.peak, s.equity)
    step.terminated = 1 if s.equity <= 0.0 else 0


@njit(cache=True, nogil=True)
def _counterfactual(bars: Any, rules: Any, t: Any, states: Any, following: Any, steps: Any) -> None:
    rule = rules[0]
    for row in range(t.shape[0]):
        for action in range(ACTIONS):
            following[row, action] = states[row]
            advance(bars, rule, t[row], action, following[row, action], steps[row, action])


@njit(cache=True, nogil=True)
def _step_batch(bars: Any, rules: Any, t: Any, states: Any, actions: Any, steps: Any) -> None:
    rule = rules[0]
    for row in range(t.shape[0]):
        advance(bars, rule, t[row], actions[row], states[row], steps[row])


@njit(cache=True, nogil=True)
def _position_rows(states: Any, close: Any, out: Any) -> None:
    for row in range(states.shape[0]):
        s = states[row]
        drawdown = max(0.0, 1.0 - s.equity / s.peak)
        position_features(
            s.side, s.entry, close[row], s.bars_held, s.target, s.stop, drawdown, s.wins, s.holds, out[row]
        )


def counterfactual(
    market: Market,
    rules: Records,
    t: Ints,
    states: Records,
    following: Records | None = None,
    steps: Records | None = None,
) -> tuple[Records, Records]:
    """What each of the three actions would bring, exactly, for many positions at once.

    Args:
        rules: `KernelRules.as_record()`, shape [1].
        t: row of the decision bar of each position, int64 [B]; rows may repeat.
        states: POSITION_DTYPE [B], left untouched.
        following, steps: reused outputs of shape [B, 3], or None to allocate.

    Returns: the states at the close of t + 1, POSITION_DTYPE [B, 3], and the steps, STEP_DTYPE [B, 3], both by
        action. Where nothing follows bar t the three are equal and truncated.
    """
    _check_rows(market, t)
    shape = (len(t), ACTIONS)
    following = np.empty(shape, POSITION_DTYPE) if following is None else following
    steps = np.empty(shape, STEP_DTYPE) if steps is None else steps
    _counterfactual(market.bars, rules, t, states, following, steps)
    return following, steps


def step_batch(
    market: Market,
    rules: Records,
    t: Ints,
    states: Records,
    actions: npt.NDArray[np.int8],
    steps: Records | None = None,
) -> Records:
    """Advance many positions by one bar, in place; `t` stays the caller's. Returns the steps, STEP_DTYPE [B]."""
    _check_rows(market, t)
    steps = np.empty(len(t), STEP_DTYPE) if steps is None else steps
    _step_batch(market.bars, rules, t, states, actions, steps)
    return steps


def position_rows(
    states: Records, close: Floats, out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """The policy's view of each position at `close` [B]: float32 [B, POSITION_SIZE] of market.position."""
    out = np.empty((len(states), POSITION_SIZE), np.float32) if out is None else out
    _position_rows(states, close, out)
    return out


def _check_rows(market: Market, t: Ints) -> None:
    """Compiled code does not look where it reads."""
    if len(t) and (t.min() < 0 or t.max() >= len(market)):
        raise IndexError(f"bar rows must lie in [0, {len(market)}), not [{t.min()}, {t.max()}]")
