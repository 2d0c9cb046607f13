"""The history store: one Parquet file per coin and interval, and one of funding per coin.

A file is only ever replaced as a whole (written beside, synced, renamed), so a reader sees the old bars or the new
ones; who changes one holds the folder meanwhile, so that an engine, `download` and `import` lose nothing of each
other's. It names the network and the origin of its bars, and takes no others. What is missing between two bars is a
gap: computed from the times whenever somebody asks, never filled. Simulated markets have no business here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aml100.domain.errors import DataFileError, SafetyRefusal
from aml100.domain.units import HOUR_MS, INTERVALS, Coin, interval_name
from aml100.market.series import BarSeries, Floats, FundingSeries, Ints, hours_covered
from aml100.storage.files import changing, replace_file

_BAR_COLUMNS: Final = ("open", "high", "low", "close", "volume")
_LAST_MS: Final = 2**62
FUNDING: Final = "funding"
"""What stands in place of an interval for a series of funding rates."""


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """One file of the store. `gaps` are [from_ms, to_ms): opens of the first missing bar and of the next one there."""

    coin: Coin
    interval: str
    first_ms: int
    last_ms: int
    rows: int
    gaps: tuple[tuple[int, int], ...]
    origin: str
    network: str


def gaps(open_ms: Ints, interval_ms: int) -> tuple[tuple[int, int], ...]:
    """Missing stretches of ascending bars as [from_ms, to_ms), the opens of the first missing and the next present.

    >>> gaps(np.array([0, 60_000, 240_000]), 60_000)
    ((120000, 240000),)
    """
    cuts = np.flatnonzero(np.diff(open_ms) > interval_ms)
    return tuple((int(open_ms[cut]) + interval_ms, int(open_ms[cut + 1])) for cut in cuts)


class HistoryStore:
    """The bars and funding of one network, in a folder beside state.db. Opens nothing until it is asked."""

    def __init__(self, folder: Path, network: str = "mainnet") -> None:
        self.folder = folder
        self.network = network

    def path_of(self, coin: Coin, interval_ms: int) -> Path:
        """Where the bars of this coin and interval lie, whether there are any or not."""
        return self.folder / f"{_file_stem(coin)}_{interval_name(interval_ms)}.{self.network}.parquet"

    def funding_path_of(self, coin: Coin) -> Path:
        return self.folder / f"{_file_stem(coin)}_funding.{self.network}.parquet"

    def append(self, series: BarSeries) -> int:
        """Merge bars into the store; a bar that is there already is replaced by the new one.

        Returns: how many bars are new.

        Raises:
            SafetyRefusal: the bars are simulated.
            DataFileError: the store holds bars of another origin, or its file cannot be read or written.
        """
        _refuse_simulated(series.origin)
        columns = {"time": series.open_ms} | {name: getattr(series, name) for name in _BAR_COLUMNS}
        path = self.path_of(series.coin, series.interval_ms)
        return self._merge(path, columns, series.coin, interval_name(series.interval_ms), series.origin)

    def differing(self, series: BarSeries) -> int:
        """How many of these bars are held already with other figures, which `append` would replace."""
        path = self.path_of(series.coin, series.interval_ms)
        if not path.exists():
            return 0
        held = self._read(path, series.coin, interval_name(series.interval_ms))
        _, ours, theirs = np.intersect1d(
            series.open_ms, held.column("time").to_numpy(), assume_unique=True, return_indices=True
        )
        differs = np.zeros(len(ours), np.bool_)
        for name in _BAR_COLUMNS:
            differs |= getattr(series, name)[ours] != held.column(name).to_numpy()[theirs]
        return int(differs.sum())

    def append_funding(
        self,
        coin: Coin,
        time_ms: Ints,
        rate: Floats,
        origin: str,
        premium: Floats | None = None,
        hours: Ints | None = None,
    ) -> int:
        """Merge settled funding rates as the venue states them; answers how many are new. Errors as `append`.

        Args:
            time_ms: when each was settled; kept as the full hour it lies in.
            premium: NaN where unknown; None: all are.
            hours: for how many hours up to then each rate is; None: the step to the row before, at most 8.
        """
        _refuse_simulated(origin)
        columns = {
            "time": np.asarray(time_ms, np.int64) // HOUR_MS * HOUR_MS,
            "rate": np.asarray(rate, np.float64),
            "premium": np.full(len(time_ms), np.nan) if premium is None else np.asarray(premium, np.float64),
            "hours": hours_covered(time_ms) if hours is None else np.asarray(hours, np.int64),
        }
        return self._merge(self.funding_path_of(coin), columns, coin, FUNDING, origin)

    def load(self, coin: Coin, interval_ms: int, from_ms: int = 0, to_ms: int = _LAST_MS) -> BarSeries:
        """Bars that open in [from_ms, to_ms), gaps and all; DataFileError where the store has none of this series."""
        table = self._read(self.path_of(coin, interval_ms), coin, interval_name(interval_ms))
        time = table.column("time")
        table = table.filter(pc.and_(pc.greater_equal(time, from_ms), pc.less(time, to_ms)))
        open_ms: Ints = table.column("time").to_numpy()
        columns = [table.column(name).to_numpy() for name in _BAR_COLUMNS]
        return BarSeries(coin, interval_ms, _metadata(table, "origin"), open_ms, *columns)

    def load_funding(self, coin: Coin) -> FundingSeries:
        """Funding by hour; DataFileError where the store has none of this coin."""
        table = self._read(self.funding_path_of(coin), coin, FUNDING)
        columns = [table.column(name).to_numpy() for name in ("time", "rate", "premium", "hours")]
        return FundingSeries.from_settlements(coin, *columns)

    def has_funding(self, coin: Coin) -> bool:
        return self.funding_path_of(coin).exists()

    def missing(self, coin: Coin, interval_ms: int, from_ms: int, to_ms: int) -> tuple[tuple[int, int], ...]:
        """What is not held of the bars that open in [from_ms, to_ms), as [from_ms, to_ms) stretches on the grid."""
        path = self.path_of(coin, interval_ms)
        held = self._read(path).column("time").to_numpy() if path.exists() else np.zeros(0, np.int64)
        return _missing(held, held + interval_ms, interval_ms, from_ms, to_ms)

    def missing_funding(self, coin: Coin, from_ms: int, to_ms: int) -> tuple[tuple[int, int], ...]:
        """Full hours in [from_ms, to_ms) for which no rate is held, as stretches."""
        path = self.funding_path_of(coin)
        if not path.exists():
            return _missing(np.zeros(0, np.int64), np.zeros(0, np.int64), HOUR_MS, from_ms, to_ms)
        table = self._read(path)
        end = table.column("time").to_numpy() + HOUR_MS
        return _missing(end - table.column("hours").to_numpy() * HOUR_MS, end, HOUR_MS, from_ms, to_ms)

    def has(self, coin: Coin, interval_ms: int) -> bool:
        return self.path_of(coin, interval_ms).exists()

    def summary(self) -> tuple[SeriesSummary, ...]:
        """Every series of this network, by coin and interval, funding (interval `funding`) included."""
        found = []
        for path in sorted(self.folder.glob(f"*.{self.network}.parquet")):
            table = self._read(path)
            interval = _metadata(table, "interval")
            times: Ints = table.column("time").to_numpy()
            hours = table.column("hours").to_numpy() if interval == FUNDING else None
            found.append(
                SeriesSummary(
                    coin=Coin(_metadata(table, "coin")),
                    interval=interval,
                    first_ms=int(times[0]),
                    last_ms=int(times[-1]),
                    rows=len(times),
                    gaps=gaps(times, INTERVALS[interval]) if hours is None else funding_gaps(times, hours),
                    origin=_metadata(table, "origin"),
                    network=_metadata(table, "network"),
                )
            )
        return tuple(sorted(found, key=lambda one: (one.coin, INTERVALS.get(one.interval, 0))))

    def _merge(self, path: Path, columns: dict[str, Any], coin: Coin, interval: str, origin: str) -> int:
        if len(columns["time"]) == 0:
            return 0
        with changing(self.folder):
            return self._merge_held(path, columns, coin, interval, origin)

    def _merge_held(self, path: Path, columns: dict[str, Any], coin: Coin, interval: str, origin: str) -> int:
        before = 0
        if path.exists():
            table = self._read(path, coin, interval)
            held = _metadata(table, "origin")
            if held != origin:
                raise DataFileError(f"{path}: holds bars of {held}; bars of {origin} are refused; allowed: one origin")
            before = table.num_rows
            columns = {name: np.concatenate([table.column(name).to_numpy(), new]) for name, new in columns.items()}
        order = np.argsort(columns["time"], kind="stable")
        rows = order[np.append(np.diff(columns["time"][order]) > 0, True)]
        metadata = {"coin": coin, "interval": interval, "origin": origin, "network": self.network}
        merged = pa.table({name: values[rows] for name, values in columns.items()}).replace_schema_metadata(metadata)
        replace_file(path, lambda file: pq.write_table(merged, file, compression="zstd"))
        return len(rows) - before

    def _read(self, path: Path, coin: Coin | None = None, interval: str = "") -> Any:
        if not path.exists():
            raise DataFileError(
                f"{path}: the history store has no {interval} of {coin} here; `download` or `import` it"
            )
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataFileError(f"{path}: not a readable history file ({reason}); left untouched") from None
        network = _metadata(table, "network")
        if network != self.network:
            raise SafetyRefusal(f"{path}: holds bars of {network or 'no network'}, not of {self.network}")
        _need_a_series(path, table, coin)
        return table


def _need_a_series(path: Path, table: Any, coin: Coin | None) -> None:
    """DataFileError where the file is none that a store has written, or was written for another coin."""
    interval, held = _metadata(table, "interval"), _metadata(table, "coin")
    wanted = ("time", "rate", "premium", "hours") if interval == FUNDING else ("time", *_BAR_COLUMNS)
    lacking = [name for name in wanted if name not in table.column_names]
    if lacking or table.num_rows == 0 or interval not in (*INTERVALS, FUNDING):
        found = f"it lacks {', '.join(lacking)}" if lacking else f"{table.num_rows} rows of interval {interval!r}"
        raise DataFileError(
            f"{path}: not a history file ({found}); left untouched; allowed: what the store has written"
        )
    if coin is not None and held != coin:
        raise DataFileError(f"{path}: holds {held or 'no coin'}, not {coin}; left untouched")


def funding_gaps(time_ms: Ints, hours: Ints) -> tuple[tuple[int, int], ...]:
    """Hours between two settled rates for which neither is."""
    covered_from = time_ms - (hours - 1) * HOUR_MS
    cuts = np.flatnonzero(covered_from[1:] > time_ms[:-1] + HOUR_MS)
    return tuple((int(time_ms[cut]) + HOUR_MS, int(covered_from[cut + 1])) for cut in cuts)


def _missing(begin: Ints, end: Ints, step_ms: int, from_ms: int, to_ms: int) -> tuple[tuple[int, int], ...]:
    """[from_ms, to_ms), widened to the grid, without the ascending stretches [begin, end)."""
    first, last = from_ms // step_ms * step_ms, -(-to_ms // step_ms) * step_ms
    inside = (end > first) & (begin < last)
    edges = [first, *np.stack([begin[inside], end[inside]], axis=1).ravel().tolist(), last]
    return tuple((edges[at], edges[at + 1]) for at in range(0, len(edges), 2) if edges[at] < edges[at + 1])


def _refuse_simulated(origin: str) -> None:
    if origin.startswith(("synthetic:", "sim")):
        raise SafetyRefusal(f"{origin}: bars of a simulated venue never enter the history store")


def _file_stem(coin: Coin) -> str:
    """A coin as part of a file's name; HIP-3 names have a colon."""
    return coin.replace(":", "+")


def _metadata(table: Any, key: str) -> str:
    value = (table.schema.metadata or {}).get(key.encode())
    return value.decode() if value else ""
