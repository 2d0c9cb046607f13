"""Bars and funding that commands are given: files, or the history store by coin and span."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aml100.cli.options import BarsOptions, TapeOptions, TrainOptions, WalkforwardOptions
from aml100.config.models import Params
from aml100.domain.errors import UsageError
from aml100.domain.units import DAY_MS, HOUR_MS, INTERVALS, Coin, iso_utc
from aml100.market.series import BarSeries, FundingSeries
from aml100.storage.funding_files import read_funding
from aml100.storage.history import HistoryStore, gaps
from aml100.storage.importing import read_bars, sha256_of

log = logging.getLogger(__name__)

LONGEST_GAP_MS = DAY_MS
"""A longer hole in the history store is not trained across unasked."""


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
    names: list[Coin | None] = [Coin(coin) for coin in coins] if coins else [None] * len(data)
    series = tuple(read_bars(path, coin) for path, coin in zip(data, names, strict=True))
    if len({one.coin for one in series}) < len(series):
        raise UsageError(f"--data: two files are of {series[-1].coin}; allowed: one a coin (name them with --coin)")
    if len({one.interval_ms for one in series}) > 1:
        raise UsageError("--data: the files have different intervals; allowed: one")
    rates = _funding_of(funding, series)
    return Market(series, rates, ",".join(one.origin for one in series), _joined_digest(data))


def load_market(options: BarsOptions) -> Market:
    """The bars a research command was asked for; UsageError where none were."""
    if options.data:
        return _cut(load_files(options.data, options.funding, options.coins), options)
    if not options.coins:
        raise UsageError(f"{options.command}: no bars; allowed: --data FILE, or --coin NAME from the history store")
    store = HistoryStore(options.folder / "history", options.network)
    interval = options.interval or options.load_settings().params.trading.interval
    series = tuple(store.load(Coin(coin), INTERVALS[interval]) for coin in options.coins)
    if options.funding:
        rates = _funding_of(options.funding, series)
    else:
        rates = {one.coin: store.load_funding(one.coin) for one in series if store.has_funding(one.coin)}
    market = _cut(Market(series, rates, ",".join(one.origin for one in series), ""), options)
    if isinstance(options, TrainOptions | WalkforwardOptions):
        _refuse_long_gaps(market)
    return replace(market, sha256=_digest_of(market))


def _refuse_long_gaps(market: Market) -> None:
    """A training is not given an archive with a hole in it unasked (GUARANTEES B13); shorter gaps are never straddled.

    UsageError names the longest gap.
    """
    for one in market.series:
        found = gaps(one.open_ms, one.interval_ms)
        from_ms, to_ms = max(found, key=lambda gap: gap[1] - gap[0], default=(0, 0))
        if to_ms - from_ms > LONGEST_GAP_MS:
            raise UsageError(
                f"--coin {one.coin}: the history store has a gap of {(to_ms - from_ms) // one.interval_ms} bars from "
                f"{iso_utc(from_ms)} to {iso_utc(to_ms)}; allowed: a span without a gap of more than a day, chosen "
                "with --from and --to, or filled with `download` or `import`"
            )


def tape_files(options: TapeOptions) -> Market:
    """The bars a simulated venue is to play."""
    market = load_files(options.data, options.funding, options.coins)
    facts = funding_facts(market, options.load_settings().params)
    if options.funding and facts["funding_known_share"] != 1.0:
        log.warning("--funding: %s", facts["funding_note"])
    return market


def funding_facts(market: Market, params: Params) -> dict[str, float | str | None]:
    """How much of the funding that is charged was settled, and what is assumed for the rest: a part of the figures.

    `funding_known_share` is of the full hours at which a bar opens; null where there is none.
    """
    hours = known = 0
    for one in market.series:
        charged = one.open_ms[one.open_ms % HOUR_MS == 0]
        rates = market.funding.get(one.coin)
        hours += len(charged)
        known += 0 if rates is None else int(np.isin(charged, rates.time_ms).sum())
    note = f"settled rates for {known} of {hours} hours"
    if known < hours:
        costs = params.backtest
        rest = f"{costs.funding_rate_pct:g} % per 8 h assumed" if costs.funding_rate_sim else "nothing charged"
        note += f" ({known * 1000 // hours / 10:g} %); {rest} for the other {hours - known}"
    return {"funding_known_share": known / hours if hours else None, "funding_note": note}


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


def _funding_of(files: Sequence[Path], series: Sequence[BarSeries]) -> dict[Coin, FundingSeries]:
    """`--funding` goes with the coins in their order."""
    if files and len(files) != len(series):
        raise UsageError(f"--funding: {len(files)} given for {len(series)} coins; allowed: one for each, or none")
    return {one.coin: read_funding(path, one.coin) for one, path in zip(series, files, strict=False)}


def _digest_of(market: Market) -> str:
    """Of the bars and rates themselves, where they come from no file of the operator's."""
    digest = hashlib.sha256()
    for one in market.series:
        for column in (one.open_ms, one.open, one.high, one.low, one.close, one.volume):
            digest.update(column.tobytes())
    for rates in market.funding.values():
        digest.update(rates.time_ms.tobytes() + rates.rate.tobytes())
    return digest.hexdigest()


def _joined_digest(paths: Sequence[Path]) -> str:
    digests = [sha256_of(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
