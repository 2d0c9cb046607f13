"""The history store: one Parquet file per coin and interval, and one of funding per coin.

A file is only ever replaced as a whole (written beside, synced, renamed), so a reader sees the old bars or the new
ones. It names the network and the origin of its bars, and takes no others. What is missing between two bars is a gap:
computed from the times whenever somebody asks, never filled. Simulated markets have no business here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aml100.domain.errors import DataFileError, SafetyRefusal
from aml100.domain.units import HOUR_MS, INTERVALS, Coin, interval_name
from aml100.market.series import BarSeries, Floats, FundingSeries, Ints

_BAR_COLUMNS: Final = ("open", "high", "low", "close", "volume")
_LAST_MS: Final = 2**62


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
        if series.origin.startswith(("synthetic:", "sim")):
            raise SafetyRefusal(f"{series.origin}: bars of a simulated venue never enter the history store")
        columns = {"time": series.open_ms} | {name: getattr(series, name) for name in _BAR_COLUMNS}
        path = self.path_of(series.coin, series.interval_ms)
        return self._merge(path, columns, series.coin, interval_name(series.interval_ms), series.origin)

    def append_funding(self, coin: Coin, time_ms: Ints, rate: Floats, origin: str) -> int:
        """Merge settled funding rates as the venue states them; answers how many are new. Errors as `append`."""
        columns = {"time": np.asarray(time_ms, np.int64), "rate": np.asarray(rate, np.float64)}
        return self._merge(self.funding_path_of(coin), columns, coin, "funding", origin)

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
        table = self._read(self.funding_path_of(coin), coin, "funding")
        return FundingSeries.from_settlements(coin, table.column("time").to_numpy(), table.column("rate").to_numpy())

    def has(self, coin: Coin, interval_ms: int) -> bool:
        return self.path_of(coin, interval_ms).exists()

    def summary(self) -> tuple[SeriesSummary, ...]:
        """Every series of this network, by coin and interval, funding (interval `funding`) included."""
        found = []
        for path in sorted(self.folder.glob(f"*.{self.network}.parquet")):
            table = self._read(path)
            interval = _metadata(table, "interval")
            times: Ints = table.column("time").to_numpy()
            span = INTERVALS.get(interval, HOUR_MS)
            found.append(
                SeriesSummary(
                    coin=Coin(_metadata(table, "coin")),
                    interval=interval,
                    first_ms=int(times[0]),
                    last_ms=int(times[-1]),
                    rows=len(times),
                    gaps=gaps(times, span) if interval in INTERVALS else (),
                    origin=_metadata(table, "origin"),
                    network=_metadata(table, "network"),
                )
            )
        return tuple(sorted(found, key=lambda one: (one.coin, INTERVALS.get(one.interval, 0))))

    def _merge(self, path: Path, columns: dict[str, Any], coin: Coin, interval: str, origin: str) -> int:
        if len(columns["time"]) == 0:
            return 0
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
        _replace(path, lambda file: pq.write_table(merged, file, compression="zstd"))
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
        return table


def _file_stem(coin: Coin) -> str:
    """A coin as part of a file's name; HIP-3 names have a colon."""
    return coin.replace(":", "+")


def _metadata(table: Any, key: str) -> str:
    value = (table.schema.metadata or {}).get(key.encode())
    return value.decode() if value else ""


def _replace(path: Path, write: Callable[[Any], None]) -> None:
    """Write beside, sync, rename, sync the folder: the old file or the new one, whatever happens."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataFileError(f"{path}: cannot be written ({error})") from None
