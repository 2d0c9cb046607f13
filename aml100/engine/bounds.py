"""What the figures of a phase are worth: one-sided 95 % bounds on the side that hurts, over the phase so far.

Sharpe by its own standard error with skew and kurtosis, the return by the error of the daily mean, the win rate by
Wilson's interval, profit factor and drawdown by resampling with a stored seed (GUARANTEES E10). None where the record
is too short to say.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import numpy as np

from aml100.evaluation.metrics import MONTH_DAYS
from aml100.evaluation.objectives import SEED, YEAR_ROOT
from aml100.evaluation.statistics import moments_of, sharpe_lower_bound, stationary_rows
from aml100.market.series import Floats

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 400
FEWEST_DAYS: Final = 10
FEWEST_TRADES: Final = 20
_Z: Final = NormalDist().inv_cdf(CONFIDENCE)


def phase_bounds(returns: Floats, profits: Floats, fallen: float) -> dict[str, float]:
    """Bounds by name of objective, fractions where the figure is one.

    Args:
        returns: daily returns of the phase; `profits` net profits of its trades, USD.
        fallen: the deepest fall within it from close to close of a bar, which days do not show; no bound lies below it.
    """
    found: dict[str, float] = {}
    moments = moments_of(returns)
    if moments is not None and moments.count >= FEWEST_DAYS:
        found["sharpe"] = sharpe_lower_bound(moments, CONFIDENCE) * YEAR_ROOT
        mean = float(returns.mean()) - _Z * float(returns.std(ddof=1)) / math.sqrt(len(returns))
        found["monthly_return"] = (1.0 + mean) ** MONTH_DAYS - 1.0 if mean > -1.0 else -1.0
        found["max_drawdown"] = max(_drawdown_bound(returns), fallen)
    count = len(profits)
    if count >= FEWEST_TRADES:
        found["win_rate"] = wilson_lower(int((profits > 0).sum()), count)
        factor = _factor_bound(profits)
        if factor is not None:
            found["profit_factor"] = factor
    return found


def wilson_lower(wins: int, count: int) -> float:
    """Lower end of Wilson's one-sided interval of a share.

    >>> round(wilson_lower(60, 100), 3)
    0.518
    """
    share, z2 = wins / count, _Z * _Z
    centre = share + z2 / (2 * count)
    reach = _Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return (centre - reach) / (1 + z2 / count)


def _drawdown_bound(returns: Floats) -> float:
    rows = stationary_rows(len(returns), MONTH_DAYS, RESAMPLES, 5.0, np.random.default_rng(SEED))
    equity = np.cumprod(1.0 + returns[rows], axis=1)
    peak = np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)
    return float(np.quantile((1.0 - equity / peak).max(axis=1), CONFIDENCE))


def _factor_bound(profits: Floats) -> float | None:
    rows = np.random.default_rng(SEED).integers(0, len(profits), (RESAMPLES, len(profits)))
    drawn = profits[rows]
    gains = np.where(drawn > 0, drawn, 0.0).sum(axis=1)
    losses = -np.where(drawn < 0, drawn, 0.0).sum(axis=1)
    ratios = gains[losses > 0] / losses[losses > 0]
    return float(np.quantile(ratios, 1.0 - CONFIDENCE)) if len(ratios) > RESAMPLES // 2 else None
