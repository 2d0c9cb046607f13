"""The features: their names, when they are complete, and the two ways to compute them.

A batch (`compute_features`) and a stream (`FeatureStream`) run the same compiled step, so they are equal bit for bit.
Each row is causal (a later bar changes nothing) and scale-free (prices times a constant change nothing).

Larger bars (5 and 15 minutes, 1 hour) are aligned to the clock and count only when closed and whole; one that is not
longer than the bar itself is the bar; one that is no multiple of it is lengthened to the next multiple.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from aml100.domain.errors import InvariantBroken
from aml100.domain.units import HOUR_MS
from aml100.market.feature_kernel import (
    COMPLETE,
    COUNT,
    FAST_MEANS,
    HOURS,
    INCOMPLETE,
    LARGER_MS,
    LAST_MS,
    MEANS,
    MIN_BARS,
    NOT_NEXT,
    OFF_GRID,
    Flags,
    new_state,
    per_larger,
    take,
    walk,
)
from aml100.market.regime import CHANCE_SPREAD, DEFAULT_THRESHOLDS, Regime, RegimeThresholds, regime_of_sign
from aml100.market.series import BarSeries, Floats, FundingSeries, Ints

VERSION: Final = 1
"""Raised with any change of a definition: models made with another one are refused."""

FEATURES: Final[tuple[str, ...]] = (
    "ret_1",  # log returns over bars
    "ret_5",
    "ret_15",
    "ret_60",
    "vol_20",  # standard deviation of one-bar log returns (n - 1)
    "vol_60",
    "atr_14",  # Wilder's mean true range over the close
    "volume_ratio",  # volume over its 20-bar mean; 1 where nothing traded
    "sma_7_21",  # ratio of means, less 1
    "sma_7_50",
    "mean_5m",  # close over the mean of 8 closed larger closes, less 1
    "trend_5m",  # mean of the last 3 over the mean of the last 8 closed larger closes, less 1
    "mean_15m",
    "trend_15m",
    "mean_1h",  # close over the mean of 3 closed hourly closes, less 1
    "trend_1h",  # last closed hourly close over the one two before, less 1
    "range_1h",  # high less low of the last closed hour over its close
    "place_1h",  # where the close stands in the range of 3 closed hours: -1 at its low, 1 at its high
    "rsi_14",  # Wilder's, from -1 to 1
    "macd_hist",  # MACD 12/26 less its signal 9, in ATR
    "bollinger_z",  # close less its 20-bar mean in standard deviations (n)
    "regime_up",  # one-hot, SMA20 against SMA50
    "regime_down",
    "regime_range",
    "scaled_up",  # one-hot, the same distance in standard deviations of chance
    "scaled_down",
    "scaled_range",
    "scaled_strength",
    "funding_rate",  # last hourly rate known when the bar opened, 0 where unknown
    "funding_known",
    "premium",
    "premium_known",
    "day_sin",  # time of day and of week (from Monday) at the bar's end
    "day_cos",
    "week_sin",
    "week_cos",
)
FEATURE_COUNT: Final = len(FEATURES)
_UNKNOWN: Final = math.nan

FUNDING_FRESH_MS: Final = 8 * HOUR_MS
"""A funding rate older than this is no longer known."""


def warmup_bars(interval_ms: int) -> int:
    """Contiguous bars after which a row is complete wherever they begin: 239 at 1m, 61 at 5m and longer.

    A row may be complete earlier, where the bars begin with the hour.

    >>> warmup_bars(60_000), warmup_bars(900_000)
    (239, 61)
    """
    wholes = (MEANS, MEANS, HOURS)
    return max(MIN_BARS, *(per * n + per - 1 for per, n in zip(per_larger(interval_ms), wholes, strict=True)))


def schema_digest(interval_ms: int, thresholds: RegimeThresholds = DEFAULT_THRESHOLDS) -> str:
    """16 hex digits that differ wherever names, definitions, parameters or the interval do."""
    parts = (
        VERSION,
        interval_ms,
        FEATURES,
        (MIN_BARS, MEANS, FAST_MEANS, HOURS, LARGER_MS, FUNDING_FRESH_MS, repr(CHANCE_SPREAD)),
        (thresholds.up_frac, thresholds.down_frac, thresholds.scaled),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFrame:
    """Features of a series: `values` float64 [n, F], NaN where incomplete; `valid` bool [n]."""

    values: Floats
    valid: Flags


def known_funding(funding: FundingSeries | None, open_ms: Ints) -> tuple[Floats, Floats]:
    """The hourly rate and the premium known when each bar opened, NaN where unknown; both of shape [n].

    What became known 8 hours before or earlier is known no longer.
    """
    rates, premiums = np.full(len(open_ms), math.nan), np.full(len(open_ms), math.nan)
    if funding is None or len(funding) == 0:
        return rates, premiums
    known = funding.became_known_ms
    row = np.searchsorted(known, open_ms, side="right") - 1
    fresh = (row >= 0) & (open_ms - known[row] < FUNDING_FRESH_MS)
    rates[fresh] = funding.rate[row[fresh]]
    if funding.premium is not None:
        premiums[fresh] = funding.premium[row[fresh]]
    return rates, premiums


def known_at(settled: Sequence[tuple[int, float, float | None]], open_ms: int) -> tuple[float | None, float | None]:
    """The same for one bar: rate and premium of the latest of `settled` (time_ms, rate, premium; ascending)."""
    for time_ms, rate, premium in reversed(settled):
        if time_ms <= open_ms:
            return (rate, premium) if open_ms - time_ms < FUNDING_FRESH_MS else (None, None)
    return None, None


def compute_features(
    series: BarSeries,
    funding: FundingSeries | None = None,
    *,
    thresholds: RegimeThresholds = DEFAULT_THRESHOLDS,
) -> FeatureFrame:
    """Every bar's row; each contiguous stretch warms up by itself."""
    state, clock = new_state(series.interval_ms, thresholds)
    values = np.empty((len(series), FEATURE_COUNT))
    valid = np.empty(len(series), np.bool_)
    rates, premiums = known_funding(funding, series.open_ms)
    walk(
        state,
        clock,
        np.ascontiguousarray(series.high, np.float64),
        np.ascontiguousarray(series.low, np.float64),
        np.ascontiguousarray(series.close, np.float64),
        np.ascontiguousarray(series.volume, np.float64),
        np.ascontiguousarray(series.open_ms, np.int64),
        rates,
        premiums,
        values,
        valid,
    )
    return FeatureFrame(values, valid)


class _Saved(msgspec.Struct, frozen=True):
    digest: str
    state: bytes
    clock: bytes


class FeatureStream:
    """The same features, a closed bar at a time."""

    def __init__(self, interval_ms: int, thresholds: RegimeThresholds = DEFAULT_THRESHOLDS) -> None:
        self._digest = schema_digest(interval_ms, thresholds)
        self._state, self._clock = new_state(interval_ms, thresholds)
        self._interval_ms = interval_ms

    def update(
        self,
        open: float,
        high: float,
        low: float,
        close: float,
        volume: float,
        open_ms: int,
        funding_rate: float | None = None,
        premium: float | None = None,
    ) -> Floats | None:
        """The row of this bar, a fresh array of shape [F]; None while warming up.

        Raises:
            InvariantBroken: the bar does not follow on the last one (call `reset` at a gap), or holds a number that
                no bar can hold. Nothing was folded in.
        """
        out = np.empty(FEATURE_COUNT)
        rate = _UNKNOWN if funding_rate is None else funding_rate
        known_premium = _UNKNOWN if premium is None else premium
        code = take(self._state, self._clock, open, high, low, close, volume, open_ms, rate, known_premium, out)
        if code == COMPLETE:
            return out
        if code == INCOMPLETE:
            return None
        if code == NOT_NEXT:
            follows_ms = int(self._clock[LAST_MS]) + self._interval_ms
            raise InvariantBroken(f"features: a bar opens at {open_ms} where {follows_ms} had to follow")
        if code == OFF_GRID:
            raise InvariantBroken(f"features: a bar opens at {open_ms}, off the grid of {self._interval_ms} ms")
        raise InvariantBroken(f"features: no bar is {open} {high} {low} {close} with volume {volume}")

    def reset(self) -> None:
        """A new contiguous series begins with the next bar."""
        self._clock[COUNT] = 0

    def export_state(self) -> bytes:
        """Everything needed to go on, bit for bit."""
        return msgspec.msgpack.encode(_Saved(self._digest, self._state.tobytes(), self._clock.tobytes()))

    def restore(self, saved: bytes) -> None:
        """Go on from `export_state`; InvariantBroken where it was made with other definitions."""
        try:
            document = msgspec.msgpack.decode(saved, type=_Saved)
        except msgspec.DecodeError as error:
            raise InvariantBroken(f"features: the saved state cannot be read: {error}") from None
        if document.digest != self._digest:
            raise InvariantBroken(f"features: the saved state is of schema {document.digest}, not {self._digest}")
        self._state = np.frombuffer(document.state).copy()
        self._clock = np.frombuffer(document.clock, np.int64).copy()


_UP, _DOWN = FEATURES.index("regime_up"), FEATURES.index("regime_down")


def regime_of_row(row: Floats) -> Regime:
    """The plain regime that a row of features holds."""
    return regime_of_sign(int(row.item(_UP) - row.item(_DOWN)))
