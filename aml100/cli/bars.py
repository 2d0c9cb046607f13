"""Bars and funding that commands are given: files, or the history store by coin and span."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aml100.cli.options import BarsOptions, TapeOptions
from aml100.domain.errors import UsageError
from aml100.domain.units import INTERVALS, Coin
from aml100.market.series import BarSeries, FundingSeries
from aml100.storage.history import HistoryStore
from aml100.storage.importing import read_bars, read_funding, sha256_of


@dataclass(frozen=True, slots=True)
class Market:
    """What a command works on: one series a coin, what is known of funding, and where it all came from."""

    series: tuple[BarSeries, ...]
    funding: dict[Coin, FundingSeries]
    origin: str
    sha256: str

    @property
    def rows(self) -> int:
        """Bars of the longest series."""
        return max(len(one) for one in self.series)


def load_files(data: Sequence[Path], funding: Sequence[Path], coins: Sequence[str]) -> Market:
    """Bars of `--data`, strictly; `--coin` and `--funding` go with the files in their order.

    UsageError where the numbers of options do not fit, two files are of one coin or their intervals differ.
    """
    if coins and len(coins) != len(data):
        raise UsageError(f"--coin: {len(coins)} given for {len(data)} --data; allowed: one for each, or none")
    if funding and len(funding) != len(data):
        raise UsageError(f"--funding: {len(funding)} given for {len(data)} --data; allowed: one for each, or none")
    names: list[Coin | None] = [Coin(coin) for coin in coins] if coins else [None] * len(data)
    series = tuple(read_bars(path, coin) for path, coin in zip(data, names, strict=True))
    if len({one.coin for one in series}) < len(series):
        raise UsageError(f"--data: two files are of {series[-1].coin}; allowed: one a coin (name them with --coin)")
    if len({one.interval_ms for one in series}) > 1:
        raise UsageError("--data: the files have different intervals; allowed: one")
    rates = {one.coin: read_funding(path, one.coin) for one, path in zip(series, funding, strict=False)}
    return Market(series, rates, ",".join(one.origin for one in series), _joined_digest(data))


def load_market(options: BarsOptions) -> Market:
    """The bars a research command was asked for; UsageError where none were."""
    if options.data:
        return _cut(load_files(options.data, options.funding, options.coins), options)
    if not options.coins:
        raise UsageError(f"{options.command}: no bars; allowed: --data FILE, or --coin NAME from the history store")
    store = HistoryStore(options.folder / "history")
    interval = options.interval or options.load_settings().params.trading.interval
    series = tuple(store.load(Coin(coin), INTERVALS[interval]) for coin in options.coins)
    rates = {one.coin: store.load_funding(one.coin) for one in series}
    digest = hashlib.sha256(b"".join(one.close.tobytes() + one.open_ms.tobytes() for one in series)).hexdigest()
    return _cut(Market(series, rates, ",".join(one.origin for one in series), digest), options)


def tape_files(options: TapeOptions) -> Market:
    """The bars a simulated venue is to play."""
    return load_files(options.data, options.funding, options.coins)


def _cut(market: Market, options: BarsOptions) -> Market:
    """The span --from/--to; UsageError where nothing is left."""
    if options.from_ms is None and options.to_ms is None:
        return market
    first = -(2**62) if options.from_ms is None else options.from_ms
    last = 2**62 if options.to_ms is None else options.to_ms
    cut = []
    for one in market.series:
        start, stop = one.open_ms.searchsorted([first, last])
        if start >= stop:
            raise UsageError(f"--from/--to: no bar of {one.coin} in that span")
        cut.append(one.rows(int(start), int(stop)))
    return Market(tuple(cut), market.funding, market.origin, market.sha256)


def _joined_digest(paths: Sequence[Path]) -> str:
    digests = [sha256_of(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
