"""Figures of a run: by hand, and against an independent library on the same curve."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from aml100.domain.events import TradeClosed
from aml100.domain.orders import Fill, Side
from aml100.domain.units import DAY_MS, HOUR_MS, Coin
from aml100.evaluation.metrics import (
    FileSpan,
    RunRecord,
    compounded,
    compute_metrics,
    daily_returns,
    max_drawdown_of,
    profit_factor_of,
    sampled_equity,
    sortino_of,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import empyrical

BTC = Coin("BTC")


def trade(pnl: str, exit_ms: int = HOUR_MS) -> TradeClosed:
    return TradeClosed(BTC, Side.BUY, 0, Decimal(100), exit_ms, Decimal(101), Decimal(1), Decimal(pnl), Decimal("0.1"),
                       Decimal(0), "signal", 3)  # fmt: skip


def fill(price: str, size: str, fee: str) -> Fill:
    return Fill(BTC, Side.BUY, Decimal(price), Decimal(size), Decimal(fee), 0, 1, 1, None, True)


def record(equity: list[float] | np.ndarray, *, first_ms: int = 0, interval_ms: int = HOUR_MS) -> RunRecord:
    curve = np.asarray(equity, dtype=np.float64)
    times = first_ms + np.arange(len(curve), dtype=np.int64) * interval_ms
    exposed = np.arange(len(curve)) % 4 == 0
    return RunRecord(
        times, curve, exposed, interval_ms, 1000.0, [], [], (0, 0, 0), 0.0, 0.0, "flat", None, "test", None
    )


def walk(days: int, seed: int = 3) -> np.ndarray:
    moves = np.random.default_rng(seed).standard_normal(days * 24) * 0.002 + 0.0001
    return 1000.0 * np.exp(np.cumsum(moves))


def test_ratios_agree_with_an_independent_library_annualised_by_365_without_a_risk_free_rate_e2() -> None:
    run = record(walk(120))
    metrics = compute_metrics(run)
    daily = pd.Series(run.equity, pd.to_datetime(run.open_ms + HOUR_MS, unit="ms")).iloc[23::24]
    returns = daily.pct_change()
    returns.iloc[0] = daily.iloc[0] / 1000.0 - 1.0
    assert metrics.sharpe_days == len(returns) == 120
    assert metrics.sharpe == pytest.approx(empyrical.sharpe_ratio(returns, annualization=365), rel=1e-9)
    assert metrics.sortino == pytest.approx(empyrical.sortino_ratio(returns, annualization=365), rel=1e-9)
    hourly = pd.Series(np.r_[1000.0, run.equity]).pct_change().iloc[1:]
    assert metrics.sharpe_hourly == pytest.approx(empyrical.sharpe_ratio(hourly, annualization=365 * 24), rel=1e-9)
    assert metrics.max_drawdown_frac == pytest.approx(-empyrical.max_drawdown(hourly), rel=1e-9)
    annual = empyrical.annual_return(returns, annualization=365)
    assert metrics.calmar == pytest.approx(annual / metrics.max_drawdown_frac, rel=1e-9)


def test_daily_returns_begin_with_the_opening_equity_and_leave_out_an_unfinished_day_e1() -> None:
    run = record([1000.0] * 20 + [1100.0] * 24 + [990.0] * 24 + [5.0] * 7, first_ms=4 * HOUR_MS)
    np.testing.assert_allclose(daily_returns(run), [0.0, 0.1, -0.1], atol=1e-15)


def test_thirty_whole_days_give_thirty_returns() -> None:
    assert len(daily_returns(record(np.full(30 * 24, 1000.0)))) == 30
    assert len(daily_returns(record(np.full(30 * 24 - 1, 1000.0)))) == 29


def test_equity_stands_still_inside_a_gap() -> None:
    times = np.array([0, 1, 2, 100, 101], np.int64) * HOUR_MS
    marks, levels = sampled_equity(times, np.array([1.0, 2.0, 3.0, 4.0, 5.0]), HOUR_MS, 9.0, DAY_MS)
    assert (marks // DAY_MS).tolist() == [0, 1, 2, 3, 4]
    assert levels.tolist() == [9.0, 3.0, 3.0, 3.0, 3.0]


def test_no_sharpe_under_thirty_days_e3() -> None:
    short, enough = compute_metrics(record(walk(29))), compute_metrics(record(walk(30)))
    assert (short.sharpe, short.sharpe_stderr, short.psr, short.dsr, short.sharpe_days) == (None, None, None, None, 29)
    assert short.sharpe_hourly is not None
    assert enough.sharpe is not None
    assert enough.psr == enough.dsr


def test_more_trials_deflate() -> None:
    run = record(walk(200))
    many = dataclasses.replace(run, trials=100, trial_sharpe_variance=0.002)
    one, deflated = compute_metrics(run), compute_metrics(many)
    assert one.dsr is not None
    assert deflated.dsr is not None
    assert deflated.dsr < one.dsr
    assert deflated.sharpe == one.sharpe


def test_nothing_under_a_ratio_is_none() -> None:
    metrics = compute_metrics(record(np.full(40 * 24, 1000.0)))
    document = metrics.to_json()
    for name in ("sharpe", "sharpe_hourly", "sharpe_stderr", "psr", "dsr", "sortino", "calmar", "profit_factor",
                 "win_rate_pct", "expectancy_usd"):  # fmt: skip
        assert document[name] is None, name
    assert document["action_distribution"] == {"hold": None, "buy": None, "sell": None}
    assert (document["max_drawdown_pct"], document["total_return_pct"], document["turnover"]) == (0.0, 0.0, 0.0)


def test_profit_factor_without_a_losing_trade_is_none_e4() -> None:
    assert profit_factor_of(np.array([1.0, 2.0])) is None
    assert profit_factor_of(np.array([1.0, 2.0, -1.5])) == 2.0
    assert profit_factor_of(np.zeros(0)) is None


def test_trades_fills_and_actions_by_hand() -> None:
    run = dataclasses.replace(
        record([1010.0, 1000.0, 990.0, 1020.0]),
        trades=[trade("30"), trade("-10"), trade("0")],
        fills=[fill("100", "5", "0.25"), fill("110", "5", "-0.05")],
        actions=(6, 3, 1),
        funding_usd=-0.5,
        slippage_usd=0.7,
    )
    metrics = compute_metrics(run)
    assert metrics.profit_factor == 3.0
    assert metrics.win_rate_frac == pytest.approx(1 / 3)
    assert metrics.expectancy_usd == pytest.approx(20 / 3)
    assert metrics.trade_density_frac == 0.75
    assert metrics.exposure_frac == 0.25
    assert metrics.turnover == pytest.approx(1050 / 1005)
    assert metrics.fees_usd == pytest.approx(0.20)
    assert metrics.max_drawdown_frac == pytest.approx(20 / 1010)
    document = metrics.to_json()
    assert document["action_distribution"] == {"hold": 0.6, "buy": 0.3, "sell": 0.1}
    assert document["total_return_pct"] == pytest.approx(2.0)
    assert (document["start"], document["end"], document["bars"]) == (0, 4 * HOUR_MS, 4)
    assert (document["funding_usd"], document["slippage_usd"]) == (-0.5, 0.7)


def test_shares_of_bars_count_the_whole_file_warm_up_included() -> None:
    run = dataclasses.replace(record([1000.0] * 8), trades=[trade("1")], file=FileSpan(-8 * HOUR_MS, 8 * HOUR_MS, 16))
    document = compute_metrics(run).to_json()
    assert (document["trade_density_pct"], document["exposure_pct"]) == (6.25, 12.5)
    assert (document["bars"], document["start"]) == (16, -8 * HOUR_MS)
    assert document["days"] == pytest.approx(16 / 24)


def test_drawdown_counts_the_opening_equity_as_a_peak() -> None:
    assert max_drawdown_of(np.array([90.0, 95.0]), 100.0) == pytest.approx(0.1)
    assert max_drawdown_of(np.array([101.0, 102.0]), 100.0) == 0.0


def test_monthly_return_compounds_over_thirty_days() -> None:
    assert compounded(0.21, 60.0, 30.0) == pytest.approx(0.1)
    assert compounded(-1.0, 60.0, 30.0) is None
    assert compounded(0.5, 1e-6, 365.0) is None


def test_an_account_that_lost_everything_still_has_figures() -> None:
    metrics = compute_metrics(record(np.r_[np.full(30, 1000.0), np.full(60, 0.0)]))
    assert metrics.total_return_frac == -1.0
    assert metrics.max_drawdown_frac == 1.0
    assert metrics.monthly_return_frac is None
    json.dumps(metrics.to_json(), allow_nan=False)


def test_sortino_by_hand() -> None:
    returns = np.array([0.03, -0.01, 0.02, -0.02])
    assert sortino_of(returns, 1) == pytest.approx(0.005 / math.sqrt(0.0005 / 4))
    assert sortino_of(np.array([0.1, 0.2])) is None


def test_baselines_stand_beside_the_figures_without_nesting_further() -> None:
    flat = compute_metrics(record([1000.0] * 4))
    document = compute_metrics(record([1001.0] * 4), {"flat": flat}).to_json()
    baselines = document["baselines"]
    assert isinstance(baselines, dict)
    assert isinstance(baselines["flat"], dict)
    assert "baselines" not in baselines["flat"]
    assert set(document) - {"baselines"} == set(baselines["flat"])


def test_record_whose_columns_do_not_match_is_refused() -> None:
    with pytest.raises(ValueError, match="a bar"):
        compute_metrics(dataclasses.replace(record([1.0, 2.0]), equity=np.ones(3)))
