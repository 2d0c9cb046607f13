"""Equity and trades in, figures out: the definitions behind metrics.json.

Equity is sampled at 00:00 UTC, marked to market, after every cost; a day without trades is a day (GUARANTEES E1).
Ratios are annualised by 365 with a risk-free rate of 0 (E2), standard deviations have divisor n - 1. A Sharpe ratio
needs 30 daily returns (E3), a profit factor a losing trade (E4). What has nothing under it is None.

Inside, shares are fractions; `Metrics.to_json` turns them into the percent that people read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from aml100.domain.events import TradeClosed
from aml100.domain.orders import Fill
from aml100.domain.units import DAY_MS, HOUR_MS
from aml100.evaluation.statistics import deflated_sharpe, moments_of, probabilistic_sharpe, sharpe_stderr

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Json: TypeAlias = bool | int | float | str | dict[str, "Json"] | None

YEAR_DAYS: Final = 365
MONTH_DAYS: Final = 30
SHARPE_MIN_RETURNS: Final = 30


@dataclass(frozen=True, slots=True)
class FileSpan:
    """Bars of a file, from the open of the first to the end of the last."""

    start_ms: int
    end_ms: int
    bars: int


@dataclass(frozen=True, slots=True, eq=False)
class RunRecord:
    """A finished run, one row a traded bar; money in USD.

    Attributes:
        open_ms: bar opens, int64 [n], n >= 1, ascending; gaps are allowed.
        equity: at each bar's close, after fees, funding and slippage, float64 [n].
        exposed: whether a position was held at each bar's close, bool [n].
        actions: decisions to hold, buy and sell.
        funding_usd: received; slippage_usd: what fills cost against the price before slippage, >= 0.
        file: what the whole file holds, warm-up included; None: what the columns hold.
        trials: how many models or settings were tried to find this one; 1 where it was not chosen.
        trial_sharpe_variance: of their daily Sharpe ratios; None where it was not kept.
        overfitting: probability of overfitting over those trials; None where it cannot be known.
    """

    open_ms: Ints
    equity: Floats
    exposed: Flags
    interval_ms: int
    initial_equity: float
    trades: Sequence[TradeClosed]
    fills: Sequence[Fill]
    actions: tuple[int, int, int]
    funding_usd: float
    slippage_usd: float
    policy: str
    model: str | None
    data_origin: str
    data_sha256: str | None
    risk_checks: bool = True
    trials: int = 1
    trial_sharpe_variance: float | None = None
    overfitting: float | None = None
    file: FileSpan | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of one run. `_frac` are fractions; ratios are annualised; None is unknown."""

    initial_equity: float
    final_equity: float
    total_return_frac: float
    monthly_return_frac: float | None
    sharpe: float | None
    sharpe_hourly: float | None
    sharpe_days: int
    sharpe_stderr: float | None
    psr: float | None
    dsr: float | None
    trials: int
    trial_sharpe_variance: float | None
    pbo: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown_frac: float
    profit_factor: float | None
    win_rate_frac: float | None
    expectancy_usd: float | None
    trades: int
    trade_density_frac: float
    exposure_frac: float
    turnover: float | None
    fees_usd: float
    funding_usd: float
    slippage_usd: float
    actions: tuple[int, int, int]
    start_ms: int
    end_ms: int
    bars: int
    days: float
    policy: str
    model: str | None
    data_origin: str
    data_sha256: str | None
    risk_checks: bool
    baselines: Mapping[str, Metrics] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """metrics.json, names and units as documented; baselines without baselines of their own."""
        total = sum(self.actions)
        shares = [count / total if total else None for count in self.actions]
        document: dict[str, Json] = {
            "initial_equity": self.initial_equity,
            "final_equity": self.final_equity,
            "total_return_pct": _percent(self.total_return_frac),
            "monthly_return_pct": _percent(self.monthly_return_frac),
            "sharpe": self.sharpe,
            "sharpe_hourly": self.sharpe_hourly,
            "sharpe_days": self.sharpe_days,
            "sharpe_stderr": self.sharpe_stderr,
            "psr": self.psr,
            "dsr": self.dsr,
            "trials": self.trials,
            "trial_sharpe_variance": self.trial_sharpe_variance,
            "pbo": self.pbo,
            "sortino": self.sortino,
            "calmar": self.calmar,
            "max_drawdown_pct": _percent(self.max_drawdown_frac),
            "profit_factor": self.profit_factor,
            "win_rate_pct": _percent(self.win_rate_frac),
            "expectancy_usd": self.expectancy_usd,
            "trades": self.trades,
            "trade_density_pct": _percent(self.trade_density_frac),
            "exposure_pct": _percent(self.exposure_frac),
            "turnover": self.turnover,
            "fees_usd": self.fees_usd,
            "funding_usd": self.funding_usd,
            "slippage_usd": self.slippage_usd,
            "action_distribution": dict(zip(("hold", "buy", "sell"), shares, strict=True)),
            "start": self.start_ms,
            "end": self.end_ms,
            "bars": self.bars,
            "days": self.days,
            "policy": self.policy,
            "model": self.model,
            "data_origin": self.data_origin,
            "data_sha256": self.data_sha256,
            "risk_checks": self.risk_checks,
        }
        document["baselines"] = {
            name: {key: value for key, value in metrics.to_json().items() if key != "baselines"}
            for name, metrics in self.baselines.items()
        }
        return document


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else fraction * 100.0


def sampled_equity(
    open_ms: Ints, equity: Floats, interval_ms: int, initial_equity: float, every_ms: int
) -> tuple[Ints, Floats]:
    """Opening equity, then the equity at each multiple of `every_ms` after the opening, up to the last bar's end.

    Inside a gap the equity is what it was before: nothing was held.

    Returns:
        times [k + 1] (the first is the opening), equity [k + 1].
    """
    first = int(open_ms[0])
    last = int(open_ms[-1]) + interval_ms
    marks = np.arange(first // every_ms + 1, last // every_ms + 1, dtype=np.int64) * every_ms
    rows = np.searchsorted(open_ms, marks - interval_ms, side="right") - 1
    levels = np.where(rows >= 0, equity[rows], initial_equity)
    return np.concatenate([[first], marks]), np.concatenate([[initial_equity], levels])


def returns_of(levels: Floats) -> Floats:
    """Simple returns between levels; ValueError where one has nothing under it."""
    if np.any(levels[:-1] <= 0.0) or not np.all(np.isfinite(levels)):
        raise ValueError("equity must be finite and positive to have returns")
    return levels[1:] / levels[:-1] - 1.0


def daily_returns(record: RunRecord) -> Floats:
    """Returns over each 00:00 UTC, the first one from the opening equity; an incomplete last day is left out."""
    _, levels = sampled_equity(record.open_ms, record.equity, record.interval_ms, record.initial_equity, DAY_MS)
    return returns_until_ruin(levels)


def _hourly_returns(record: RunRecord) -> Floats:
    if record.interval_ms > HOUR_MS:
        return np.zeros(0)
    _, levels = sampled_equity(record.open_ms, record.equity, record.interval_ms, record.initial_equity, HOUR_MS)
    return returns_until_ruin(levels)


def returns_until_ruin(levels: Floats) -> Floats:
    """Returns up to and with the one that lost everything; there are none after it."""
    ruined = np.flatnonzero(levels <= 0.0)
    return returns_of(levels[: ruined[0] + 1] if len(ruined) else levels)


def sharpe_of(returns: Floats, periods_per_year: int = YEAR_DAYS) -> float | None:
    """Annualised Sharpe ratio; None under 30 returns, or where they never differ."""
    moments = moments_of(returns) if len(returns) >= SHARPE_MIN_RETURNS else None
    return None if moments is None else moments.sharpe * math.sqrt(periods_per_year)


def sortino_of(returns: Floats, periods_per_year: int = YEAR_DAYS) -> float | None:
    """Annualised mean over annualised downside deviation (root mean square of returns below 0, divisor n)."""
    if len(returns) < 2:
        return None
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(returns.mean()) / downside * math.sqrt(periods_per_year) if downside > 0.0 else None


def max_drawdown_of(equity: Floats, initial_equity: float) -> float:
    """Largest fall from the running peak, the opening equity included; a fraction >= 0."""
    peak = np.maximum(np.maximum.accumulate(equity), initial_equity)
    return float(np.max(1.0 - equity / peak, initial=0.0))


def compounded(total_return_frac: float, days: float, over_days: float) -> float | None:
    """The return over `over_days` that compounds to `total_return_frac` over `days`; None where it is no number."""
    if days <= 0.0 or total_return_frac <= -1.0:
        return None
    exponent = math.log1p(total_return_frac) * over_days / days
    return math.expm1(exponent) if exponent < 700.0 else None


def profit_factor_of(profits: Floats) -> float | None:
    """Gross profit over gross loss; None without a losing trade."""
    lost = -float(profits[profits < 0.0].sum())
    return float(profits[profits > 0.0].sum()) / lost if lost > 0.0 else None


def win_rate_of(profits: Floats) -> float | None:
    """Share of trades that made money; None without trades."""
    return float(np.mean(profits > 0.0)) if len(profits) else None


def turnover_of(record: RunRecord) -> float:
    """Notional of all fills / mean equity."""
    return float(sum(f.price * f.size for f in record.fills)) / float(record.equity.mean())


def compute_metrics(record: RunRecord, baselines: Mapping[str, Metrics] | None = None) -> Metrics:
    """Every figure of a run; ValueError where the record is empty or its columns do not match."""
    traded = len(record.open_ms)
    if traded == 0 or len(record.equity) != traded or len(record.exposed) != traded:
        raise ValueError(f"a record needs an equity and a position a bar, not {len(record.equity)} for {traded} bars")
    own = FileSpan(int(record.open_ms[0]), int(record.open_ms[-1]) + record.interval_ms, traded)
    file = record.file or own
    days = (file.end_ms - file.start_ms) / DAY_MS
    final = float(record.equity[-1])
    total = final / record.initial_equity - 1.0
    returns = daily_returns(record)
    moments = moments_of(returns) if len(returns) >= SHARPE_MIN_RETURNS else None
    drawdown = max_drawdown_of(record.equity, record.initial_equity)
    annual = compounded(total, days, YEAR_DAYS)
    profits = np.array([float(trade.pnl) for trade in record.trades])
    mean_equity = float(record.equity.mean())
    return Metrics(
        initial_equity=record.initial_equity,
        final_equity=final,
        total_return_frac=total,
        monthly_return_frac=compounded(total, days, MONTH_DAYS),
        sharpe=sharpe_of(returns),
        sharpe_hourly=sharpe_of(_hourly_returns(record), YEAR_DAYS * 24),
        sharpe_days=len(returns),
        sharpe_stderr=None if moments is None else sharpe_stderr(moments) * math.sqrt(YEAR_DAYS),
        psr=None if moments is None else probabilistic_sharpe(moments),
        dsr=None if moments is None else deflated_sharpe(moments, record.trials, record.trial_sharpe_variance),
        trials=record.trials,
        trial_sharpe_variance=record.trial_sharpe_variance,
        pbo=record.overfitting,
        sortino=sortino_of(returns),
        calmar=annual / drawdown if annual is not None and drawdown > 0.0 else None,
        max_drawdown_frac=drawdown,
        profit_factor=profit_factor_of(profits),
        win_rate_frac=win_rate_of(profits),
        expectancy_usd=float(profits.mean()) if len(profits) else None,
        trades=len(profits),
        trade_density_frac=len(profits) / file.bars,
        exposure_frac=float(record.exposed.sum()) / file.bars,
        turnover=turnover_of(record) if mean_equity > 0.0 else None,
        fees_usd=float(sum(fill.fee for fill in record.fills)),
        funding_usd=record.funding_usd,
        slippage_usd=record.slippage_usd,
        actions=record.actions,
        start_ms=file.start_ms,
        end_ms=file.end_ms,
        bars=file.bars,
        days=days,
        policy=record.policy,
        model=record.model,
        data_origin=record.data_origin,
        data_sha256=record.data_sha256,
        risk_checks=record.risk_checks,
        baselines=dict(baselines or {}),
    )
