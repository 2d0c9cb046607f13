"""Bars out of files. A file is used exactly as it is, or refused with the row that is wrong.

Two doors: `read_bars` is strict and serves `--data`, `train` and back-tests; `import_file` knows what other sources
call their columns and how they count time, sorts and de-duplicates, reports what it found, and puts the bars into the
history store. Neither fills a gap.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from aml100.domain.errors import DataFileError, SafetyRefusal
from aml100.domain.market import known_coins
from aml100.domain.units import HOUR_MS, INTERVALS, Coin, interval_name, iso_utc
from aml100.market.series import BarSeries, Floats, Ints
from aml100.storage.columns import PRICES, RawTable, floats, headless_columns, read_table, times_ms
from aml100.storage.funding_files import holds_funding, settlements_of
from aml100.storage.history import FUNDING, HistoryStore, funding_gaps, gaps

_MIXED_RUN: Final = 5
"""So many equal steps in a row of a longer interval are bars of that interval, not gaps."""

_ALIASES: Final = {
    "time": ("time", "timestamp", "date", "datetime", "open_time", "open time", "opentime", "ts", "t", "unix"),
    "open": ("open", "o", "open_price"),
    "high": ("high", "h", "high_price"),
    "low": ("low", "l", "low_price"),
    "close": ("close", "c", "close_price"),
    "volume": ("volume", "v", "vol", "base_volume", "amount"),
}
_VENUES: Final = (
    "binance",
    "bybit",
    "okx",
    "kucoin",
    "gateio",
    "kraken",
    "coinbase",
    "bitfinex",
    "bitget",
    "hyperliquid",
)
_KINDS: Final = ("perp", "spot", "futures", "swap")
_KLINE_COLUMNS: Final = 11
_QUOTES: Final = ("USDT", "USDC", "USD", "PERP", "BUSD")


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What one file brought. `duplicates` are rows dropped because a later one has the same time.

    `interval` is the bars' by its name, or `funding`, whose `interval_ms` is an hour. `replaced`: bars that the store
    held with other figures.
    """

    path: Path
    coin: Coin
    interval: str
    interval_ms: int
    origin: str
    first_ms: int
    last_ms: int
    rows: int
    added: int
    duplicates: int
    gaps: tuple[tuple[int, int], ...]
    replaced: int = 0


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes; DataFileError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def coin_of(path: Path) -> Coin:
    """The coin a file's name speaks of: a known one among its words, else the upper-cased stem.

    >>> coin_of(Path("binance_perp_btc_5m.parquet")), coin_of(Path("ETHUSDT-1m-2024.csv")), coin_of(Path("mine.csv"))
    ('BTC', 'ETH', 'MINE')
    """
    known = {coin.upper(): coin for coin in known_coins()}
    words = [word.upper() for word in re.split(r"[^A-Za-z0-9]+", path.stem)]
    bare = [word.removesuffix(quote) for word in words for quote in _QUOTES if word.endswith(quote)]
    for word in (*words, *bare):
        if word in known:
            return known[word]
    return Coin(path.stem.upper())


def read_bars(path: Path, coin: Coin | None = None) -> BarSeries:
    """Bars for `--data`, strictly as SPEC section 4 wants them.

    Args:
        coin: whose bars these are; None: see `coin_of`.

    Returns:
        The bars; `origin` is `file:NAME` unless the file names its own.

    Raises:
        DataFileError: naming file, row, the bar's time and the value.
    """
    raw = read_table(path)
    for name in ("time", *PRICES, "volume"):
        if raw.names.count(name) != 1:
            problem = "is missing" if name not in raw.names else "is there more than once"
            raise DataFileError(f"{path}: row 1: column {name!r} {problem}; found: {', '.join(raw.names)}")
    _need_rows(raw)
    series = _series(raw, times_ms(raw), coin or coin_of(path), raw.origin or f"file:{path.name}")
    steps = np.diff(series.open_ms)
    wrong = np.flatnonzero(steps <= 0)
    if len(wrong):
        index = int(wrong[0]) + 1
        before = iso_utc(int(series.open_ms[index - 1]))
        what = "occurs twice" if steps[index - 1] == 0 else f"comes after {before}"
        raise _refuse(raw, series, index, f"time {what}; allowed: ascending, each once")
    return _on_grid(raw, _sound(raw, series))


def import_file(path: Path, store: HistoryStore, coin: Coin | None = None, venue: str | None = None) -> ImportReport:
    """Put the bars or the funding rates of another source into the history store.

    CSV with or without a header (Binance's twelve columns), Feather as freqtrade writes it, Parquet; any order of
    rows; a time that comes again replaces the earlier row and is counted.

    Args:
        coin: whose they are; None: from the file's name.
        venue: where they come from; None: from the file's name or shape, else `file`.

    Raises:
        DataFileError: the file cannot be understood, a row is unsound, or the store holds bars of another origin.
        SafetyRefusal: they are a simulated venue's. Nothing was written in any of these cases.
    """
    raw = read_table(path, headless_columns(path))
    coin = coin or coin_of(path)
    origin = _origin(raw, venue, store.network)
    if holds_funding(raw):
        found = settlements_of(raw)
        with _naming(path):
            added = store.append_funding(coin, found.time_ms, found.rate, origin, found.premium, found.hours)
        first_ms, last_ms = int(found.time_ms[0]), int(found.time_ms[-1])
        missing = funding_gaps(found.time_ms // HOUR_MS * HOUR_MS, found.hours)
        rows, duplicates = len(found.time_ms), found.duplicates
        return ImportReport(path, coin, FUNDING, HOUR_MS, origin, first_ms, last_ms, rows, added, duplicates, missing)
    series, duplicates = _lenient(raw, coin, origin)
    with _naming(path):
        replaced = store.differing(series)
        added = store.append(series)
    return ImportReport(
        path=path,
        coin=series.coin,
        interval=interval_name(series.interval_ms),
        interval_ms=series.interval_ms,
        origin=series.origin,
        first_ms=int(series.open_ms[0]),
        last_ms=int(series.open_ms[-1]),
        rows=len(series),
        added=added,
        duplicates=duplicates,
        gaps=gaps(series.open_ms, series.interval_ms),
        replaced=replaced,
    )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """The store's refusal, with the file whose rows it refuses."""
    try:
        yield
    except (DataFileError, SafetyRefusal) as error:
        raise type(error)(f"{path}: {error}") from None


def _origin(raw: RawTable, venue: str | None, network: str) -> str:
    """Where rows come from: as the file says, else `import:VENUE` or `import:VENUE_KIND` by its name or shape.

    The trading venue's own are called as those that are downloaded from it, so that both make one series.
    """
    if raw.origin:
        return raw.origin
    words = re.split(r"[^a-z0-9]+", raw.path.stem.lower())
    kline = raw.is_headless and len(raw.names) >= _KLINE_COLUMNS
    source = venue or next((word for word in words if word in _VENUES), "binance" if kline else "file")
    kind = next((word for word in words if word in _KINDS), None)
    if source == "hyperliquid" and kind != "spot":
        return f"hyperliquid:{network}"
    return f"import:{source}" if kind is None or venue else f"import:{source}_{kind}"


def _lenient(raw: RawTable, coin: Coin, origin: str) -> tuple[BarSeries, int]:
    """Bars in ascending order, each time once, and how many rows that took away."""
    names = list(raw.names)
    for ours, theirs in _ALIASES.items():
        found = [names.index(name) for name in theirs if name in names]
        if not found:
            raise DataFileError(f"{raw.path}: row 1: no column for {ours!r}; found: {', '.join(raw.names)}")
        names[found[0]] = ours
    raw = replace(raw, names=tuple(names))
    _need_rows(raw)
    series = _sound(raw, _series(raw, times_ms(raw, unit_by_row=True), coin, origin))
    order = np.argsort(series.open_ms, kind="stable")
    times = series.open_ms[order]
    last = np.append(np.diff(times) > 0, True)
    rows = order[last]
    return _on_grid(raw, _take(series, rows), rows), int(len(order) - len(rows))


def _take(series: BarSeries, rows: Ints) -> BarSeries:
    return replace(
        series,
        open_ms=series.open_ms[rows],
        open=series.open[rows],
        high=series.high[rows],
        low=series.low[rows],
        close=series.close[rows],
        volume=series.volume[rows],
    )


def _need_rows(raw: RawTable) -> None:
    if len(raw) == 0:
        raise DataFileError(f"{raw.path}: row {raw.first_row}: the file has no rows; allowed: at least two")


def _series(raw: RawTable, open_ms: Ints, coin: Coin, origin: str) -> BarSeries:
    """The columns as they stand; the interval is not known yet."""
    open_, high, low, close = (floats(raw, name, open_ms) for name in PRICES)
    return BarSeries(coin, 0, origin, open_ms, open_, high, low, close, floats(raw, "volume", open_ms))


def _refuse(raw: RawTable, series: BarSeries, index: int, what: str, row: int | None = None) -> DataFileError:
    return raw.refuse(index if row is None else row, f"({iso_utc(int(series.open_ms[index]))}) {what}")


def _sound(raw: RawTable, series: BarSeries) -> BarSeries:
    """Refuse the first price that is no price, volume that is no volume, or bar that is upside down."""
    problems: list[tuple[int, str]] = []
    for name in PRICES:
        column: Floats = getattr(series, name)
        bad = np.flatnonzero(~(np.isfinite(column) & (column > 0)))
        if len(bad):
            problems.append((int(bad[0]), f"{name} is {column[bad[0]]}; allowed: finite and above 0"))
    bad = np.flatnonzero(~(np.isfinite(series.volume) & (series.volume >= 0)))
    if len(bad):
        problems.append((int(bad[0]), f"volume is {series.volume[bad[0]]}; allowed: finite and at least 0"))
    bad = np.flatnonzero(series.high < series.low)
    if len(bad):
        first = int(bad[0])
        what = f"high {series.high[first]} is below low {series.low[first]}; allowed: high >= low"
        problems.append((first, what))
    for name in ("open", "close"):
        column = getattr(series, name)
        bad = np.flatnonzero((column > series.high) | (column < series.low))
        if len(bad):
            first = int(bad[0])
            what = f"{name} {column[first]} is outside {series.low[first]} to {series.high[first]}"
            problems.append((first, f"{what}; allowed: from low to high"))
    if problems:
        raise _refuse(raw, series, *min(problems, key=lambda problem: problem[0]))
    return series


def _on_grid(raw: RawTable, series: BarSeries, rows: Ints | None = None) -> BarSeries:
    """Find the interval of ascending bars and refuse what does not lie on its grid.

    The interval is the commonest step, the shorter one of two equally common ones. Longer steps are gaps where they
    are multiples of it, unless several in a row are the same longer interval.

    Args:
        rows: where each bar stands in the file, where that is not its position here.
    """
    steps = np.diff(series.open_ms)
    if len(steps) == 0:
        raise _refuse(raw, series, 0, "is the only bar; allowed: at least two")
    spans, counts = np.unique(steps, return_counts=True)
    interval = int(spans[np.argmax(counts)])

    def refuse(index: int, what: str) -> DataFileError:
        return _refuse(raw, series, index, what, None if rows is None else int(rows[index]))

    if interval not in INTERVALS.values():
        raise refuse(1, f"bars are {interval} ms apart; allowed: {', '.join(INTERVALS)}")
    name = interval_name(interval)
    off = np.flatnonzero(series.open_ms % interval)
    if len(off):
        first = int(off[0])
        around = steps[max(first - 1, 0) : first + 2]
        again = around[1:][(around[1:] == around[:-1]) & (around[1:] != interval)]
        if len(again):
            raise refuse(first, f"mixed intervals: bars {again[0]} ms apart among {name} bars; allowed: one interval")
        raise refuse(
            first, f"time is {series.open_ms[first] % interval} ms off the {name} grid; allowed: multiples of it"
        )
    edges = np.flatnonzero(np.diff(steps, prepend=0, append=0))
    runs = np.diff(edges)
    longer = (steps[edges[:-1]] > interval) & (runs >= _MIXED_RUN)
    named = np.isin(steps[edges[:-1]], list(INTERVALS.values()))
    mixed = edges[:-1][longer & named]
    if len(mixed):
        first = int(mixed[0]) + 1
        raise refuse(first, f"mixed intervals: bars of {steps[first - 1]} ms among {name} bars; allowed: one interval")
    return replace(series, interval_ms=interval)
