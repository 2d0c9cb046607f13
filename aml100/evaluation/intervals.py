"""The interval of each figure: how far it could lie from what was seen, by resampling (GUARANTEES E10).

Figures of the equity curve come from a stationary block bootstrap of its daily returns (Politis and Romano 1994),
figures of trades from one of the trades in their order, so that runs of luck stay together. Two-sided, by percentiles;
the seed is kept, so each can be drawn again. An interval says nothing about what the market will do next: only how
much the same market's days, dealt again, would have moved the figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from aml100.evaluation.metrics import (
    MONTH_DAYS,
    SHARPE_MIN_RETURNS,
    YEAR_DAYS,
    Floats,
    Json,
    RunRecord,
    daily_returns,
)
from aml100.evaluation.statistics import stationary_rows

SEED: Final = 19940101
CONFIDENCE: Final = 0.95
RESAMPLES: Final = 1000
_MIN_TRADES: Final = 10
_MOST_DRAWN: Final = 2_000_000
"""Numbers held at once while trades are resampled."""


@dataclass(frozen=True, slots=True)
class FigureInterval:
    """Bounds of one figure, in its own unit; `count` observations were resampled."""

    low: float
    high: float
    count: int


def block_length(count: int) -> float:
    """Mean length of the blocks that series of this length are cut into: the cube root of it, at least 1."""
    return max(1.0, math.cbrt(count))


def figure_intervals(record: RunRecord, seed: int = SEED, resamples: int = RESAMPLES) -> dict[str, FigureInterval]:
    """Intervals by the names of metrics.json, percents where it has percents; a figure with too little is left out."""
    found: dict[str, FigureInterval] = {}
    returns = daily_returns(record)
    if len(returns) >= SHARPE_MIN_RETURNS:
        found |= _curve_intervals(returns, seed, resamples)
    profits = np.array([float(trade.pnl) for trade in record.trades])
    if len(profits) >= _MIN_TRADES:
        found |= _trade_intervals(profits, seed, resamples)
    return found


def intervals_json(found: Mapping[str, FigureInterval], seed: int = SEED, resamples: int = RESAMPLES) -> Json:
    """As metrics.json carries them."""
    return {
        "confidence": CONFIDENCE,
        "resamples": resamples,
        "seed": seed,
        "figures": {name: {"low": one.low, "high": one.high, "count": one.count} for name, one in found.items()},
    }


def _curve_intervals(returns: Floats, seed: int, resamples: int) -> dict[str, FigureInterval]:
    count = len(returns)
    rows = stationary_rows(count, count, resamples, block_length(count), np.random.default_rng(seed))
    drawn = returns[rows]
    mean, deviation = drawn.mean(axis=1), drawn.std(axis=1, ddof=1)
    downside = np.sqrt(np.mean(np.minimum(drawn, 0.0) ** 2, axis=1))
    growth = np.cumprod(1.0 + drawn, axis=1)
    peak = np.maximum(np.maximum.accumulate(growth, axis=1), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        monthly = np.where(growth[:, -1] > 0.0, growth[:, -1] ** (MONTH_DAYS / count), 0.0) - 1.0
        figures = {
            "sharpe": mean / deviation * math.sqrt(YEAR_DAYS),
            "sortino": mean / downside * math.sqrt(YEAR_DAYS),
            "total_return_pct": (growth[:, -1] - 1.0) * 100.0,
            "monthly_return_pct": monthly * 100.0,
            "max_drawdown_pct": (1.0 - growth / peak).max(axis=1) * 100.0,
        }
    return _bounds(figures, count)


def _trade_intervals(profits: Floats, seed: int, resamples: int) -> dict[str, FigureInterval]:
    """Trades are resampled in chunks, since there may be very many."""
    count = len(profits)
    generator = np.random.default_rng(seed + 1)
    wins, means, factors = [], [], []
    done = 0
    while done < resamples:
        part = min(resamples - done, max(1, _MOST_DRAWN // count))
        drawn = profits[stationary_rows(count, count, part, block_length(count), generator)]
        lost = -np.minimum(drawn, 0.0).sum(axis=1)
        wins.append((drawn > 0.0).mean(axis=1))
        means.append(drawn.mean(axis=1))
        factors.append(np.divide(np.maximum(drawn, 0.0).sum(axis=1), lost, out=np.full(part, np.nan), where=lost > 0.0))
        done += part
    return _bounds(
        {
            "win_rate_pct": np.concatenate(wins) * 100.0,
            "expectancy_usd": np.concatenate(means),
            "profit_factor": np.concatenate(factors),
        },
        count,
    )


def _bounds(figures: Mapping[str, Floats], count: int) -> dict[str, FigureInterval]:
    tail = (1.0 - CONFIDENCE) / 2.0
    found = {}
    for name, values in figures.items():
        known = values[np.isfinite(values)]
        if len(known) > len(values) // 2:
            low, high = np.quantile(known, [tail, 1.0 - tail])
            found[name] = FigureInterval(float(low), float(high), count)
    return found
