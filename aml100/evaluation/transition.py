"""One position, one bar, compiled: what SPEC section 6 says, in the order in which it happens.

A step is decided at the close of bar t and ends at the close of bar t+1. It is made of `plan` (what the action means),
`accrue` (funding at the open), `leave`, `enter` and `play` (the range of t+1, stop before target), all acting on one
record of POSITION_DTYPE. Two accountings differ in a few lines:

    unit     a position is ONE unit of notional at its entry's fill price (size = 1 / entry); amounts are fractions
             of that notional and nothing is rounded. For learning.
    account  a position has the size that the account's equity buys, down to the lot; amounts are USD; fees and
             funding are truncated to 6 decimals as the venue does. For back-tests.

Amounts are signed by their effect on the account: a fee paid is negative.
"""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

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


BAR_DTYPE: Final = np.dtype(
    [(name, "f8") for name in ("open", "high", "low", "close", "funding")] + [("ordinal", "i4"), ("follows", "i4")]
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


_UNIT: Final = 300
_TENS: Final = np.array([10.0**power for power in range(-_UNIT, 309)])
"""Powers of ten, from a table: raising to a power is most of what rounding a price costs."""


@njit(cache=True, nogil=True, error_model="numpy")
def round_to_tick(price: float, px_decimals: int) -> float:
    """The nearest price the venue accepts, as domain.units.round_price; a tie is what lies within 1e-8 of one."""
    exponent = math.floor(math.log10(price))
    if _TENS[_UNIT + exponent] > price:
        exponent -= 1
    elif _TENS[_UNIT + exponent + 1] <= price:
        exponent += 1
    decimals = 4 - exponent
    if px_decimals >= 0 and decimals > px_decimals:
        decimals = px_decimals
    scale = _TENS[_UNIT + max(decimals, 0)]
    scaled: float = price * scale
    below = float(math.floor(scaled))
    rest = scaled - below
    if rest > 0.5 + 1e-8 or (rest > 0.5 - 1e-8 and below % 2.0 == 1.0):
        below += 1.0
    rounded: float = below / scale
    return rounded


@njit(cache=True, nogil=True, error_model="numpy")
def _truncate(amount: float) -> float:
    """Toward zero to 6 decimals; the 1e-7 of a step undoes binary rounding of amounts that are exact in decimals."""
    return math.copysign(math.floor(abs(amount) * 1e6 + 1e-7) / 1e6, amount)


@njit(cache=True, nogil=True, error_model="numpy")
def _book(s: Any, step: Any, amount: float) -> None:
    s.net += amount
    s.equity += s.unit * amount
    step.net += amount


@njit(cache=True, nogil=True, error_model="numpy")
def _fee(rule: Any, s: Any, step: Any, fill: float) -> None:
    fee = -rule.taker_fee * s.size * fill
    if rule.account:
        fee = _truncate(fee)
    s.fees += fee
    step.fees += fee
    _book(s, step, fee)


@njit(cache=True, nogil=True, error_model="numpy")
def _move(s: Any, step: Any, origin: float, to: float) -> None:
    amount = s.side * s.size * (to - origin)
    step.price += amount
    _book(s, step, amount)


@njit(cache=True, nogil=True, error_model="numpy")
def leave(rule: Any, s: Any, step: Any, mark: float, level: float, slippage: float, reason: int) -> float:
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


@njit(cache=True, nogil=True, error_model="numpy")
def enter(rule: Any, s: Any, step: Any, side: int, size: float, notional: float, level: float) -> None:
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


@njit(cache=True, nogil=True, error_model="numpy")
def accrue(rule: Any, s: Any, step: Any, bar: Any) -> None:
    """Funding on the notional at the bar's open, before any fill there."""
    if bar.funding != 0.0:
        paid = -s.side * s.size * bar.open * bar.funding
        if rule.account:
            paid = _truncate(paid)
        s.funding += paid
        step.funding += paid
        _book(s, step, paid)


@njit(cache=True, nogil=True, error_model="numpy")
def play(rule: Any, s: Any, step: Any, bar: Any, mark: float) -> float:
    """The range of a bar for a held position last marked at `mark`: stop, else target, else the close as mark.

    Returns the fill price, 0 where the position stays.
    """
    s.bars_held += 1
    if s.stop > 0.0:
        if s.side > 0 and bar.low <= s.stop:
            return leave(rule, s, step, mark, min(s.stop, bar.open), rule.slippage, STOP_LOSS)
        if s.side < 0 and bar.high >= s.stop:
            return leave(rule, s, step, mark, max(s.stop, bar.open), rule.slippage, STOP_LOSS)
    if s.target > 0.0 and ((s.side > 0 and bar.high >= s.target) or (s.side < 0 and bar.low <= s.target)):
        return leave(rule, s, step, mark, s.target, 0.0, TAKE_PROFIT)
    _move(s, step, mark, bar.close)
    return 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def plan(rule: Any, s: Any, bar: Any, action: int) -> tuple[int, int]:
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


@njit(cache=True, nogil=True, error_model="numpy")
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
            leave(rule, s, step, now.close, now.close, rule.slippage, END)
    else:
        after = bars[t + 1]
        leaving, entering = plan(rule, s, now, action)
        mark = now.close
        equity = s.equity
        if s.side != 0:
            accrue(rule, s, step, after)
            if leaving != NOT_CLOSED:
                leave(rule, s, step, mark, after.open, rule.slippage, leaving)
        if entering != 0:
            enter(rule, s, step, entering, 0.0, equity * rule.notional_frac * after.open / now.close, after.open)
            mark = after.open
        if s.side != 0:
            play(rule, s, step, after, mark)
    s.peak = max(s.peak, s.equity)
    step.terminated = 1 if s.equity <= 0.0 else 0
