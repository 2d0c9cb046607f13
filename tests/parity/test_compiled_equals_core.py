"""The compiled path and the decision core on the same bars: the same trades and the same equity (SPEC section 6).

What a back-test holds a policy against is played on the compiled path, so this is what makes the comparison fair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aml100.config.loading import load_settings
from aml100.config.models import Params
from aml100.domain.events import TradeClosed
from aml100.domain.units import Coin
from aml100.evaluation.backtest import BacktestResult
from aml100.evaluation.baselines import signal_of
from aml100.evaluation.course import Course, is_compiled, signal_rules, trades_of
from aml100.market.series import BarSeries, FundingSeries
from aml100.sim.scenario import synthetic_series
from aml100.sim.staging import exchange_rules, hourly_rate, instruments_of
from aml100.storage.funding_files import read_funding
from aml100.storage.importing import read_bars
from aml100.wiring.backtests import build_backtest, choose_baseline, simulated_rules

BTC = Coin("BTC")
WARMUP = 300


def through_core(series: BarSeries, funding: FundingSeries | None, name: str, params: Params) -> BacktestResult:
    settings = replace(load_settings(None, {}), params=params)
    rates = {} if funding is None else {series.coin: funding}
    return build_backtest(settings, [series], rates, choose_baseline(name, 0), warmup_bars=WARMUP).run()


def compiled(
    series: BarSeries, funding: FundingSeries | None, name: str, params: Params
) -> tuple[list[TradeClosed], np.ndarray]:
    policy = choose_baseline(name, 0)
    rules = simulated_rules(params, policy, series.interval_ms, WARMUP)
    instrument = instruments_of([series.coin])[series.coin]
    assert is_compiled(rules, [instrument])
    course = Course.lay(series, funding, float(hourly_rate(params) or 0), rules, WARMUP)
    kernel = signal_rules(rules, exchange_rules(params), instrument)
    result = course.play(kernel, signal_of(name, course), 10_000.0)
    return trades_of(result.trades, series, kernel.slippage), result.equity


def assert_same(ours: Sequence[TradeClosed], theirs: Sequence[TradeClosed]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for name in ("coin", "side", "entry_ms", "exit_ms", "exit_reason", "bars_held"):
            assert getattr(one, name) == getattr(other, name), (name, one, other)
        for name in ("entry_price", "exit_price", "size", "pnl", "fees", "funding"):
            assert float(getattr(one, name)) == pytest.approx(float(getattr(other, name)), rel=1e-9, abs=1e-7)


def with_gaps(series: BarSeries) -> BarSeries:
    """The same bars with an hour and a half missing twice."""
    keep = np.ones(len(series), np.bool_)
    keep[900:990] = keep[1700:1790] = False
    columns = {n: getattr(series, n)[keep] for n in ("open_ms", "open", "high", "low", "close", "volume")}
    return replace(series, **columns)


@pytest.mark.parametrize("name", ["momentum", "mean-reversion", "buy-and-hold", "flat"])
@pytest.mark.parametrize("opposite", ["close", "reverse"])
def test_made_bars_with_gaps(name: str, opposite: str) -> None:
    series = with_gaps(synthetic_series("regimes", BTC, 60_000, 1_700_006_400_000, 3_000, 3, 60_000.0))
    params = Params.model_validate({"trading": {"on_opposite": opposite}, "risk": {"circuit_breaker_dd_pct": 0.0}})
    result = through_core(series, None, name, params)
    trades, equity = compiled(series, None, name, params)
    assert_same(trades, result.trades)
    np.testing.assert_allclose(equity, [float(row.equity) for row in result.equity], rtol=1e-9)
    assert len(trades) >= {"flat": 0, "buy-and-hold": 3}.get(name, 10)


def test_a_breaker_that_trips_at_a_gap() -> None:
    """A close before a gap is marked and guarded with the position still there, then the position is closed at it."""
    series = synthetic_series("regimes", BTC, 60_000, 1_700_006_400_000, 4_000, 5, 60_000.0)
    keep = np.ones(len(series), np.bool_)
    rng = np.random.default_rng(5)
    for first in range(700, 3_900, 320):
        keep[first : first + int(rng.integers(2, 20))] = False
    columns = {n: getattr(series, n)[keep] for n in ("open_ms", "open", "high", "low", "close", "volume")}
    risk = {"circuit_breaker_dd_pct": 0.5, "hard_stop_dd_pct": 0.0, "breaker_pause_minutes": 30}
    broken, params = replace(series, **columns), Params.model_validate({"risk": risk})
    result = through_core(broken, None, "mean-reversion", params)
    trades, equity = compiled(broken, None, "mean-reversion", params)
    reasons = [trade.exit_reason for trade in trades]
    assert reasons.count("risk") > 3
    assert reasons.count("end") >= 3
    assert_same(trades, result.trades)
    np.testing.assert_allclose(equity, [float(row.equity) for row in result.equity], rtol=1e-9)


@pytest.mark.parametrize("name", ["momentum", "mean-reversion"])
def test_real_bars_with_their_funding_through_breaker_and_hard_stop(name: str, shared: Path) -> None:
    folder = shared / "data" / "market"
    series = read_bars(folder / "hyperliquid_perp_BTC_5m.parquet", None).rows(0, 12_000)
    funding = read_funding(folder / "hyperliquid_funding_BTC.parquet", BTC)
    params = Params.model_validate({"risk": {"circuit_breaker_dd_pct": 0.8, "hard_stop_dd_pct": 2.5}})
    result = through_core(series, funding, name, params)
    trades, equity = compiled(series, funding, name, params)
    assert any(trade.exit_reason == "risk" for trade in trades)
    assert_same(trades, result.trades)
    np.testing.assert_allclose(equity, [float(row.equity) for row in result.equity], rtol=1e-9)
