"""What learning reads: bars, features and rules laid out by row, and which rows may be used for what.

Time is split once, at one moment for all coins: rows before it (less an embargo as long as the longest look-back) are
for training, rows from it on for validation. A range is a contiguous run of rows with complete features; nothing is
ever computed across the border of one. The scaler knows training rows only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aml100.domain.errors import UsageError
from aml100.evaluation.kernel import KernelRules, Market
from aml100.learning.inference import SCALED_LIMIT
from aml100.learning.settings import TrainingSettings
from aml100.market.features import FEATURES, FeatureFrame, compute_features, schema_digest, warmup_bars
from aml100.market.regime import DEFAULT_THRESHOLDS, RegimeThresholds
from aml100.market.series import BarSeries, Floats, FundingSeries

_VOLATILITY, _UP, _DOWN = (FEATURES.index(name) for name in ("vol_20", "scaled_up", "scaled_down"))

_SHORTEST_STRETCH = 48

Range = tuple[int, int]
"""Rows [start, stop) of one coin."""


@dataclass(frozen=True, slots=True, eq=False)
class CoinData:
    """One coin to learn from: its series, the funding known of it, and the rules its positions follow."""

    series: BarSeries
    rules: KernelRules
    funding: FundingSeries | None = None
    constant_funding_rate: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """Mean and 1 / standard deviation of each feature over the training rows, float64 [F]; constants scale to 0."""

    mean: Floats
    inverse_sd: Floats

    @staticmethod
    def fit(rows: Sequence[Floats]) -> Scaler:
        """From blocks of training rows [n, F]."""
        together = np.concatenate(rows)
        mean = together.mean(axis=0)
        sd = together.std(axis=0)
        alive = sd > 1e-12 * np.maximum(1.0, np.abs(mean))
        return Scaler(mean, np.where(alive, 1.0 / np.where(alive, sd, 1.0), 0.0))

    def apply(self, rows: Floats) -> npt.NDArray[np.float32]:
        """Scaled rows, float32, cut at +-SCALED_LIMIT; equal bit for bit to the compiled `scale_row`."""
        scaled = np.clip((rows - self.mean) * self.inverse_sd, -SCALED_LIMIT, SCALED_LIMIT)
        return scaled.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class CoinRows:
    """One coin laid out for learning; all arrays run over its rows [n].

    `scaled` float32 [n, F] is 0 in rows without complete features. `volatility` (one-bar standard deviation) and
    `trend` (its sign) are what the reward looks at. `train` and `validate` are the usable ranges;
    a validation range may reach `warm` rows further back to warm the encoder up, never into training rows.
    """

    market: Market
    rules: npt.NDArray[np.void]
    scaled: npt.NDArray[np.float32]
    close: Floats
    volatility: Floats
    trend: Floats
    train: tuple[Range, ...]
    validate: tuple[Range, ...]
    warm_from: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Everything a training reads.

    `reward_unit` is the standard deviation of one bar's return in training rows, `usual_volatility` their median of
    the volatility that the reward looks at.
    """

    coins: tuple[CoinRows, ...]
    scaler: Scaler
    reward_unit: float
    usual_volatility: float
    schema: str
    interval_ms: int
    embargo_bars: int
    fingerprint: str

    @property
    def train_bars(self) -> int:
        """Rows that may be learned from."""
        return sum(stop - start for coin in self.coins for start, stop in coin.train)


class _Split(NamedTuple):
    """Training ranges, validation ranges, and where the warm-up of each validation range begins."""

    train: tuple[Range, ...]
    validate: tuple[Range, ...]
    warm_from: tuple[int, ...]


def look_back_bars(interval_ms: int, n_step: int) -> int:
    """The default embargo: the longest feature look-back, and the bars that a multi-step target reaches ahead."""
    return warmup_bars(interval_ms) + n_step


def fewest_bars(interval_ms: int, settings: TrainingSettings) -> int:
    """Contiguous bars of a coin from which a training can be laid out, whatever the hour they begin at.

    What the validation part leaves must hold warm-up, embargo and one stretch, which few bars shorten to a quarter of
    it and to no less than _SHORTEST_STRETCH (`trainer.lay_out`).
    """
    lost = warmup_bars(interval_ms) + (settings.embargo_bars or look_back_bars(interval_ms, settings.n_step))
    longest = settings.burn_in_bars + settings.stretch_bars + 1
    trained = lost + min(longest, max(_SHORTEST_STRETCH, -(-lost // 3)))
    return math.ceil((trained + 1) / (1.0 - settings.validation_fraction))


def fingerprint_of(data: Sequence[CoinData]) -> str:
    """SHA-256 over every bar, funding rate and rule that a training reads."""
    digest = hashlib.sha256()
    for coin in data:
        series = coin.series
        digest.update(f"{series.coin}|{series.interval_ms}|{series.origin}|{coin.rules}|".encode())
        digest.update(f"{coin.constant_funding_rate!r}|".encode())
        for column in (series.open_ms, series.open, series.high, series.low, series.close, series.volume):
            digest.update(np.ascontiguousarray(column).tobytes())
        if coin.funding is not None:
            digest.update(coin.funding.time_ms.tobytes() + coin.funding.rate.tobytes())
    return digest.hexdigest()


def build_dataset(
    data: Sequence[CoinData],
    *,
    validation_fraction: float,
    embargo_bars: int,
    warm_bars: int,
    shortest: int,
    regimes: RegimeThresholds = DEFAULT_THRESHOLDS,
) -> Dataset:
    """Compute features, split by time, fit the scaler on the training rows and lay everything out.

    Args:
        validation_fraction: share of all bars from the moment of the split on.
        embargo_bars: bars left out before that moment.
        warm_bars: rows before a validation range that may warm the encoder up.
        shortest: training ranges with fewer rows are left out.
        regimes: where a trend begins.

    Raises:
        UsageError: no data, mixed intervals, or too few bars for a training and a validation part.
    """
    split_ms = _split_moment(data, validation_fraction)
    interval_ms = data[0].series.interval_ms
    frames = [compute_features(coin.series, coin.funding, thresholds=regimes) for coin in data]
    splits = [
        _split_ranges(coin.series, frame.valid, split_ms, embargo_bars, warm_bars, shortest)
        for coin, frame in zip(data, frames, strict=True)
    ]
    blocks = [frame.values[a:b] for frame, split in zip(frames, splits, strict=True) for a, b in split.train]
    if not blocks or not any(split.validate for split in splits):
        raise UsageError(
            f"{sum(len(coin.series) for coin in data)} bars are too few to train on: after the warm-up of "
            f"{warmup_bars(interval_ms)} and an embargo of {embargo_bars} bars a training range needs {shortest} and "
            "validation at least 2"
        )
    scaler = Scaler.fit(blocks)
    closes = [coin.series.close[a:b] for coin, split in zip(data, splits, strict=True) for a, b in split.train]
    return Dataset(
        coins=tuple(_lay_out(*parts, scaler) for parts in zip(data, frames, splits, strict=True)),
        scaler=scaler,
        reward_unit=max(1e-9, float(np.concatenate([np.diff(np.log(close)) for close in closes]).std())),
        usual_volatility=float(np.median(np.concatenate(blocks)[:, _VOLATILITY])),
        schema=schema_digest(interval_ms, regimes),
        interval_ms=interval_ms,
        embargo_bars=embargo_bars,
        fingerprint=fingerprint_of(data),
    )


def _split_moment(data: Sequence[CoinData], validation_fraction: float) -> int:
    """Open of the first bar for validation, ms: one moment for all coins; UsageError where nothing can be split."""
    if not data:
        raise UsageError("there is nothing to train on: no bars were given")
    if any(coin.series.interval_ms != data[0].series.interval_ms for coin in data):
        raise UsageError("all bars of one training must have the same interval")
    times = np.sort(np.concatenate([coin.series.open_ms for coin in data]))
    if len(times) == 0:
        raise UsageError("there is nothing to train on: the bars are empty")
    return int(times[min(len(times) - 1, int(len(times) * (1.0 - validation_fraction)))])


def _lay_out(coin: CoinData, frame: FeatureFrame, split: _Split, scaler: Scaler) -> CoinRows:
    return CoinRows(
        market=Market.from_series(
            coin.series, coin.funding, coin.constant_funding_rate, frame.values if coin.rules.atr_stop else None
        ),
        rules=coin.rules.as_record(),
        scaled=np.where(frame.valid[:, None], scaler.apply(np.nan_to_num(frame.values)), np.float32(0.0)),
        close=np.ascontiguousarray(coin.series.close),
        volatility=np.ascontiguousarray(frame.values[:, _VOLATILITY]),
        trend=np.nan_to_num(frame.values[:, _UP] - frame.values[:, _DOWN]),
        train=split.train,
        validate=split.validate,
        warm_from=split.warm_from,
    )


def _split_ranges(
    series: BarSeries, valid: npt.NDArray[np.bool_], split_ms: int, embargo_bars: int, warm_bars: int, shortest: int
) -> _Split:
    train_end = int(np.searchsorted(series.open_ms, split_ms - embargo_bars * series.interval_ms))
    split = int(np.searchsorted(series.open_ms, split_ms))
    train: list[Range] = []
    validate: list[Range] = []
    warm_from: list[int] = []
    for start, stop in _complete_ranges(series, valid):
        if min(stop, train_end) - start >= shortest:
            train.append((start, min(stop, train_end)))
        first = max(start, split)
        if stop - first >= 2:
            validate.append((first, stop))
            warm_from.append(max(start, train_end, first - warm_bars))
    return _Split(tuple(train), tuple(validate), tuple(warm_from))


def _complete_ranges(series: BarSeries, valid: npt.NDArray[np.bool_]) -> list[Range]:
    """Runs of rows with complete features inside the contiguous segments."""
    ranges: list[Range] = []
    for start, stop in series.segments():
        rows = np.concatenate([[False], valid[start:stop], [False]])
        edges = np.flatnonzero(rows[1:] != rows[:-1]) + start
        ranges.extend((int(a), int(b)) for a, b in edges.reshape(-1, 2))
    return ranges


def feature_names() -> tuple[str, ...]:
    """The columns of `scaled`, in order."""
    return tuple(FEATURES)
