"""Real bars walked forward: which files are a set, what a fold may see, and what a rule earns there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aml100.bench.learning_real import EARLIER, ENTRIES, folds_of, sets_in, stay_out, walk_rule
from aml100.domain.units import HOUR_MS

BARS = 4_400


def write(folder: Path, name: str, seed: int) -> None:
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).standard_normal(BARS) * 0.003))
    opened = np.concatenate([close[:1], close[:-1]])
    time = 1_700_006_400_000 + np.arange(BARS, dtype=np.int64) * HOUR_MS
    high, low = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    columns = {"time": time, "open": opened, "high": high, "low": low, "close": close, "volume": np.ones(BARS)}
    pq.write_table(pa.table(columns), folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("venue_perp_AAA_1h", "venue_perp_BBB_1h", "venue_spot_AAA_1h")):
        write(tmp_path, f"{name}.parquet", seed)
    for other in ("venue_funding_AAA.parquet", "venue_perp_AAA_trades_sample.parquet"):
        (tmp_path / other).write_bytes(b"")
    (tmp_path / "venue_funding_AAA.parquet").unlink()  # its rates are not known
    return tmp_path


def test_a_set_is_the_bars_of_one_venue_kind_and_interval(folder: Path) -> None:
    found = {title: [coin for coin, _ in files] for title, files in sets_in(folder).items()}
    assert found == {"venue_perp 1h": ["AAA", "BBB"], "venue_spot 1h": ["AAA"]}


def test_a_fold_learns_from_what_lies_before_its_test_and_tests_follow_each_other(folder: Path) -> None:
    first, second = folds_of(sets_in(folder)["venue_perp 1h"], ENTRIES["taker"])
    for early, late in zip(first, second, strict=True):
        assert len(early.seen.series) == early.first == BARS // 2
        assert early.last == late.first == len(late.seen.series)
        assert late.last == BARS
    (before,) = folds_of(sets_in(folder)["venue_perp 1h"], ENTRIES["taker"], EARLIER)
    for earlier, early in zip(before, first, strict=True):
        assert len(earlier.seen.series) == earlier.first == BARS // 4
        assert earlier.last == early.first


def test_buy_and_hold_earns_the_move_less_costs_and_funding(folder: Path) -> None:
    (coin, _), _ = folds_of(sets_in(folder)["venue_perp 1h"], ENTRIES["taker"])
    ((start, stop),) = coin.spans
    walk, close, rules = walk_rule(coin, "buy and hold"), coin.data.series.close, coin.data.rules
    bought = close[start] * (1.0 + rules.slippage)
    sold = close[stop - 1] * (1.0 - rules.slippage)
    charged = coin.data.constant_funding_rate * coin.data.series.open[start + 1 : stop] / bought
    expected = sold / bought - 1.0 - rules.taker_fee * (1.0 + sold / bought) - charged.sum()
    assert walk.net.sum() == pytest.approx(expected, abs=2e-4)
    assert walk.trade_nets.tolist() == [pytest.approx(walk.net.sum())]


def test_a_refused_model_stays_out_of_the_very_bars_that_others_are_judged_on(folder: Path) -> None:
    (coin, _), _ = folds_of(sets_in(folder)["venue_perp 1h"], ENTRIES["taker"])
    out, ruled = stay_out(coin), walk_rule(coin, "momentum")
    np.testing.assert_array_equal(out.close_ms, ruled.close_ms)
    assert not out.net.any()
    assert len(out.trade_nets) == 0 < len(ruled.trade_nets)
