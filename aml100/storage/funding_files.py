"""Funding rates out of files: settled rates with their times, used as they stand or refused with the row.

Two doors as for bars: `read_funding` is strict and serves `--funding`; `settlements_of` knows how other sources name
the columns and serves `import`. What a rate is charged for is worked out in `FundingSeries`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from aml100.domain.errors import DataFileError
from aml100.domain.units import HOUR_MS, Coin, iso_utc
from aml100.market.series import Floats, FundingSeries, Ints, hours_covered
from aml100.storage.columns import PRICES, RawTable, floats, read_table, times_ms

_TIMES: Final = ("time", "timestamp", "date", "datetime", "funding_time", "fundingtime", "calc_time", "ts")
_RATES: Final = ("rate", "funding_rate", "fundingrate", "last_funding_rate")
_MOST_HOURS: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Settlements:
    """Columns of settled rates, ascending, one an hour at most: `time_ms` int64 [n], `rate` and `premium` float64 [n].

    `premium` is NaN where unknown; `hours` int64 [n] says for how many hours up to its time each rate is. `duplicates`
    rows were dropped because a later one has the same hour.
    """

    time_ms: Ints
    rate: Floats
    premium: Floats
    hours: Ints
    duplicates: int = 0

    def series(self, coin: Coin) -> FundingSeries:
        """By the hour, as it is charged."""
        return FundingSeries.from_settlements(coin, self.time_ms, self.rate, self.premium, self.hours)


def read_funding(path: Path, coin: Coin) -> FundingSeries:
    """Settled rates (columns `time` and `rate`, perhaps `premium` and `hours`), spread over the hours they cover.

    Raises:
        DataFileError: a column or value is missing, a number is not finite, times do not ascend, or two of them lie
            in one hour.
    """
    raw = read_table(path)
    for name in ("time", "rate"):
        if raw.names.count(name) != 1:
            raise DataFileError(f"{path}: row 1: column {name!r} is missing; allowed: time, rate")
    found = _settlements(raw)
    wrong = np.flatnonzero(np.diff(found.time_ms) <= 0)
    if len(wrong):
        raise _refuse(raw, found.time_ms, int(wrong[0]) + 1, "time does not ascend; allowed: ascending, each once")
    same = np.flatnonzero(np.diff(found.time_ms // HOUR_MS) == 0)
    if len(same):
        raise _refuse(raw, found.time_ms, int(same[0]) + 1, "is the second rate of this hour; allowed: one an hour")
    return found.series(coin)


def holds_funding(raw: RawTable) -> bool:
    """Whether a file is one of funding rates rather than of bars, whatever it calls its columns."""
    named = any(name in raw.names for name in _RATES)
    return (named and not set(PRICES) <= set(raw.names)) or _is_freqtrade(raw)


def settlements_of(raw: RawTable) -> Settlements:
    """Rates in ascending order, each hour once; the later row of an hour wins.

    Raises:
        DataFileError: no column for the time or the rate, or a number that is not finite.
    """
    names = list(raw.names)
    for ours, theirs in (("time", _TIMES), ("rate", ("open",) if _is_freqtrade(raw) else _RATES)):
        place = next((names.index(name) for name in theirs if name in names), None)
        if place is None:
            raise DataFileError(f"{raw.path}: row 1: no column for {ours!r}; found: {', '.join(raw.names)}")
        names[place] = ours
    found = _settlements(replace(raw, names=tuple(names)))
    order = np.argsort(found.time_ms, kind="stable")
    hour = found.time_ms[order] // HOUR_MS
    rows = order[np.append(np.diff(hour) > 0, True)]
    times = found.time_ms[rows]
    hours = found.hours[rows] if "hours" in raw.names else hours_covered(times)
    return Settlements(times, found.rate[rows], found.premium[rows], hours, len(order) - len(rows))


def _is_freqtrade(raw: RawTable) -> bool:
    """freqtrade keeps funding in the shape of candles: the rate as the open, nothing else."""
    return "funding" in raw.path.stem.lower() and set(PRICES) <= set(raw.names)


def _settlements(raw: RawTable) -> Settlements:
    """The columns as they stand, every number looked at."""
    if len(raw) == 0:
        raise DataFileError(f"{raw.path}: row {raw.first_row}: the file has no rows; allowed: at least one")
    time_ms = times_ms(raw)
    rate = floats(raw, "rate", time_ms)
    bad = np.flatnonzero(~np.isfinite(rate))
    if len(bad):
        raise _refuse(raw, time_ms, int(bad[0]), f"rate is {rate[bad[0]]}; allowed: a finite number")
    hours = hours_covered(time_ms)
    if "hours" in raw.names:
        given = floats(raw, "hours")
        bad = np.flatnonzero(~((given >= 1) & (given <= _MOST_HOURS) & (given == np.floor(given))))
        if len(bad):
            what = f"hours is {given[bad[0]]}; allowed: a whole number from 1 to {_MOST_HOURS}"
            raise _refuse(raw, time_ms, int(bad[0]), what)
        hours = given.astype(np.int64)
    premium = floats(raw, "premium") if "premium" in raw.names else np.full(len(raw), np.nan)
    bad = np.flatnonzero(np.isinf(premium))
    if len(bad):
        raise _refuse(raw, time_ms, int(bad[0]), f"premium is {premium[bad[0]]}; allowed: a finite number, or none")
    return Settlements(time_ms, rate, premium, hours)


def _refuse(raw: RawTable, time_ms: Ints, index: int, what: str) -> DataFileError:
    return raw.refuse(index, f"({iso_utc(int(time_ms[index]))}) {what}")
