"""Bars that put every rule to work: jumps between bars, gaps, full hours with funding that is not nothing."""

from __future__ import annotations

import numpy as np

from aml100.domain.units import HOUR_MS, Coin
from aml100.market.series import BarSeries, FundingSeries
from tests.unit.market.tapes import random_bars


def jumpy(seed: int, rows: int = 900) -> tuple[BarSeries, FundingSeries]:
    """Bars of a quarter of an hour, of which one in twenty opens far from the last close, and eight-hourly funding."""
    series = random_bars(rows, 900_000, seed, first=1_800_000 + seed, gaps=(300, 301, 620))
    jump = np.where(np.random.default_rng(seed).random(rows) < 0.05, 1.03, 1.0)
    columns = {name: getattr(series, name) * 300.0 for name in ("open", "high", "low", "close")}
    columns["open"] = np.round(columns["open"] * jump, 1)
    columns["close"] = np.round(columns["close"], 1)
    columns["high"] = np.round(np.maximum.reduce([columns["high"], columns["open"], columns["close"]]) + 0.1, 1)
    columns["low"] = np.round(np.minimum.reduce([columns["low"], columns["open"], columns["close"]]) - 0.1, 1)
    series = BarSeries(Coin("BTC"), series.interval_ms, "test", series.open_ms, **columns, volume=series.volume)
    first = int(series.open_ms[0]) // HOUR_MS * HOUR_MS
    settled = first + np.arange(1, 30) * 8 * HOUR_MS
    return series, FundingSeries.from_settlements(series.coin, settled, np.sin(settled / 1e8) * 2e-3)
