"""One position, one bar, compiled: what SPEC section 6 says, in the order in which it happens.

A step is decided at the close of bar t and ends at the close of bar t+1. It is made of `decide` (what is to be done),
`guard` (breaker and hard stop), `at_open` (the trailing stop moves, funding, exits), `enter` or `rest` (an entry taken
at once, or put into the book), `is_met` and `fill` (the market trades through it) and `play` (the range of t+1, stop
before target), all acting on one record of POSITION_DTYPE. Two accountings differ in a few lines:

    unit     a position is ONE unit of notional at its entry's fill price (size = 1 / entry); amounts are fractions
             of that notional and nothing is rounded. For learning.
    account  a position has the size that the account's equity buys, down to the lot; amounts are USD; fees and
             funding are truncated to 6 decimals as the venue does. For back-tests.

Amounts are signed by their effect on the account: a fee paid is negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from numba.extending import overload

from aml100.evaluation.rounding import passive_price, round_to_tick, truncate
from aml100.market.compiled import compiled

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


TAKER: Final = 0
MAKER: Final = 1
MAKER_THEN_TAKER: Final = 2
ENTRY_STYLES: Final = ("taker", "maker", "maker_then_taker")
"""Names of the entry styles, by code."""

HALTED: Final = 2**31 - 1
"""`paused_until` of an account that the hard stop has ended."""

WIDEST_STOP: Final = 0.5
"""Fraction of the entry: a stop by ATR is never farther away."""
MIN_NOTIONAL: Final = 10.0
"""USD: the venue takes nothing smaller."""

BAR_DTYPE: Final = np.dtype(
    [(name, "f8") for name in ("open", "high", "low", "close", "funding")] + [("ordinal", "i4"), ("follows", "i4")]
)
"""One bar. `funding` is the rate charged at its open (0 off the full hour), `ordinal` its end in intervals since the
epoch, `follows` 1 where it directly follows the row before."""


def _extended(base: np.dtype[np.void], *more: tuple[str, str]) -> np.dtype[np.void]:
    """`base` with more fields. They stand in front: behind, compiled code would take one for the other."""
    return np.dtype([*more, *((name, base[name]) for name in base.names or ())])


ATR_BAR_DTYPE: Final = _extended(BAR_DTYPE, ("atr", "f8"))
"""A bar with its ATR(14), a fraction of its close, 0 where it is not known: what stops by ATR need."""

RULES_DTYPE: Final = np.dtype(
    [
        *((name, "f8") for name in ("take_profit", "stop_loss", "taker_fee", "slippage", "notional_frac")),
        *((name, "f8") for name in ("max_leverage", "max_notional", "breaker_dd", "hard_dd", "lot")),
        *((name, "i8") for name in ("max_hold", "reverse", "px_decimals", "decision_bars", "pause_bars", "account")),
    ]
)
"""The rules that every run has."""

OPTIONS_DTYPE: Final = _extended(
    RULES_DTYPE,
    *((name, "f8") for name in ("maker_fee", "atr_stop", "trailing_stop", "scaling_floor")),
    *((name, "i8") for name in ("entry_style", "maker_bars")),
)
"""The same with what is off by default: resting entries, stops by ATR, trailing stops, sizes that shrink with the
drawdown, for unit positions breaker and hard stop, and stops so near that slippage passes them. Compiled code is
specialised by the record's type, so that who uses none of it does not pay for it: `has_options` and the readers below
are constants where the fields are absent."""

POSITION_DTYPE: Final = np.dtype(
    [
        *((name, "f8") for name in ("entry", "size", "unit", "stop", "target")),
        *((name, "f8") for name in ("net", "fees", "funding", "equity", "peak")),
        ("bars_held", "i4"),
        ("wins", "i2"),
        ("holds", "i2"),
        ("side", "i1"),
        ("resting", "i1"),
        ("beyond", "i1"),
        ("paused_until", "i4"),
    ],
    align=True,
)
"""State of one position and its account at a bar's close.

`side` is +1 long, -1 short, 0 flat. `net`, `fees`, `funding`: sums of the trade under way, or of the last one. `unit`:
equity per amount (1 in account mode). `wins` and `holds` in a row. `resting` is the side of an entry in the book while
flat: entry, size, unit, stop and target are then what it will have, `bars_held` how many bars it has waited; without
one they mean nothing. `beyond`: the market had reached the stop that the entry's fill asked for, so the one priced from
the decision's close stays. `paused_until`: the breaker's pause ends with the bar of this ordinal, 0 for none.
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


def has_options(rule: Any) -> bool:
    """Whether the record is of OPTIONS_DTYPE; known when the code that asks is compiled."""
    raise NotImplementedError("for compiled code only")


@overload(has_options, strict=False)
def _has_options(rule: Any) -> Any:
    present = "entry_style" in rule.fields
    return lambda rule: present


def _reader(name: str, default: float) -> Callable[[Any], Any]:
    """Reads an optional rule: a field where the record has it, else a constant."""

    def read(rule: Any) -> Any:
        raise NotImplementedError("for compiled code only")

    @overload(read, strict=False)
    def _read(rule: Any) -> Any:
        return (lambda rule: rule[name]) if name in rule.fields else (lambda rule: default)

    return read


_atr_of = _reader("atr", 0.0)
_maker_fee = _reader("maker_fee", 0.0)
_atr_stop = _reader("atr_stop", 0.0)
trailing_stop = _reader("trailing_stop", 0.0)
_scaling_floor = _reader("scaling_floor", 1.0)
_entry_style = _reader("entry_style", TAKER)
_maker_bars = _reader("maker_bars", 0)


@compiled(error_model="numpy")
def _book(s: Any, step: Any, amount: float) -> None:
    s.net += amount
    s.equity += s.unit * amount
    step.net += amount


@compiled(error_model="numpy")
def _fee(rule: Any, s: Any, step: Any, fill: float, rate: float) -> None:
    fee = -rate * s.size * fill
    if rule.account:
        fee = truncate(fee)
    s.fees += fee
    step.fees += fee
    _book(s, step, fee)


@compiled(error_model="numpy")
def _move(s: Any, step: Any, origin: float, to: float) -> None:
    amount = s.side * s.size * (to - origin)
    step.price += amount
    _book(s, step, amount)


@compiled(error_model="numpy")
def leave(rule: Any, s: Any, step: Any, mark: float, level: float, slippage: float, reason: int) -> float:
    """Close the position, last marked at `mark`, at `level` worsened by `slippage`; return the fill price."""
    fill: float = level * (1.0 - s.side * slippage)
    _move(s, step, mark, level)
    slipped = s.side * s.size * (fill - level)
    step.slippage += slipped
    _book(s, step, slipped)
    _fee(rule, s, step, fill, rule.taker_fee)
    step.closed_net += s.net
    step.exit_reason = reason
    s.wins = min(s.wins + 1, 32_000) if s.net > 0.0 else 0
    s.side = 0
    return fill


@compiled(error_model="numpy")
def stop_distance(rule: Any, bar: Any) -> float:
    """Of a stop from its entry, a fraction: fixed, or by the ATR of the bar that decides the entry; 0 for none."""
    if _atr_stop(rule) > 0.0:
        distance: float = math.floor(min(_atr_stop(rule) * _atr_of(bar), WIDEST_STOP) * 1e6 + 0.5) / 1e6
        if distance > 0.0:
            return distance
    fixed: float = rule.stop_loss
    return fixed


@compiled(error_model="numpy")
def _level(rule: Any, base: float, move: float) -> float:
    level: float = round_to_tick(base * (1.0 + move), rule.px_decimals)
    return level


@compiled(error_model="numpy")
def scaled_down(rule: Any, s: Any) -> float:
    """Share of an entry's size that the account's drawdown leaves: 1 at the peak, the floor at the breaker's."""
    limit = rule.breaker_dd if rule.breaker_dd > 0.0 else rule.hard_dd
    if _scaling_floor(rule) >= 1.0 or limit <= 0.0:
        return 1.0
    fallen: float = min((1.0 - s.equity / s.peak) / limit, 1.0)
    share: float = math.floor((1.0 - (1.0 - _scaling_floor(rule)) * fallen) * 1e6 + 0.5) / 1e6
    return share


@compiled(error_model="numpy")
def enter(
    rule: Any, s: Any, step: Any, side: int, size: float, coins: float, level: float, close: float, distance: float
) -> None:
    """Open `side` at `level` worsened by slippage and mark it there.

    `size` in coin; 0 means one unit of notional, for which the account would have bought so many `coins`. The stop lies
    `distance` from the fill; a venue takes none that the market has reached, then the one counted from the
    decision's `close` stays, and so does the target.
    """
    fill = level * (1.0 + side * rule.slippage)
    if size > 0.0:
        s.size = size
        s.unit = 1.0
    else:
        s.size = 1.0 / fill
        s.unit = coins * fill
    s.side = side
    s.entry = fill
    s.bars_held = 0
    s.net = 0.0
    s.fees = 0.0
    s.funding = 0.0
    s.stop = _level(rule, fill, -side * distance) if distance > 0.0 else 0.0
    s.target = _level(rule, fill, side * rule.take_profit) if rule.take_profit > 0.0 else 0.0
    if has_options(rule):
        s.beyond = 1 if distance > 0.0 and side * (level - s.stop) <= 0.0 else 0
        if s.beyond:
            s.stop = _level(rule, close, -side * distance)
        if rule.take_profit > 0.0 and side * (s.target - level) <= 0.0:
            s.target = _level(rule, close, side * rule.take_profit)
    slipped = side * s.size * (level - fill)
    step.slippage += slipped
    _book(s, step, slipped)
    _fee(rule, s, step, fill, rule.taker_fee)
    step.entered = side


@compiled(error_model="numpy")
def rest(rule: Any, s: Any, side: int, size: float, coins: float, now: Any, after: Any) -> bool:
    """Put a post-only entry at the decision's close into the book at the next open; False where the venue refuses it.

    It does where the order would match at once, or is too small. `size` and `coins` as for `enter`.
    """
    price = passive_price(now.close, side, rule.px_decimals)
    crosses = side * (price - after.open * (1.0 + side * rule.slippage)) >= -1e-12 * price
    if crosses or (size > 0.0 and price * size < MIN_NOTIONAL - 1e-9):
        return False
    distance = stop_distance(rule, now)
    s.resting = side
    s.entry = price
    s.size = size if size > 0.0 else 1.0 / price
    s.unit = 1.0 if size > 0.0 else coins * price
    s.bars_held = 0
    s.stop = _level(rule, price, -side * distance) if distance > 0.0 else 0.0
    s.target = _level(rule, price, side * rule.take_profit) if rule.take_profit > 0.0 else 0.0
    return True


@compiled(error_model="numpy")
def open_entry(
    rule: Any, s: Any, step: Any, side: int, taken: bool, size: float, coins: float, others: float, now: Any, after: Any
) -> bool:
    """Carry out an entry at the open after its decision; whether it is a position at once, else it rests or is refused.

    `taken`: its time in the book is over. What is taken after resting, or in place of it, is asked again whether the
    account can carry it beside `others`, USD of its other positions. `size` and `coins` as for `enter`.
    """
    if _entry_style(rule) != TAKER:
        if not taken and (rest(rule, s, side, size, coins, now, after) or _entry_style(rule) == MAKER):
            return False
        worth = size * now.close
        too_much = rule.max_leverage > 0.0 and worth + others > s.equity * rule.max_leverage * (1.0 + 1e-12)
        if size > 0.0 and (too_much or worth < MIN_NOTIONAL - 1e-9):
            return False
    level = after.open
    enter(rule, s, step, side, size, coins, level, now.close, stop_distance(rule, now))
    return True


@compiled(error_model="numpy")
def is_met(s: Any, bar: Any) -> bool:
    """Whether this bar trades through the resting entry; else it has waited one bar more."""
    met: bool = bar.low < s.entry if s.resting > 0 else bar.high > s.entry
    if not met:
        s.bars_held += 1
    return met


@compiled(error_model="numpy")
def fill(rule: Any, s: Any, step: Any) -> None:
    """The resting entry fills at its price, as maker; mark the position there."""
    s.side = s.resting
    s.resting = 0
    s.beyond = 0
    s.bars_held = 0
    s.net = 0.0
    s.fees = 0.0
    s.funding = 0.0
    _fee(rule, s, step, s.entry, _maker_fee(rule))
    step.entered = s.side


@compiled(error_model="numpy")
def accrue(rule: Any, s: Any, step: Any, bar: Any) -> None:
    """Funding on the notional at the bar's open, before any fill there."""
    if bar.funding != 0.0:
        paid = -s.side * s.size * bar.open * bar.funding
        if rule.account:
            paid = truncate(paid)
        s.funding += paid
        step.funding += paid
        _book(s, step, paid)


@compiled(error_model="numpy")
def play(rule: Any, s: Any, step: Any, bar: Any, mark: float) -> float:
    """The range of a bar for a held position last marked at `mark`: stop, else target, else the close as mark.

    A bar that opens at the stop or beyond it is left at its open, and was not held. Returns the fill price, 0 where
    the position stays.
    """
    if s.stop > 0.0 and s.side * (s.stop - bar.open) >= 0.0:
        return leave(rule, s, step, mark, bar.open, rule.slippage, STOP_LOSS)
    s.bars_held += 1
    if s.stop > 0.0 and ((s.side > 0 and bar.low <= s.stop) or (s.side < 0 and bar.high >= s.stop)):
        return leave(rule, s, step, mark, s.stop, rule.slippage, STOP_LOSS)
    if s.target > 0.0 and ((s.side > 0 and bar.high >= s.target) or (s.side < 0 and bar.low <= s.target)):
        return leave(rule, s, step, mark, s.target, 0.0, TAKE_PROFIT)
    _move(s, step, mark, bar.close)
    return 0.0


@compiled(error_model="numpy")
def trail(rule: Any, bars: Any, t: int, s: Any) -> bool:
    """The stop follows the close of bar t where that makes it tighter, never back; whether it moves."""
    if s.stop == 0.0:
        return False
    level = _level(rule, bars[t].close, -s.side * trailing_stop(rule))
    if s.beyond and t > 0:
        owed = _level(rule, s.entry, -s.side * stop_distance(rule, bars[t - 1]))
        level = max(level, owed) if s.side > 0 else min(level, owed)
    s.beyond = 0
    if s.side * (level - s.stop) <= 0.0:
        return False
    s.stop = level
    return True


@compiled(error_model="numpy")
def at_open(rule: Any, bars: Any, t: int, s: Any, step: Any, leaving: int) -> float:
    """What happens to a position at the open of bar t+1; returns the fill price, 0 where it stays.

    The trailing stop is moved, funding paid, and the position left for the reason that `plan` gave; a trailing stop
    that the market has passed by then does at once what it would have done.
    """
    now, after = bars[t], bars[t + 1]
    moved = False
    if leaving == NOT_CLOSED and trailing_stop(rule) > 0.0:
        moved = trail(rule, bars, t, s)
    accrue(rule, s, step, after)
    if moved and s.side * (after.open - s.stop) <= 0.0:
        leaving = STOP_LOSS
    if leaving == NOT_CLOSED:
        return 0.0
    return leave(rule, s, step, now.close, after.open, rule.slippage, leaving)


@compiled(error_model="numpy")
def guard(rule: Any, s: Any, ordinal: int) -> bool:
    """Breaker and hard stop at the close that ends at `ordinal`: whether nothing may be held or opened now."""
    if rule.breaker_dd <= 0.0 and rule.hard_dd <= 0.0:
        return False
    if s.paused_until == HALTED:
        return True
    if 0 < s.paused_until <= ordinal:
        s.paused_until = 0
        s.peak = s.equity
    fallen = 1.0 - s.equity / s.peak
    if rule.hard_dd > 0.0 and fallen >= rule.hard_dd:
        s.paused_until = HALTED
    elif rule.breaker_dd > 0.0 and fallen >= rule.breaker_dd and s.paused_until == 0:
        s.paused_until = ordinal + rule.pause_bars
    paused: bool = s.paused_until != 0
    return paused


@compiled(error_model="numpy")
def decide(rule: Any, s: Any, bar: Any, action: int) -> tuple[int, int, bool]:
    """`plan`, or `plan_resting` where an entry is in the book: (exit reason, side to open, whether that entry's)."""
    if has_options(rule) and s.resting != 0:
        entering, taken = plan_resting(rule, s, bar, action)
        return NOT_CLOSED, entering, taken
    leaving, entering = plan(rule, s, bar, action)
    return leaving, entering, False


@compiled(error_model="numpy")
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


@compiled(error_model="numpy")
def plan_resting(rule: Any, s: Any, bar: Any, action: int) -> tuple[int, bool]:
    """What becomes of an entry in the book: (side to open at the next open or 0, whether that is the entry's own).

    One whose time is over is taken back, or taken at the market. Until then it keeps others away; the opposite signal
    takes it back for good.
    """
    side, over = s.resting, s.bars_held >= _maker_bars(rule)
    _, wanted = plan(rule, s, bar, action)
    if wanted == -side or over:
        s.resting = 0
    taken = over and wanted != -side and _entry_style(rule) == MAKER_THEN_TAKER
    return side if taken else 0, taken


@compiled(error_model="numpy")
def advance(bars: Any, rule: Any, t: int, action: int, s: Any, step: Any) -> None:
    """One step of a unit position, in place: decided at the close of bar t, ends at the close of bar t+1.

    Where no bar follows, the position is closed at the close of bar t and the step is truncated.
    """
    step.net = step.price = step.slippage = step.fees = step.funding = step.closed_net = 0.0
    step.exit_reason = step.entered = step.truncated = step.terminated = 0
    now = bars[t]
    if t + 1 >= bars.shape[0] or bars[t + 1].follows == 0:
        step.truncated = 1
        if has_options(rule):
            s.resting = 0
            guard(rule, s, now.ordinal)
        if s.side != 0:
            leave(rule, s, step, now.close, now.close, rule.slippage, END)
    else:
        after = bars[t + 1]
        leaving, entering, taken = decide(rule, s, now, action)
        if has_options(rule) and guard(rule, s, now.ordinal):
            leaving, entering = (RISK if s.side != 0 else NOT_CLOSED), 0
            s.resting = 0
        mark, coins = now.close, 0.0
        if entering != 0:
            coins = s.unit / s.entry if taken else s.equity * rule.notional_frac * scaled_down(rule, s) / mark
        if has_options(rule):
            if s.side != 0:
                at_open(rule, bars, t, s, step, leaving)
            if entering != 0 and open_entry(rule, s, step, entering, taken, 0.0, coins, 0.0, now, after):
                mark = after.open
        else:
            if s.side != 0:
                accrue(rule, s, step, after)
                if leaving != NOT_CLOSED:
                    leave(rule, s, step, mark, after.open, rule.slippage, leaving)
            if entering != 0:
                enter(rule, s, step, entering, 0.0, coins, after.open, mark, rule.stop_loss)
                mark = after.open
        if has_options(rule) and s.resting != 0 and is_met(s, after):
            fill(rule, s, step)
            mark = s.entry
        if s.side != 0:
            play(rule, s, step, after, mark)
    s.peak = max(s.peak, s.equity)
    step.terminated = 1 if s.equity <= 0.0 else 0
