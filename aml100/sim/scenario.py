"""Price tapes: replayed bars, and named synthetic processes that never end.

The one idea: a tape is a list of steps on one time line, and each step knows whether its coins go on. A replay can
therefore say ahead that a series stops (`gap`, `end`), which a live market cannot. Synthetic bars are drawn in a fixed
order from generators of their own, so the same seed gives the same bars whatever the size of the chunks they are
taken in. Parameters of the processes are per bar, whatever the bar's length.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

import msgspec
import numpy as np

from aml100.domain.events import SeriesEnd, SettledFunding
from aml100.domain.market import Bar, instrument_for
from aml100.domain.units import HOUR_MS, Coin, decimal_from_float
from aml100.market.series import BarSeries, Floats, FundingSeries

# --- tapes --------------------------------------------------------------------------------------------------------


class TapeStep(msgspec.Struct, frozen=True):
    """The bars that share one open time, the funding charged at it, and the coins whose series stops after it."""

    open_ms: int
    end_ms: int
    bars: tuple[Bar, ...]
    funding: Mapping[Coin, Decimal]
    ending: tuple[tuple[Coin, SeriesEnd], ...]
    settled: tuple[SettledFunding, ...] = ()
    """What became known of funding since the step before, up to this open."""


class Tape:
    """Bars of one interval and one or more coins on one time line, oldest first.

    `hourly_rate` is charged at full hours for which a coin's funding series has no rate; None charges nothing then.
    """

    def __init__(
        self,
        series: Sequence[BarSeries],
        *,
        funding: Mapping[Coin, FundingSeries] | None = None,
        hourly_rate: Decimal | None = None,
    ) -> None:
        """ValueError unless there is a bar, the intervals agree and each coin comes once."""
        if not series or any(len(one) == 0 for one in series):
            raise ValueError("a tape needs bars")
        if len({one.interval_ms for one in series}) > 1:
            raise ValueError("the series of a tape have one interval")
        if len({one.coin for one in series}) < len(series):
            raise ValueError("a tape holds one series a coin")
        self._series = list(series)
        self._funding = dict(funding or {})
        self._hourly_rate = hourly_rate
        self._processes: tuple[SyntheticProcess, ...] = ()
        self.interval_ms = series[0].interval_ms
        self.coins = tuple(one.coin for one in series)
        self.origin = series[0].origin
        self._identity: str | None = None
        self._block: tuple[int, list[TapeStep]] = (0, [])
        self._index()
        self._settled = self._settlements_by_row()

    @classmethod
    def endless(cls, processes: Sequence[SyntheticProcess], *, hourly_rate: Decimal | None = None) -> Tape:
        """A tape that draws its bars as they are needed; the processes start together and are used by it alone."""
        identity = "|".join(one.identity for one in processes)
        tape = cls([one.take(_CHUNK) for one in processes], hourly_rate=hourly_rate)
        tape._processes = tuple(processes)
        tape._identity = identity
        return tape

    @property
    def is_endless(self) -> bool:
        return bool(self._processes)

    def __len__(self) -> int:
        """Steps known so far; an endless tape has more."""
        return len(self._times)

    @property
    def identity(self) -> str:
        """Tells one tape from another: a digest of all bars and rates, or the name, seed and start of the processes."""
        if self._identity is None:
            digest = hashlib.sha256()
            for one in self._series:
                digest.update(f"{one.coin}/{one.interval_ms}".encode())
                for column in (one.open_ms - one.open_ms[0], one.open, one.high, one.low, one.close, one.volume):
                    digest.update(np.ascontiguousarray(column).tobytes())
            for coin, rates in self._funding.items():
                digest.update(coin.encode() + np.ascontiguousarray(rates.rate).tobytes())
            self._identity = f"sha256:{digest.hexdigest()}"
        return self._identity

    def time_of(self, row: int) -> int:
        """Open time of a step, in ms; IndexError after the end."""
        self._reach(row)
        return int(self._times[row])

    def has(self, row: int) -> bool:
        """There is a step `row`."""
        self._reach(row)
        return row < len(self._times)

    def step(self, row: int) -> TapeStep | None:
        """Step `row`, counted from 0; None after the end."""
        self._reach(row + 1)
        if row >= len(self._times):
            return None
        first, steps = self._block
        if not first <= row < first + len(steps):
            first = row - row % _BLOCK
            self._block = first, self._steps(first, first + _BLOCK)
            steps = self._block[1]
        return steps[row - first]

    def _steps(self, first: int, stop: int) -> list[TapeStep]:
        """Steps [first, stop), made together since they are asked for in order: a column at a time is far cheaper."""
        times = self._times[first:stop].tolist()
        bars: list[list[Bar]] = [[] for _ in times]
        ending: list[list[tuple[Coin, SeriesEnd]]] = [[] for _ in times]
        for one, places, ends in zip(self._series, self._places, self._ends, strict=True):
            at = places[first:stop]
            held = np.flatnonzero(at >= 0)
            if len(held) == 0:
                continue
            begin, end = int(at[held[0]]), int(at[held[-1]]) + 1  # no row lies between: every open time is a step
            for number, bar, kind in zip(
                held.tolist(), one.rows(begin, end).bars(), ends[begin:end].tolist(), strict=True
            ):
                bars[number].append(bar)
                if kind:
                    ending[number].append((one.coin, SeriesEnd.END if kind == _IS_LAST else SeriesEnd.GAP))
        return [
            TapeStep(
                open_ms,
                open_ms + self.interval_ms,
                tuple(opened),
                _UNCHARGED if open_ms % HOUR_MS else self._rates_at(open_ms, opened),
                tuple(stopping),
                self._settled.get(row, ()),
            )
            for row, open_ms, opened, stopping in zip(itertools.count(first), times, bars, ending, strict=False)
        ]

    def _rates_at(self, hour_ms: int, bars: Sequence[Bar]) -> dict[Coin, Decimal]:
        rates = ((bar.coin, self.rate_at(bar.coin, hour_ms)) for bar in bars)
        return {coin: rate for coin, rate in rates if rate is not None}

    def settlements(self, coin: Coin) -> tuple[SettledFunding, ...]:
        """What became known of a coin's funding, oldest first; nothing where no history of it was given."""
        rates = self._funding.get(coin)
        return () if rates is None else rates.settlements()

    def _settlements_by_row(self) -> dict[int, tuple[SettledFunding, ...]]:
        """Each settlement at the first step that opens when it is known, or later; of many, only the last matter."""
        found: dict[int, tuple[SettledFunding, ...]] = {}
        for coin in self._funding:
            settled = self.settlements(coin)
            by_row: dict[int, list[SettledFunding]] = {}
            for row, one in zip(np.searchsorted(self._times, [s.time_ms for s in settled]), settled, strict=True):
                by_row.setdefault(int(row), []).append(one)
            for row, ones in by_row.items():
                found[row] = (*found.get(row, ()), *ones[-_SETTLED_AT_ONCE:])
        return found

    def _index(self) -> None:
        """Where each step finds its bars: the row of each series (-1: none), and whether that series stops there."""
        times = self._times = np.unique(np.concatenate([one.open_ms for one in self._series]))
        self._places, self._ends = [], []
        for one in self._series:
            places = np.searchsorted(one.open_ms, times)
            held = np.minimum(places, len(one) - 1)
            self._places.append(np.where(one.open_ms[held] == times, held, -1))
            ends = np.zeros(len(one), np.int8)
            ends[:-1] = np.diff(one.open_ms) != one.interval_ms
            ends[-1] = _IS_LAST
            self._ends.append(ends)
        self._block = (0, [])

    def rate_at(self, coin: Coin, time_ms: int) -> Decimal | None:
        """The funding rate charged for a coin at this full hour; None where none is."""
        rates = self._funding.get(coin)
        rate = None if rates is None else rates.rate_at(time_ms)
        return self._hourly_rate if rate is None else decimal_from_float(rate)

    def series_of(self, coin: Coin) -> BarSeries:
        """All bars of a coin known so far, the future ones too: what a client may see is for the caller to cut."""
        return self._series[self.coins.index(coin)]

    def shifted(self, by_ms: int) -> Tape:
        """The same tape at other times; whole hours keep funding on its hours. Endless tapes start where they start."""
        if self._processes:
            raise ValueError("an endless tape is not shifted: give its processes another start")
        series = [replace(one, open_ms=one.open_ms + by_ms) for one in self._series]
        funding = {coin: rates.shifted(by_ms) for coin, rates in self._funding.items()}
        return Tape(series, funding=funding, hourly_rate=self._hourly_rate)

    def _reach(self, row: int) -> None:
        while self._processes and row >= len(self._times):
            more = [one.take(_CHUNK) for one in self._processes]
            self._series = [_joined(a, b) for a, b in zip(self._series, more, strict=True)]
            self._index()


_CHUNK: Final = 4096
_SETTLED_AT_ONCE: Final = 3
_BLOCK: Final = 256
_UNCHARGED: Final[Mapping[Coin, Decimal]] = {}
_IS_LAST: Final = 2


def _joined(first: BarSeries, second: BarSeries) -> BarSeries:
    return replace(
        first,
        open_ms=np.concatenate([first.open_ms, second.open_ms]),
        open=np.concatenate([first.open, second.open]),
        high=np.concatenate([first.high, second.high]),
        low=np.concatenate([first.low, second.low]),
        close=np.concatenate([first.close, second.close]),
        volume=np.concatenate([first.volume, second.volume]),
    )


# --- synthetic processes ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProcessShape:
    """A price as random walk + stationary deviation + drift that changes sign from regime to regime.

    `walk_sd`, `revert_sd` (of the stationary deviation) and `drift` are fractions of the price a bar; `half_life` in
    bars. `regime_bars` is the mean length of a regime, 0 for none; `share_trending` of them drift, and while one does
    the deviation is not fed.
    """

    walk_sd: float
    revert_sd: float = 0.0
    half_life: float = 30.0
    drift: float = 0.0
    regime_bars: int = 0
    share_trending: float = 0.0


_SHAPES: Final[dict[str, ProcessShape]] = {
    "regimes": ProcessShape(0.0005, 0.006, 15.0, 0.0004, 360, 0.5),
    "random-walk": ProcessShape(0.001),
    "mean-reverting": ProcessShape(0.0005, 0.004, 30.0),
    "trending": ProcessShape(0.0008, drift=0.0004, regime_bars=360, share_trending=1.0),
}

START_PRICES: Final[dict[str, float]] = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0, "XRP": 0.6, "DOGE": 0.12}


def process_names() -> tuple[str, ...]:
    """Names of the synthetic processes, the default first."""
    return tuple(_SHAPES)


class SyntheticProcess:
    """An endless market made from a seed. `take` continues where the last call ended.

    Prices are rounded to the venue's tick and each bar opens at the last one's close.
    """

    def __init__(
        self,
        name: str,
        coin: Coin,
        interval_ms: int,
        start_ms: int,
        seed: int,
        start_price: float | None = None,
    ) -> None:
        """ValueError for an unknown name; the coin takes part in the seed, so coins differ."""
        if name not in _SHAPES:
            raise ValueError(f"no synthetic process {name!r}; allowed: {', '.join(_SHAPES)}")
        self.shape = _SHAPES[name]
        self.coin, self.interval_ms = coin, interval_ms
        self.origin = f"synthetic:{name}"
        self.start_price = START_PRICES.get(coin, 100.0) if start_price is None else start_price
        self.identity = f"{self.origin}/{coin}/{interval_ms}/{start_ms}/{seed}/{self.start_price!r}"
        sources = np.random.SeedSequence([seed, zlib.crc32(coin.encode())]).spawn(4)
        self._moves, self._ranges, self._volumes, self._regimes = (
            np.random.Generator(np.random.PCG64(one)) for one in sources
        )
        self._next_ms = start_ms
        self._walk = self._deviation = 0.0
        self._left = 0
        self._drift = 0.0
        self._last = float(_rounded(np.array([self.start_price]), coin)[0])

    def take(self, n: int) -> BarSeries:
        """The next `n` bars."""
        path, spread = self._path(n)
        closes = _rounded(self.start_price * np.exp(path), self.coin)
        opens = np.concatenate([[self._last], closes[:-1]])
        high, low = self._extremes(opens, closes, spread)
        size_step = 10.0 ** instrument_for(self.coin).sz_decimals
        notional = 50_000.0 * np.exp(0.5 * self._volumes.standard_normal(n) + 200.0 * np.abs(np.log(closes / opens)))
        volume = np.maximum(np.round(notional / closes * size_step), 1.0) / size_step
        times = self._next_ms + np.arange(n, dtype=np.int64) * self.interval_ms
        self._next_ms += n * self.interval_ms
        if n:
            self._last = float(closes[-1])
        return BarSeries(self.coin, self.interval_ms, self.origin, times, opens, high, low, closes, volume)

    def _path(self, n: int) -> tuple[Floats, Floats]:
        """Log price relative to the start at the closes, and each bar's own standard deviation. Shapes [n]."""
        shape = self.shape
        keep = 0.5 ** (1.0 / shape.half_life)
        kick = shape.revert_sd * math.sqrt(1.0 - keep * keep)
        shocks = self._moves.standard_normal((n, 2)).tolist()
        path, spread = np.empty(n), np.empty(n)
        walk, deviation = self._walk, self._deviation
        for row, (first, second) in enumerate(shocks):
            if shape.regime_bars:
                if self._left == 0:
                    self._enter_regime(walk)
                self._left -= 1
            feed = 0.0 if self._drift else kick
            walk += self._drift + shape.walk_sd * first
            deviation = keep * deviation + feed * second
            path[row] = walk + deviation
            spread[row] = math.sqrt(shape.walk_sd**2 + feed**2)
        self._walk, self._deviation = walk, deviation
        return path, spread

    def _enter_regime(self, walk: float) -> None:
        """Draw the next regime: three uniforms each, so that no regime disturbs the draws of another.

        The farther the price has wandered, the likelier it drifts back: an endless market stays in a sane range.
        """
        length, kind, sign = self._regimes.random(3).tolist()
        shape = self.shape
        self._left = max(1, round(shape.regime_bars * (0.5 + length)))
        self._drift = 0.0
        if kind < shape.share_trending:
            self._drift = shape.drift if sign < 1.0 / (1.0 + math.exp(3.0 * walk)) else -shape.drift

    def _extremes(self, opens: Floats, closes: Floats, spread: Floats) -> tuple[Floats, Floats]:
        """Highs and lows as a Brownian bridge between open and close reaches them, each drawn by itself. Shapes [n]."""
        draws = self._ranges.random((len(opens), 2))
        move = np.log(closes / opens)
        reach = np.sqrt(move[:, None] ** 2 - 2.0 * spread[:, None] ** 2 * np.log1p(-draws))
        high = _rounded(opens * np.exp((move + reach[:, 0]) / 2.0), self.coin)
        low = _rounded(opens * np.exp((move - reach[:, 1]) / 2.0), self.coin)
        return np.maximum(high, np.maximum(opens, closes)), np.minimum(low, np.minimum(opens, closes))


def synthetic_series(
    name: str,
    coin: Coin,
    interval_ms: int,
    start_ms: int,
    n: int,
    seed: int,
    start_price: float | None = None,
) -> BarSeries:
    """The first `n` bars of a named process, origin `synthetic:NAME`; ValueError for an unknown name."""
    return SyntheticProcess(name, coin, interval_ms, start_ms, seed, start_price).take(n)


def _rounded(prices: Floats, coin: Coin) -> Floats:
    """To the venue's tick: five significant figures, the coin's decimals, whole numbers always allowed."""
    limit = instrument_for(coin).px_decimals
    decimals = 4 - np.floor(np.log10(prices)).astype(np.int64)
    decimals = np.maximum(decimals if limit is None else np.minimum(decimals, limit), 0)
    steps = 10.0**decimals
    return np.asarray(np.maximum(np.round(prices * steps), 1.0) / steps)
