"""The closed bars that trainings learn from: compact columns a coin, the oldest given up beyond a limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aml100.domain.events import SettledFunding
from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.market.series import BarSeries, Floats, FundingSeries

KEPT_BARS: Final = 100_000
_COLUMNS: Final = ("open", "high", "low", "close", "volume")


class BarLog:
    """Bars of one coin in time order; one that does not follow the last one in time is an echo and left out."""

    def __init__(self, coin: Coin, interval_ms: int, origin: str, kept: int = KEPT_BARS) -> None:
        self.coin, self.interval_ms, self.origin = coin, interval_ms, origin
        self._kept = kept
        self._times = np.empty(1024, np.int64)
        self._table: Floats = np.empty((1024, len(_COLUMNS)))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def end_ms(self) -> int:
        """End of the latest bar; 0 without one."""
        return int(self._times[self._count - 1]) + self.interval_ms if self._count else 0

    @property
    def first_ms(self) -> int:
        return int(self._times[0]) if self._count else 0

    def add(self, bar: Bar) -> None:
        """Take a closed bar in."""
        if self._count and bar.open_ms <= self._times[self._count - 1]:
            return
        if self._count == len(self._times):
            self._make_room()
        self._times[self._count] = bar.open_ms
        self._table[self._count] = (
            float(bar.open),
            float(bar.high),
            float(bar.low),
            float(bar.close),
            float(bar.volume),
        )
        self._count += 1

    def add_series(self, series: BarSeries) -> None:
        """Put older bars in front: what was there before the first one held."""
        before = series if not self._count else series.rows(0, int(np.searchsorted(series.open_ms, self._times[0])))
        before = before.rows(max(0, len(before) - max(0, self._kept - self._count)), len(before))
        held, times = self._table[: self._count], self._times[: self._count]
        self._table = np.concatenate([np.stack([getattr(before, name) for name in _COLUMNS], axis=1), held])
        self._times = np.concatenate([before.open_ms, times])
        self._count = len(self._times)

    def series(self) -> BarSeries:
        """All of them, copied."""
        table = self._table[: self._count].copy()
        columns = [np.ascontiguousarray(table[:, number]) for number in range(len(_COLUMNS))]
        return BarSeries(self.coin, self.interval_ms, self.origin, self._times[: self._count].copy(), *columns)

    def _make_room(self) -> None:
        drop = self._count - self._kept + self._kept // 10 if self._count >= self._kept else 0
        held = slice(max(drop, 0), self._count)
        times, table = self._times[held], self._table[held]
        self._count = len(times)
        room = self._count + max(1024, self._count // 2)
        self._times = np.concatenate([times, np.empty(room - self._count, np.int64)])
        self._table = np.concatenate([table, np.empty((room - self._count, len(_COLUMNS)))])


def write_series(folder: Path, series: Sequence[BarSeries]) -> tuple[Path, ...]:
    """One Parquet file a coin, as `--data` takes it; numbered, since not every coin's name is a file's.

    Each says where its bars came from, as it is read back: a model made from a made-up market must not seem otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, one in enumerate(series):
        table = pa.table({"time": one.open_ms} | {name: getattr(one, name) for name in _COLUMNS})
        path = folder / f"{number}.parquet"
        pq.write_table(table.replace_schema_metadata({"origin": one.origin} if one.origin else None), path)
        paths.append(path)
    return tuple(paths)


def write_funding(folder: Path, rates: Sequence[Sequence[SettledFunding]]) -> None:
    """One file a coin, as `--funding` takes it; none where nothing is known."""
    for number, settled in enumerate(rates):
        if settled:
            columns = {
                "time": pa.array([one.time_ms for one in settled], pa.int64()),
                "rate": [one.rate * one.hours for one in settled],
                "premium": pa.array([one.premium for one in settled], pa.float64()),
                "hours": pa.array([one.hours for one in settled], pa.int64()),
            }
            pq.write_table(pa.table(columns), folder / f"funding-{number}.parquet")


def funding_series(coin: Coin, settled: Sequence[SettledFunding]) -> FundingSeries | None:
    """The hourly rates behind settlements; None where there are none."""
    if not settled:
        return None
    return FundingSeries.from_settlements(
        coin,
        np.array([one.time_ms for one in settled], np.int64),
        np.array([one.rate * one.hours for one in settled]),
        np.array([np.nan if one.premium is None else one.premium for one in settled]),
        np.array([one.hours for one in settled], np.int64),
    )
