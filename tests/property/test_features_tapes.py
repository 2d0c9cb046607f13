"""Stream, batch and prefix agree bit for bit on tapes that hypothesis makes, with gaps, standstills and jumps."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aml100.domain.units import MINUTE_MS, Coin
from aml100.market.features import FEATURE_COUNT, FeatureStream, compute_features
from aml100.market.series import BarSeries

INTERVALS = [MINUTE_MS * k for k in (1, 3, 5, 15, 30, 60, 240)]


@st.composite
def tapes(draw: st.DrawFn) -> BarSeries:
    """Stretches of one kind of movement each, glued together, sometimes over a gap."""
    kinds = st.tuples(st.sampled_from(["still", "walk", "jumpy", "trend"]), st.integers(1, 150), st.integers(0, 3))
    stretches = draw(st.lists(kinds, min_size=2, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    moves, skips = [], []
    for kind, bars, skip in stretches:
        scale = {"still": 0.0, "walk": 0.001, "jumpy": 0.3, "trend": 0.0}[kind]
        moves.append(rng.standard_normal(bars) * scale + (0.01 if kind == "trend" else 0.0))
        skips.append(np.r_[skip, np.zeros(bars - 1)])
    log = np.cumsum(np.concatenate(moves))
    close = draw(st.sampled_from([1e-4, 1.0, 65_000.0])) * np.exp(np.clip(log, -20.0, 20.0))
    open_ = np.r_[close[:1], close[:-1]]
    n = len(close)
    high, low = np.maximum(open_, close) * (1 + rng.random(n) * 1e-3), np.minimum(open_, close)
    interval_ms = draw(st.sampled_from(INTERVALS))
    places = draw(st.integers(0, 10_000)) + np.cumsum(1 + np.concatenate(skips)).astype(np.int64)
    return BarSeries(Coin("X"), interval_ms, "test", places * interval_ms, open_, high, low, close, rng.random(n))


@given(tapes(), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_stream_batch_and_prefix_agree_bit_for_bit(series: BarSeries, cut: float) -> None:
    batch = compute_features(series)
    assert np.isfinite(batch.values[batch.valid]).all()
    stop = int(cut * len(series))
    np.testing.assert_array_equal(compute_features(series.rows(0, stop)).values, batch.values[:stop])
    stream = FeatureStream(series.interval_ms)
    starts = {start for start, _ in series.segments()}
    for t in range(len(series)):
        if t in starts:
            stream.reset()
        if t == stop:
            saved = stream.export_state()
            stream = FeatureStream(series.interval_ms)
            stream.restore(saved)
        figures = (float(c[t]) for c in (series.open, series.high, series.low, series.close, series.volume))
        row = stream.update(*figures, int(series.open_ms[t]))
        assert (row is not None) == batch.valid[t]
        np.testing.assert_array_equal(np.full(FEATURE_COUNT, np.nan) if row is None else row, batch.values[t])
