"""Features a bar at a time equal features in one batch, bit for bit; a later bar changes no earlier row."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from aml100.domain.market import instrument_for
from aml100.domain.units import HOUR_MS, MINUTE_MS, Coin
from aml100.evaluation.backtest import Backtest
from aml100.market.features import FEATURE_COUNT, FEATURES, FeatureStream, compute_features, known_at
from aml100.market.series import BarSeries, Floats, FundingSeries
from aml100.sim.exchange import Exchange, ExchangeRules
from aml100.sim.scenario import Tape
from aml100.trading.core import TradingCore
from aml100.trading.policies import Flat
from tests.harness import rules_for_tests
from tests.unit.market.tapes import random_bars, real_bars


def streamed(series: BarSeries, funding: FundingSeries | None = None, restart_every: int = 0) -> Floats:
    """Rows of a stream, reset at gaps, saved and restored after every `restart_every` bars."""
    rows = np.full((len(series), FEATURE_COUNT), np.nan)
    settled = [] if funding is None else [(s.time_ms, s.rate, s.premium) for s in funding.settlements()]
    stream = FeatureStream(series.interval_ms)
    starts = {start for start, _ in series.segments()}
    for t in range(len(series)):
        if t in starts:
            stream.reset()
        figures = (float(c[t]) for c in (series.open, series.high, series.low, series.close, series.volume))
        open_ms = int(series.open_ms[t])
        row = stream.update(*figures, open_ms, *known_at(settled, open_ms))
        if row is not None:
            rows[t] = row
        if restart_every and t % restart_every == 0:
            saved = stream.export_state()
            stream = FeatureStream(series.interval_ms)
            stream.restore(saved)
    return rows


@pytest.mark.parametrize(
    ("name", "start", "stop"),
    [
        ("binance_spot_BTC_1m.parquet", 1000, 6000),
        ("hyperliquid_perp_ETH_5m.parquet", 0, 3000),
        ("binance_spot_SOL_1h.parquet", 0, 3000),
    ],
)
def test_stream_equals_batch_on_real_bars(shared: Path, name: str, start: int, stop: int) -> None:
    series = real_bars(shared, name, start, stop)
    hours = np.arange(series.open_ms[0] // HOUR_MS, series.open_ms[-1] // HOUR_MS) * HOUR_MS
    premium = np.where(np.arange(len(hours)) % 7 == 0, np.nan, np.cos(np.arange(len(hours))) * 1e-4)
    funding = FundingSeries.from_settlements(Coin("BTC"), hours, np.sin(np.arange(len(hours))) * 1e-5, premium)
    batch = compute_features(series, funding)
    assert batch.valid.sum() > 2000
    np.testing.assert_array_equal(streamed(series, funding), batch.values)


@pytest.mark.parametrize("interval_ms", [MINUTE_MS, 3 * MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS])
def test_stream_with_gaps_and_restarts_equals_batch(interval_ms: int) -> None:
    series = random_bars(1200, interval_ms, seed=9, first=7, gaps=(311, 620, 621, 900))
    np.testing.assert_array_equal(streamed(series, restart_every=97), compute_features(series).values)


@pytest.mark.parametrize("interval_ms", [MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS])
def test_later_bars_change_no_feature_of_an_earlier_one(interval_ms: int) -> None:
    series = random_bars(700, interval_ms, seed=10, first=31, gaps=(350,))
    hours = np.arange(series.open_ms[-1] // HOUR_MS + 1) * HOUR_MS
    funding = FundingSeries(Coin("BTC"), hours, np.cos(np.arange(len(hours))) * 1e-5)
    whole = compute_features(series, funding).values
    for stop in (1, 61, 240, 299, 349, 350, 351, 411, 590, 611, 699):
        known = funding.time_ms <= series.open_ms[stop - 1]
        past = FundingSeries(funding.coin, funding.time_ms[known], funding.rate[known])
        prefix = compute_features(series.rows(0, stop), past).values
        np.testing.assert_array_equal(prefix, whole[:stop], err_msg=f"rows before {stop}")


def test_windowed_features_forget_what_came_before_their_window() -> None:
    series = random_bars(2000, MINUTE_MS, seed=11, first=13)
    whole = compute_features(series)
    late = compute_features(series.rows(500, 2000))
    assert late.valid[300:].all()
    exponential = (6, 18, 19)
    windowed = [c for c in range(FEATURE_COUNT) if c not in exponential]
    np.testing.assert_array_equal(late.values[300:, windowed], whole.values[800:, windowed])
    np.testing.assert_allclose(late.values[500:], whole.values[1000:], rtol=1e-9, atol=1e-9)


def test_the_core_shows_its_policy_the_rows_that_training_reads() -> None:
    """Rates settled every 8 hours, gaps and all: known from their settlement on, and no bar earlier."""
    series = random_bars(1500, MINUTE_MS, seed=12, first=7_000_020, gaps=(700,))
    hours = series.open_ms[0] // HOUR_MS * HOUR_MS + np.array([1, 9, 17, 25]) * HOUR_MS
    funding = FundingSeries.from_settlements(series.coin, hours, np.array([8e-5, -16e-5, 4e-5, 9e-5]), np.full(4, 2e-4))
    seen: list[Floats] = []

    class Watching(Flat):
        def observe(self, row: Floats) -> None:
            seen.append(row)

    instrument = instrument_for(series.coin)
    core = TradingCore({series.coin: instrument}, rules_for_tests(), lambda coin: Watching(), salt="test")
    exchange = Exchange([instrument], ExchangeRules(Decimal(0), Decimal(0), Decimal(0)))
    Backtest(core, exchange, Tape([series], funding={series.coin: funding}), warmup_bars=0, deposit=Decimal(1)).run()
    frame = compute_features(series, funding)
    np.testing.assert_array_equal(np.stack(seen), frame.values[frame.valid])
    rates = frame.values[frame.valid][:, FEATURES.index("funding_rate")]
    assert set(rates.tolist()) == {1e-5, -2e-5, 0.5e-5, 9e-5 / 8}
