"""The ground that environments share: one series with its features, signals and rules, laid out once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from aml100.domain.units import Coin
from aml100.evaluation.kernel import KernelRules, Market, Records
from aml100.learning.dataset import Scaler
from aml100.learning.reward import RewardConfig, calm_factor
from aml100.market.features import FEATURES, compute_features
from aml100.market.series import BarSeries, Floats, FundingSeries, Ints

if TYPE_CHECKING:
    import pandas as pd

Float32s: TypeAlias = npt.NDArray[np.float32]

_COLUMNS: Final = ("open", "high", "low", "close", "volume")
_SIGNAL_COLUMNS: Final = tuple(FEATURES.index(name) for name in ("vol_20", "scaled_up", "scaled_down"))


def series_from_frame(frame: pd.DataFrame, coin: str = "UNKNOWN") -> BarSeries:
    """Bars out of a DataFrame with time (ms, s, or datetimes), open, high, low, close, volume.

    Raises: ValueError for missing columns, fewer than two rows, times that do not ascend on the grid of their
        smallest step, prices that no bar can have.
    """
    missing = [name for name in ("time", *_COLUMNS) if name not in frame.columns]
    if missing:
        raise ValueError(f"the bars lack the columns {', '.join(missing)}")
    times = frame["time"].to_numpy()
    if not np.issubdtype(times.dtype, np.number):
        times = frame["time"].to_numpy(dtype="datetime64[ms]").astype(np.int64)
    open_ms = np.ascontiguousarray(times, dtype=np.int64)
    if len(open_ms) < 2:
        raise ValueError("there must be at least two bars")
    if open_ms.max() < 100_000_000_000:
        open_ms = open_ms * 1000
    steps = np.diff(open_ms)
    interval_ms = int(steps.min())
    if interval_ms <= 0 or (steps % interval_ms).any() or (open_ms % interval_ms).any():
        raise ValueError(f"times must ascend on a grid; the smallest step is {interval_ms} ms")
    columns = [np.ascontiguousarray(frame[name], dtype=np.float64) for name in _COLUMNS]
    opening, high, low, close, volume = columns
    sound = (low > 0) & (low <= np.minimum(opening, close)) & (high >= np.maximum(opening, close))
    sound &= np.isfinite(high) & (volume >= 0) & np.isfinite(volume)
    if not sound.all():
        row = int(np.argmin(sound))
        values = " ".join(str(column[row]) for column in columns)
        raise ValueError(f"row {row} (opens at {open_ms[row]} ms) is no bar: {values}")
    return BarSeries(Coin(coin), interval_ms, "frame", open_ms, *columns)


@dataclass(frozen=True, slots=True, eq=False)
class Arena:
    """What all environments over one series share. All arrays are read-only.

    `features` float32 [T, F], scaled as the learner scales them, 0 where incomplete; `signals` float64 [T, 2]: the
    reward's calm factor, and the sign of the trend; `starts`: rows with a whole window of features behind them and a
    bar after.
    """

    market: Market
    features: Float32s
    signals: Floats
    starts: Ints
    rules: Records
    weights: Records
    window: int

    @staticmethod
    def build(
        bars: pd.DataFrame | BarSeries,
        *,
        window: int = 60,
        rules: KernelRules | None = None,
        reward: RewardConfig | None = None,
        funding: FundingSeries | None = None,
        constant_rate: float = 0.0,
        fit_rows: int | None = None,
        scaler: Scaler | None = None,
    ) -> Arena:
        """Compute features once and lay everything out.

        Args:
            fit_rows: the scaler is fitted on the first so many rows (the training part); None for all.
            scaler: a model's, in place of one fitted here.

        Raises: ValueError where no row has a whole window behind it.
        """
        series = bars if isinstance(bars, BarSeries) else series_from_frame(bars)
        frame = compute_features(series, funding)
        fitted = frame.values[:fit_rows][frame.valid[:fit_rows]]
        complete = np.convolve(frame.valid, np.ones(window), "full")[: len(series)] >= window
        rules = rules or KernelRules()
        market = Market.from_series(series, funding, constant_rate, frame.values if rules.atr_stop else None)
        followed = np.append(market.bars["follows"][1:] == 1, False)
        starts = np.flatnonzero(complete & followed)
        if len(starts) == 0 or len(fitted) == 0:
            raise ValueError(f"{len(series)} bars hold no complete window of {window} rows of features")
        features = (scaler or Scaler.fit([fitted])).apply(np.where(frame.valid[:, None], frame.values, 0.0))
        features[~frame.valid] = 0.0
        volatility, up, down = (frame.values[:, column] for column in _SIGNAL_COLUMNS)
        weights = (reward or RewardConfig()).as_record()
        if weights["shaped"][0] and weights["reference"][0] == 0.0:
            weights["reference"] = np.median(fitted[:, _SIGNAL_COLUMNS[0]])
        signals = np.stack([calm_factor(weights, volatility), np.nan_to_num(up - down)], axis=1)
        for array in (features, signals, starts):
            array.flags.writeable = False
        return Arena(market, features, signals, starts, rules.as_record(), weights, window)

    def windows(self, rows: Ints) -> Float32s:
        """The feature windows that end at `rows` [B], copied out: float32 [B, window, F]."""
        copied: Float32s = self.features[rows[:, None] + np.arange(1 - self.window, 1)]
        return copied
