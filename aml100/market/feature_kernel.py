"""The compiled definition of every feature: one bar folded into a state, one row written.

`step` is called a bar at a time by live code and inside `walk` by everything else, so both are equal bit for bit.
The columns' names and meanings stand in `features`.

Windows are summed without ever subtracting what leaves them, so nothing drifts: time is cut into blocks as long as
the window, counted from the epoch; a window is the end of the last block (sums kept from its newest bar backwards) and
the beginning of this one. What a windowed feature says therefore depends on the bars in its window and on nothing
before. Only RSI, ATR and MACD are exponential means, grown in as plain means from the first bar of the segment.

One file although it is long: state, layout and every column that they feed are read together or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from aml100.domain.units import HOUR_MS, MINUTE_MS
from aml100.market.compiled import compiled
from aml100.market.regime import RegimeThresholds, trend_sign, trend_strength
from aml100.market.series import Floats, Ints

Flags: TypeAlias = npt.NDArray[np.bool_]
_Function = TypeVar("_Function", bound=Callable[..., object])

LARGER_MS: Final = (5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS)
MIN_BARS: Final = 61
MEANS: Final = 8
FAST_MEANS: Final = 3
HOURS: Final = 3
_7TH, _19TH, _20TH, _21ST, _50TH, _59TH, _60TH = (1.0 / n for n in (7, 19, 20, 21, 50, 59, 60))
"""Multiplied by, not divided by: the divider is what bounds the kernel's speed."""
_FLAT = 1e-9  # deviations below this share of the price are rounding, not movement

# --- layout of the state: rings of the latest values, block sums, running means ----------------------------------
_CLOSE, _LOG, _RET, _VOLUME = 0, 64, 128, 192  # rings of 64
_SUF_C7, _SUF_C21, _SUF_C50, _SUF_V20 = 256, 263, 284, 334
_SUF_C20, _SUF_R20, _SUF_R60 = 354, 394, 434  # pairs: sums, then sums of squares
_PRE_C7, _PRE_C21, _PRE_C50, _PRE_V20 = 554, 555, 556, 557
_PRE_C20, _PRE_R20, _PRE_R60 = 558, 560, 562  # pairs
_REF = 564  # what closes are measured from in the 20-bar block, against cancellation
_ATR, _GAIN, _LOSS, _EMA12, _EMA26, _SIGNAL = 565, 566, 567, 568, 569, 570
_RING_5M, _RING_15M = 571, 579  # the 8 closed closes
_MEAN_5M, _FAST_5M, _MEAN_15M, _FAST_15M = 587, 588, 589, 590
_HOUR_HIGH, _HOUR_LOW = 591, 592  # of the hour in the making
_HIGHS, _LOWS, _CLOSES = 593, 596, 599  # of the 3 closed hours
_HOUR_MEAN, _HOUR_TREND, _HOUR_RANGE, _TOP, _BOTTOM = 602, 603, 604, 605, 606
_UP, _DOWN, _SCALED = 607, 608, 609
_STATE_SIZE = 610

INCOMPLETE, COMPLETE = 0, 1
NOT_NEXT, OFF_GRID, NO_BAR = -1, -2, -3
"""What `take` answers."""

COUNT, LAST_MS, _INTERVAL = 0, 1, 2
_PHASE_7, _PHASE_20, _PHASE_21, _PHASE_50, _PHASE_60 = 3, 4, 5, 6, 7
_PER, _PHASE, _CLOSED = 8, 11, 14  # three each: bars in a larger bar, place in it, how many closed
_CLOCK_SIZE = 17


def _compiled(function: _Function) -> _Function:
    """Compile without reference counts, which took three quarters of the time: nothing here makes or keeps an array.

    Every function is written out where it is called: handing arrays on costs more than the sums themselves. Division
    by zero gives inf, as in numpy; where it can occur the code asks beforehand.
    """
    return compiled(error_model="numpy", _nrt=False, inline="always")(function)


def _circle(points: int, turns: float) -> Floats:
    """sin and cos at `points` steps over `turns` of the circle, shape [points, 2]."""
    angle = np.arange(points) * (2.0 * math.pi * turns / points)
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


_DAY_HOUR, _DAY_MINUTE = _circle(24, 1.0), _circle(60, 1.0 / 24.0)
_WEEK_HOUR, _WEEK_MINUTE = _circle(168, 1.0), _circle(60, 1.0 / 168.0)


@_compiled
def _sum(state: Floats, pre: int, suf: int, ring: int, newest: int, size: int, phase: int, x: float) -> float:
    """Fold `x`, at place `phase` of its block, into a window of `size`; the window's sum."""
    prefix = state[pre] + x
    total = prefix + state[suf + size - 1 - phase]
    state[pre] = prefix
    if phase == size - 1:
        tail = 0.0
        for k in range(1, size):
            tail += state[ring + ((newest - k + 1) & 63)]
            state[suf + k] = tail
        state[pre] = 0.0
    return float(total)


@_compiled
def _moments(
    state: Floats,
    pre: int,
    suf: int,
    ring: int,
    newest: int,
    size: int,
    phase: int,
    x: float,
    ref: float,
    new_ref: float,
) -> tuple[float, float]:
    """As `_sum`, of x - ref and of its square. From the next block on they are measured from `new_ref`."""
    d = x - ref
    prefix = state[pre] + d
    prefix_sq = state[pre + 1] + d * d
    total = prefix + state[suf + size - 1 - phase]
    total_sq = prefix_sq + state[suf + size + size - 1 - phase]
    state[pre] = prefix
    state[pre + 1] = prefix_sq
    if phase == size - 1:
        tail = 0.0
        tail_sq = 0.0
        for k in range(1, size):
            d = state[ring + ((newest - k + 1) & 63)] - new_ref
            tail += d
            tail_sq += d * d
            state[suf + k] = tail
            state[suf + size + k] = tail_sq
        state[pre] = 0.0
        state[pre + 1] = 0.0
    return total, total_sq


@_compiled
def _next_phase(clock: Ints, slot: int, size: int) -> int:
    """The place of this bar in its block; the slot then holds the place of the next bar."""
    phase = clock[slot]
    clock[slot] = 0 if phase == size - 1 else phase + 1
    return int(phase)


@_compiled
def _larger_closed(clock: Ints, which: int) -> bool:
    """Whether this bar completes a larger bar all of which lies in this segment."""
    size = clock[_PER + which]
    phase = clock[_PHASE + which]
    if phase < size - 1:
        clock[_PHASE + which] = phase + 1
        return False
    clock[_PHASE + which] = 0
    if clock[COUNT] < size:
        return False
    clock[_CLOSED + which] += 1
    return True


@_compiled
def _fold_means(state: Floats, clock: Ints, which: int, ring: int, mean: int, fast: int, close: float) -> None:
    """Keep the means of the last closed closes of the 5- or 15-minute bars."""
    if _larger_closed(clock, which):
        newest = clock[_CLOSED + which]
        state[ring + (newest & 7)] = close
        total = 0.0
        for k in range(FAST_MEANS):
            total += state[ring + ((newest - k) & 7)]
        state[fast] = total / FAST_MEANS
        for k in range(FAST_MEANS, MEANS):
            total += state[ring + ((newest - k) & 7)]
        state[mean] = total / MEANS


@_compiled
def _fold_hours(state: Floats, clock: Ints, high: float, low: float, close: float) -> None:
    """Keep the context of the last closed hours."""
    if clock[_PHASE + 2] == 0 or clock[COUNT] == 1:
        state[_HOUR_HIGH] = high
        state[_HOUR_LOW] = low
    else:
        state[_HOUR_HIGH] = max(state[_HOUR_HIGH], high)
        state[_HOUR_LOW] = min(state[_HOUR_LOW], low)
    if _larger_closed(clock, 2):
        for k in range(HOURS - 1):
            state[_HIGHS + k] = state[_HIGHS + k + 1]
            state[_LOWS + k] = state[_LOWS + k + 1]
            state[_CLOSES + k] = state[_CLOSES + k + 1]
        state[_HIGHS + 2] = state[_HOUR_HIGH]
        state[_LOWS + 2] = state[_HOUR_LOW]
        state[_CLOSES + 2] = close
        if clock[_CLOSED + 2] >= HOURS:
            state[_HOUR_MEAN] = (state[_CLOSES] + state[_CLOSES + 1] + close) / HOURS
            state[_HOUR_TREND] = close / state[_CLOSES] - 1.0
            state[_HOUR_RANGE] = (state[_HOUR_HIGH] - state[_HOUR_LOW]) / close
            state[_TOP] = max(state[_HIGHS], state[_HIGHS + 1], state[_HIGHS + 2])
            state[_BOTTOM] = min(state[_LOWS], state[_LOWS + 1], state[_LOWS + 2])


@_compiled
def _grow(mean: float, x: float, n: int, span: int, alpha: float) -> float:
    """An exponential mean after its n-th value; the first `span` values are weighed alike."""
    weight = 1.0 / n if n <= span else alpha
    return mean + (x - mean) * weight


@_compiled
def _fold_exponential(state: Floats, n: int, high: float, low: float, close: float, before: float) -> None:
    """True range, gains and losses (they need the close before), and the means under the MACD."""
    if n > 1:
        state[_ATR] = _grow(state[_ATR], max(high, before) - min(low, before), n - 1, 14, 1.0 / 14.0)
        state[_GAIN] = _grow(state[_GAIN], max(close - before, 0.0), n - 1, 14, 1.0 / 14.0)
        state[_LOSS] = _grow(state[_LOSS], max(before - close, 0.0), n - 1, 14, 1.0 / 14.0)
    state[_EMA12] = _grow(state[_EMA12], close, n, 12, 2.0 / 13.0)
    state[_EMA26] = _grow(state[_EMA26], close, n, 26, 2.0 / 27.0)
    state[_SIGNAL] = _grow(state[_SIGNAL], state[_EMA12] - state[_EMA26], n, 9, 0.2)


@_compiled
def _write_windows(
    state: Floats, clock: Ints, newest: int, close: float, ret: float, volume: float, out: Floats
) -> None:
    """Columns made of sums over windows: volatility, volume, spreads, Bollinger, regimes."""
    phase_20 = _next_phase(clock, _PHASE_20, 20)
    phase_60 = _next_phase(clock, _PHASE_60, 60)
    phase_7 = _next_phase(clock, _PHASE_7, 7)
    phase_21 = _next_phase(clock, _PHASE_21, 21)
    phase_50 = _next_phase(clock, _PHASE_50, 50)
    s1, s2 = _moments(state, _PRE_R20, _SUF_R20, _RET, newest, 20, phase_20, ret, 0.0, 0.0)
    out[4] = math.sqrt(max(s2 - s1 * s1 * _20TH, 0.0) * _19TH)
    s1, s2 = _moments(state, _PRE_R60, _SUF_R60, _RET, newest, 60, phase_60, ret, 0.0, 0.0)
    vol_60 = math.sqrt(max(s2 - s1 * s1 * _60TH, 0.0) * _59TH)
    out[5] = vol_60
    mean_volume = _sum(state, _PRE_V20, _SUF_V20, _VOLUME, newest, 20, phase_20, volume) * _20TH
    out[7] = volume / mean_volume if mean_volume > 0.0 else 1.0
    sma_7 = _sum(state, _PRE_C7, _SUF_C7, _CLOSE, newest, 7, phase_7, close) * _7TH
    sma_21 = _sum(state, _PRE_C21, _SUF_C21, _CLOSE, newest, 21, phase_21, close) * _21ST
    sma_50 = _sum(state, _PRE_C50, _SUF_C50, _CLOSE, newest, 50, phase_50, close) * _50TH
    out[8] = sma_7 / sma_21 - 1.0
    out[9] = sma_7 / sma_50 - 1.0
    ref = state[_REF]
    s1, s2 = _moments(state, _PRE_C20, _SUF_C20, _CLOSE, newest, 20, phase_20, close, ref, close)
    if phase_20 == 19:
        state[_REF] = close
    sma_20 = ref + s1 * _20TH
    deviation = math.sqrt(max(s2 - s1 * s1 * _20TH, 0.0) * _20TH)
    out[20] = (close - sma_20) / deviation if deviation > _FLAT * close else 0.0
    sign = trend_sign(sma_20, sma_50, state[_UP], state[_DOWN])
    out[21] = 1.0 if sign > 0 else 0.0
    out[22] = 1.0 if sign < 0 else 0.0
    out[23] = 1.0 if sign == 0 else 0.0
    strength = trend_strength(sma_20, sma_50, vol_60)
    out[24] = 1.0 if strength > state[_SCALED] else 0.0
    out[25] = 1.0 if strength < -state[_SCALED] else 0.0
    out[26] = 1.0 - out[24] - out[25]
    out[27] = strength


@_compiled
def _write_larger(state: Floats, close: float, out: Floats) -> None:
    """Columns from larger bars, and from the exponential means."""
    out[10] = close / state[_MEAN_5M] - 1.0
    out[11] = state[_FAST_5M] / state[_MEAN_5M] - 1.0
    out[12] = close / state[_MEAN_15M] - 1.0
    out[13] = state[_FAST_15M] / state[_MEAN_15M] - 1.0
    out[14] = close / state[_HOUR_MEAN] - 1.0
    out[15] = state[_HOUR_TREND]
    out[16] = state[_HOUR_RANGE]
    spread = state[_TOP] - state[_BOTTOM]
    out[17] = (2.0 * close - state[_TOP] - state[_BOTTOM]) / spread if spread > _FLAT * close else 0.0
    atr = state[_ATR]
    moves = state[_GAIN] + state[_LOSS]
    out[6] = atr / close
    out[18] = (state[_GAIN] - state[_LOSS]) / moves if moves > _FLAT * close else 0.0
    out[19] = (state[_EMA12] - state[_EMA26] - state[_SIGNAL]) / atr if atr > _FLAT * close else 0.0


@_compiled
def _write_outside(end_ms: int, funding_rate: float, premium: float, out: Floats) -> None:
    """Columns that do not come from prices: funding and premium (NaN is unknown), time."""
    out[28] = 0.0 if math.isnan(funding_rate) else funding_rate
    out[29] = 0.0 if math.isnan(funding_rate) else 1.0
    out[30] = 0.0 if math.isnan(premium) else premium
    out[31] = 0.0 if math.isnan(premium) else 1.0
    minutes = end_ms // 60_000
    hours = minutes // 60
    minute = minutes - hours * 60
    hour = hours % 24
    sin, cos = _DAY_HOUR[hour, 0], _DAY_HOUR[hour, 1]
    d_sin, d_cos = _DAY_MINUTE[minute, 0], _DAY_MINUTE[minute, 1]
    out[32] = sin * d_cos + cos * d_sin
    out[33] = cos * d_cos - sin * d_sin
    hour = (hours + 72) % 168  # the epoch was a Thursday
    sin, cos = _WEEK_HOUR[hour, 0], _WEEK_HOUR[hour, 1]
    d_sin, d_cos = _WEEK_MINUTE[minute, 0], _WEEK_MINUTE[minute, 1]
    out[34] = sin * d_cos + cos * d_sin
    out[35] = cos * d_cos - sin * d_sin


@_compiled
def _begin(state: Floats, clock: Ints, open_ms: int, close: float) -> None:
    """Forget everything but the parameters; places in blocks and larger bars follow from the clock."""
    state[:_UP] = 0.0
    state[_REF] = close
    clock[COUNT] = 0
    number = open_ms // clock[_INTERVAL]
    clock[_PHASE_7] = number % 7
    clock[_PHASE_20] = number % 20
    clock[_PHASE_21] = number % 21
    clock[_PHASE_50] = number % 50
    clock[_PHASE_60] = number % 60
    for which in range(3):
        clock[_PHASE + which] = number % clock[_PER + which]
        clock[_CLOSED + which] = 0


@_compiled
def step(
    state: Floats,
    clock: Ints,
    high: float,
    low: float,
    close: float,
    volume: float,
    open_ms: int,
    funding_rate: float,
    premium: float,
    out: Floats,
) -> bool:
    """Fold one closed bar into the state and write its row; True where the row is complete.

    Args:
        state, clock: from `new_state`; clock counts 0 bars where a segment begins.
        funding_rate: hourly, known when the bar opened; NaN where unknown, as is `premium`.
        out: shape [F]; its content means nothing while False is returned.
    """
    if clock[COUNT] == 0:
        _begin(state, clock, open_ms, close)
    count = clock[COUNT]
    newest = count & 63
    log = math.log(close)
    ret = log - state[_LOG + ((count - 1) & 63)] if count > 0 else 0.0
    before = state[_CLOSE + ((count - 1) & 63)]
    state[_CLOSE + newest] = close
    state[_LOG + newest] = log
    state[_RET + newest] = ret
    state[_VOLUME + newest] = volume
    clock[COUNT] = count + 1
    clock[LAST_MS] = open_ms
    out[0] = ret
    out[1] = log - state[_LOG + ((count - 5) & 63)]
    out[2] = log - state[_LOG + ((count - 15) & 63)]
    out[3] = log - state[_LOG + ((count - 60) & 63)]
    _write_windows(state, clock, newest, close, ret, volume, out)
    _fold_exponential(state, count + 1, high, low, close, before)
    _fold_means(state, clock, 0, _RING_5M, _MEAN_5M, _FAST_5M, close)
    _fold_means(state, clock, 1, _RING_15M, _MEAN_15M, _FAST_15M, close)
    _fold_hours(state, clock, high, low, close)
    if clock[COUNT] < MIN_BARS or clock[_CLOSED] < MEANS or clock[_CLOSED + 1] < MEANS or clock[_CLOSED + 2] < HOURS:
        return False
    _write_larger(state, close, out)
    _write_outside(open_ms + clock[_INTERVAL], funding_rate, premium, out)
    return True


@_compiled
def take(
    state: Floats,
    clock: Ints,
    open_: float,
    high: float,
    low: float,
    close: float,
    volume: float,
    open_ms: int,
    funding_rate: float,
    premium: float,
    out: Floats,
) -> int:
    """`step` for a bar that has to be looked at first; COMPLETE or INCOMPLETE, or why nothing was folded in."""
    if clock[COUNT] > 0 and open_ms != clock[LAST_MS] + clock[_INTERVAL]:
        return NOT_NEXT
    if open_ms % clock[_INTERVAL] != 0:
        return OFF_GRID
    if not (0.0 < low <= open_ <= high < math.inf and low <= close <= high and 0.0 <= volume < math.inf):
        return NO_BAR
    if step(state, clock, high, low, close, volume, open_ms, funding_rate, premium, out):
        return COMPLETE
    return INCOMPLETE


@_compiled
def walk(
    state: Floats,
    clock: Ints,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    open_ms: Ints,
    funding_rate: Floats,
    premium: Floats,
    values: Floats,
    valid: Flags,
) -> None:
    """`step` over columns; a gap begins anew."""
    interval = clock[_INTERVAL]
    for t in range(len(close)):
        if t > 0 and open_ms[t] != open_ms[t - 1] + interval:
            clock[COUNT] = 0
        row = values[t]
        valid[t] = step(
            state, clock, high[t], low[t], close[t], volume[t], open_ms[t], funding_rate[t], premium[t], row
        )
        if not valid[t]:
            row[:] = math.nan


def per_larger(interval_ms: int) -> list[int]:
    """Bars in each larger bar."""
    return [-(-larger // interval_ms) for larger in LARGER_MS]


def new_state(interval_ms: int, thresholds: RegimeThresholds) -> tuple[Floats, Ints]:
    """State and clock before the first bar of a segment."""
    if interval_ms < MINUTE_MS or interval_ms % MINUTE_MS:
        raise ValueError(f"features need bars of whole minutes, not of {interval_ms} ms")
    state = np.zeros(_STATE_SIZE)
    state[_UP], state[_DOWN], state[_SCALED] = thresholds.up_frac, thresholds.down_frac, thresholds.scaled
    clock = np.zeros(_CLOCK_SIZE, np.int64)
    clock[_INTERVAL] = interval_ms
    clock[_PER : _PER + 3] = per_larger(interval_ms)
    return state, clock
