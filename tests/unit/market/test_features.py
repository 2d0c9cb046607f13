"""Every group of features against an independent recomputation with pandas, written from the definitions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aml100.domain.errors import InvariantBroken
from aml100.domain.units import HOUR_MS, MINUTE_MS, Coin
from aml100.market.features import (
    FEATURE_COUNT,
    FEATURES,
    FeatureStream,
    compute_features,
    known_funding,
    regime_of_row,
    schema_digest,
    warmup_bars,
)
from aml100.market.regime import CHANCE_SPREAD, Regime, RegimeThresholds
from aml100.market.series import BarSeries, FundingSeries
from tests.unit.market.tapes import random_bars, real_bars


def grown(x: pd.Series, span: int, alpha: float) -> pd.Series:
    """A plain mean of the first `span` values, exponential from there on."""
    x = x.dropna()
    head = x.expanding().mean().iloc[:span]
    tail = pd.concat([head.iloc[-1:], x.iloc[span:]]).ewm(alpha=alpha, adjust=False).mean().iloc[1:]
    return pd.concat([head, tail])


def closed_larger(frame: pd.DataFrame, minutes: int) -> pd.DataFrame:
    """Whole larger bars by the open of the bar that completes them."""
    step = int(frame.index[1] - frame.index[0])
    span = max(minutes * MINUTE_MS, step)
    groups = frame.groupby(frame.index // span)
    larger = groups.agg({"high": "max", "low": "min", "close": "last"})
    larger = larger[groups.size() == span // step]
    larger.index = (larger.index + 1) * span - step
    return larger


def recompute(series: BarSeries) -> pd.DataFrame:
    """All features that come from bars, for one contiguous series."""
    bars = pd.DataFrame(
        {k: getattr(series, k) for k in ("open", "high", "low", "close", "volume")}, index=series.open_ms
    )
    close, log = bars.close, np.log(bars.close)
    out = pd.DataFrame(index=bars.index)
    for n in (1, 5, 15, 60):
        out[f"ret_{n}"] = log.diff(n)
    windows = np.lib.stride_tricks.sliding_window_view
    for n in (20, 60):
        out.loc[out.index[n:], f"vol_{n}"] = windows(log.diff().to_numpy()[1:], n).std(axis=1, ddof=1)
    before = close.shift()
    ranges = pd.concat([bars.high - bars.low, (bars.high - before).abs(), (bars.low - before).abs()], axis=1)
    atr = grown(ranges[before.notna()].max(axis=1), 14, 1 / 14)
    out["atr_14"] = atr / close
    out["volume_ratio"] = (bars.volume / bars.volume.rolling(20).mean()).fillna(1.0)
    sma = {n: close.rolling(n).mean() for n in (7, 20, 21, 50)}
    out["sma_7_21"] = sma[7] / sma[21] - 1
    out["sma_7_50"] = sma[7] / sma[50] - 1
    for name, minutes in (("5m", 5), ("15m", 15)):
        larger = closed_larger(bars, minutes).close
        mean = larger.rolling(8).mean().reindex(bars.index).ffill()
        fast = larger.rolling(3).mean().reindex(bars.index).ffill()
        out[f"mean_{name}"] = close / mean - 1
        out[f"trend_{name}"] = fast / mean - 1
    hours = closed_larger(bars, 60)
    place = pd.DataFrame(
        {
            "mean": hours.close.rolling(3).mean(),
            "trend": hours.close / hours.close.shift(2) - 1,
            "range": (hours.high - hours.low) / hours.close,
            "top": hours.high.rolling(3).max(),
            "bottom": hours.low.rolling(3).min(),
        }
    )
    place = place.reindex(bars.index).ffill()
    out["mean_1h"] = close / place["mean"] - 1
    out["trend_1h"], out["range_1h"] = place["trend"], place["range"]
    out["place_1h"] = 2 * (close - place.bottom) / (place.top - place.bottom) - 1
    moves = close.diff()
    gain, loss = grown(moves.clip(lower=0), 14, 1 / 14), grown(-moves.clip(upper=0), 14, 1 / 14)
    out["rsi_14"] = (100 - 100 / (1 + gain / loss)) / 50 - 1
    macd = grown(close, 12, 2 / 13) - grown(close, 26, 2 / 27)
    out["macd_hist"] = (macd - grown(macd, 9, 2 / 10)) / atr
    deviation = pd.Series(np.r_[np.full(19, np.nan), windows(close.to_numpy(), 20).std(axis=1)], close.index)
    out["bollinger_z"] = (close - sma[20]) / deviation
    out["regime_up"] = (sma[20] > sma[50] * 1.01).astype(float)
    out["regime_down"] = (sma[20] < sma[50] * 0.99).astype(float)
    out["regime_range"] = 1 - out.regime_up - out.regime_down
    out["scaled_strength"] = (sma[20] / sma[50] - 1) / (out.vol_60 * CHANCE_SPREAD)
    out["scaled_up"] = (out.scaled_strength > 1).astype(float)
    out["scaled_down"] = (out.scaled_strength < -1).astype(float)
    out["scaled_range"] = 1 - out.scaled_up - out.scaled_down
    end = pd.to_datetime(bars.index + int(series.interval_ms), unit="ms", utc=True)
    day = (end.hour * 60 + end.minute) / 1440
    out["day_sin"], out["day_cos"] = np.sin(2 * np.pi * day), np.cos(2 * np.pi * day)
    week = (end.day_of_week + day) / 7
    out["week_sin"], out["week_cos"] = np.sin(2 * np.pi * week), np.cos(2 * np.pi * week)
    return out


def assert_agrees(series: BarSeries) -> None:
    frame = compute_features(series)
    expected = recompute(series)
    rows = frame.valid
    assert rows.sum() > 500
    for column, name in enumerate(FEATURES):
        if name in expected:
            ours, theirs = frame.values[rows, column], expected[name].to_numpy()[rows]
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=name)
    silent = set(FEATURES) - set(expected.columns)
    assert silent == {"funding_rate", "funding_known", "premium", "premium_known"}


@pytest.mark.parametrize("interval_ms", [MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS])
def test_every_group_agrees_with_pandas_on_a_random_walk(interval_ms: int) -> None:
    assert_agrees(random_bars(1500, interval_ms, seed=interval_ms, first=12_347))


@pytest.mark.parametrize(
    ("name", "start"), [("binance_perp_BTC_1m.parquet", 100), ("hyperliquid_perp_ETH_5m.parquet", 3)]
)
def test_every_group_agrees_with_pandas_on_real_bars(shared: Path, name: str, start: int) -> None:
    assert_agrees(real_bars(shared, name, start, start + 3000))


def test_prices_times_a_constant_change_no_feature() -> None:
    series = random_bars(600, MINUTE_MS, seed=1)
    scaled = dataclasses.replace(
        series, **{k: getattr(series, k) * 3141.59 for k in ("open", "high", "low", "close")}, volume=series.volume * 7
    )
    np.testing.assert_allclose(compute_features(scaled).values, compute_features(series).values, rtol=1e-8, atol=1e-9)


def test_a_market_that_stands_still_gives_finite_features() -> None:
    n = 400
    flat, times = np.full(n, 123.4), np.arange(n, dtype=np.int64) * MINUTE_MS
    frame = compute_features(BarSeries(Coin("BTC"), MINUTE_MS, "test", times, flat, flat, flat, flat, np.zeros(n)))
    row = dict(zip(FEATURES, frame.values[-1], strict=True))
    assert np.isfinite(frame.values[frame.valid]).all()
    assert row["volume_ratio"] == 1.0
    assert [row[k] for k in ("vol_20", "vol_60", "bollinger_z", "rsi_14", "macd_hist", "scaled_strength")] == [0.0] * 6
    assert row["regime_range"] == 1.0


def test_a_jump_leaves_no_trace_once_it_left_the_window() -> None:
    n = 400
    price = np.where(np.arange(n) < 300, 100.0, 100_000.0)
    times = np.arange(n, dtype=np.int64) * MINUTE_MS
    frame = compute_features(BarSeries(Coin("BTC"), MINUTE_MS, "test", times, price, price, price, price, np.ones(n)))
    vol_20, vol_60 = frame.values[:, FEATURES.index("vol_20")], frame.values[:, FEATURES.index("vol_60")]
    assert vol_20[319] > 1.0
    assert vol_60[359] > 0.8
    assert vol_20[320] == 0.0
    assert vol_60[360] == 0.0


@pytest.mark.parametrize("offset", [0, 1, 37, 59])
@pytest.mark.parametrize("interval_ms", [MINUTE_MS, 3 * MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, 4 * HOUR_MS])
def test_warmup_is_enough_wherever_bars_begin(interval_ms: int, offset: int) -> None:
    frame = compute_features(random_bars(400, interval_ms, seed=2, first=offset))
    first = int(np.argmax(frame.valid))
    assert first < warmup_bars(interval_ms) <= 300
    assert frame.valid[first:].all()
    assert np.isnan(frame.values[:first]).all()
    assert np.isfinite(frame.values[first:]).all()


def test_the_longest_warmup_is_needed_when_bars_begin_a_minute_past_the_hour() -> None:
    frame = compute_features(random_bars(400, MINUTE_MS, seed=2, first=1))
    assert int(np.argmax(frame.valid)) == warmup_bars(MINUTE_MS) - 1 == 238


def test_each_stretch_between_gaps_warms_up_by_itself() -> None:
    series = random_bars(900, MINUTE_MS, seed=3, gaps=(300, 600))
    whole = compute_features(series)
    for start, stop in series.segments():
        alone = compute_features(series.rows(start, stop))
        np.testing.assert_array_equal(whole.values[start:stop], alone.values)
    assert len(series.segments()) == 3


def test_funding_is_a_feature_from_its_hour_on_and_for_eight_hours() -> None:
    funding = FundingSeries(Coin("BTC"), np.array([5, 6], np.int64) * HOUR_MS, np.array([1e-5, -2e-5]))
    opens = np.array([5 * HOUR_MS - 1, 5 * HOUR_MS, 6 * HOUR_MS - 1, 6 * HOUR_MS, 14 * HOUR_MS - 1, 14 * HOUR_MS])
    rates, premiums = known_funding(funding, opens)
    np.testing.assert_array_equal(rates, [np.nan, 1e-5, 1e-5, -2e-5, -2e-5, np.nan])
    assert np.isnan(premiums).all()


def test_a_rate_settled_for_eight_hours_is_not_known_in_the_hours_it_is_charged_for() -> None:
    funding = FundingSeries.from_settlements(Coin("BTC"), np.array([8, 16]) * HOUR_MS, np.array([8e-5, 16e-5]))
    assert [funding.rate_at(hour * HOUR_MS) for hour in (1, 8, 9)] == [1e-5, 1e-5, 2e-5]
    rates, _ = known_funding(funding, np.arange(1, 17) * HOUR_MS)
    np.testing.assert_array_equal(rates, [np.nan] * 7 + [1e-5] * 8 + [2e-5])


def test_the_premium_is_known_with_its_settlement() -> None:
    hours = np.array([5, 6]) * HOUR_MS
    funding = FundingSeries.from_settlements(Coin("BTC"), hours, np.array([1e-5, 2e-5]), np.array([3e-4, np.nan]))
    _, premiums = known_funding(funding, np.array([4, 5, 6]) * HOUR_MS)
    np.testing.assert_array_equal(premiums, [np.nan, 3e-4, np.nan])


def test_unknown_funding_and_premium_are_flagged_not_invented() -> None:
    series = random_bars(300, MINUTE_MS, seed=4)
    columns = [FEATURES.index(k) for k in ("funding_rate", "funding_known", "premium", "premium_known")]
    assert compute_features(series).values[-1, columns].tolist() == [0.0, 0.0, 0.0, 0.0]
    hours = np.arange(6, dtype=np.int64) * HOUR_MS
    known = compute_features(series, FundingSeries(Coin("BTC"), hours, np.full(6, 3e-5)))
    assert known.values[-1, columns].tolist() == [3e-5, 1.0, 0.0, 0.0]


def test_regime_thresholds_reach_the_columns() -> None:
    series = random_bars(600, MINUTE_MS, seed=6)
    tight = compute_features(series, thresholds=RegimeThresholds(up_frac=0.0, down_frac=0.0))
    columns = [FEATURES.index(k) for k in ("regime_up", "regime_down", "regime_range")]
    assert tight.values[tight.valid][:, columns[2]].sum() == 0
    usual = compute_features(series)
    for t in range(300, 600, 17):
        ratio = series.close[t - 19 : t + 1].mean() / series.close[t - 49 : t + 1].mean()
        expected = Regime.TREND_UP if ratio > 1.01 else Regime.TREND_DOWN if ratio < 0.99 else Regime.RANGE
        assert regime_of_row(usual.values[t]) is expected
    assert {regime_of_row(row) for row in tight.values[tight.valid]} == {Regime.TREND_UP, Regime.TREND_DOWN}


def test_digest_tells_interval_and_thresholds_apart_and_is_stable() -> None:
    digests = {schema_digest(i) for i in (MINUTE_MS, 5 * MINUTE_MS)}
    digests.add(schema_digest(MINUTE_MS, RegimeThresholds(up_frac=0.02)))
    assert len(digests) == 3
    assert schema_digest(MINUTE_MS) == schema_digest(MINUTE_MS)
    assert all(len(d) == 16 for d in digests)
    assert FEATURE_COUNT == len(set(FEATURES)) == 36


def test_stream_refuses_a_bar_that_does_not_follow_until_reset() -> None:
    stream = FeatureStream(MINUTE_MS)
    stream.update(1.0, 1.0, 1.0, 1.0, 1.0, 0)
    for wrong in (0, 2 * MINUTE_MS):
        with pytest.raises(InvariantBroken, match="follow"):
            stream.update(1.0, 1.0, 1.0, 1.0, 1.0, wrong)
    stream.reset()
    assert stream.update(1.0, 1.0, 1.0, 1.0, 1.0, 2 * MINUTE_MS) is None


@pytest.mark.parametrize(
    "figures",
    [
        (1.0, 1.0, 1.0, float("nan"), 1.0),
        (1.0, float("inf"), 1.0, 1.0, 1.0),
        (1.0, 1.0, 0.0, 1.0, 1.0),
        (1.0, 0.5, 1.0, 1.0, 1.0),
        (1.0, 1.0, 1.0, 1.0, -1.0),
        (1.0, 1.0, 1.0, 1.0, float("nan")),
    ],
)
def test_stream_refuses_what_no_bar_can_hold_d9(figures: tuple[float, float, float, float, float]) -> None:
    stream = FeatureStream(MINUTE_MS)
    with pytest.raises(InvariantBroken, match="no bar"):
        stream.update(*figures, 0)
    assert stream.update(1.0, 1.0, 1.0, 1.0, 1.0, 0) is None


def test_saved_state_of_another_schema_is_refused_d24() -> None:
    saved = FeatureStream(MINUTE_MS).export_state()
    with pytest.raises(InvariantBroken, match="schema"):
        FeatureStream(5 * MINUTE_MS).restore(saved)
    with pytest.raises(InvariantBroken, match="read"):
        FeatureStream(MINUTE_MS).restore(b"\x00\x01")


def test_bars_shorter_than_a_minute_are_refused() -> None:
    with pytest.raises(ValueError, match="whole minutes"):
        FeatureStream(1000)
