"""Bars for the tests of features: real ones, and random walks with gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from aml100.domain.units import Coin
from aml100.market.series import BarSeries


def real_bars(shared: Path, name: str, start: int, stop: int) -> BarSeries:
    """Rows [start, stop) of a file of real bars."""
    table = pq.read_table(shared / "data/market" / name).slice(start, stop - start)
    columns = {c: table[c].to_numpy() for c in table.column_names}
    interval_ms = int(np.diff(columns["time"]).min())
    figures = (columns[c] for c in ("open", "high", "low", "close", "volume"))
    return BarSeries(Coin("BTC"), interval_ms, f"file:{name}", columns["time"], *figures)


def random_bars(
    n: int, interval_ms: int, seed: int, *, first: int = 0, gaps: tuple[int, ...] = (), quiet_share: float = 0.1
) -> BarSeries:
    """A random walk of `n` bars from grid place `first`; three bars are missing before each row of `gaps`."""
    rng = np.random.default_rng(seed)
    moves = rng.standard_normal(n) * 0.002 * (rng.random(n) > quiet_share)
    close = 100.0 * np.exp(np.cumsum(moves))
    open_ = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(open_, close) * (1.0 + rng.random(n) * 0.001)
    low = np.minimum(open_, close) * (1.0 - rng.random(n) * 0.001)
    volume = rng.exponential(5.0, n) * (rng.random(n) > quiet_share)
    place = first + np.arange(n) + 3 * np.isin(np.arange(n), gaps).cumsum()
    times = place.astype(np.int64) * interval_ms
    return BarSeries(Coin("BTC"), interval_ms, "test:walk", times, open_, high, low, close, volume)
