"""docs/features.md says what the code does: names, look-back and range of every feature, one by one."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from aml100.domain.units import DAY_MS, HOUR_MS, MINUTE_MS, Coin
from aml100.market.features import FEATURES, compute_features
from aml100.market.position import POSITION_FEATURES
from aml100.market.regime import CHANCE_SPREAD
from aml100.market.series import BarSeries, Floats, FundingSeries
from tests.unit.market.tapes import random_bars, real_bars

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "features.md").read_text()
BARS, ROW = 900, 700
"""A series, and the row that is looked at; rows near it cover every phase of the larger bars."""


@dataclass(frozen=True)
class Line:
    name: str
    look_back: str
    low: float
    high: float
    flag: bool


def range_of(text: str) -> tuple[float, float, bool]:
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]
    match text.split()[0]:
        case "any":
            return -math.inf, math.inf, False
        case ">=" | ">":
            return numbers[0], math.inf, False
        case _:
            return numbers[0], numbers[1], " or " in text


LINES = [
    Line(name, look_back.strip(), *range_of(span.strip()))
    for name, _, _, look_back, _, span in re.findall(
        r"^\| `(\w+)` \|([^|\n]*)\|([^|\n]*)\|([^|\n]*)\|([^|\n]*)\|([^|\n]*)\|$", PAGE, re.MULTILINE
    )
]
BY_NAME = {line.name: line for line in LINES}
WINDOWED = [line.name for line in LINES if line.look_back.isdigit()]


def values_of(series: BarSeries, funding: FundingSeries | None = None) -> Floats:
    frame = compute_features(series, funding)
    assert frame.valid[ROW - 70 :].all()
    return frame.values


def other_bars(series: BarSeries, seed: int) -> BarSeries:
    """Other figures at the same times."""
    return replace(random_bars(len(series), series.interval_ms, seed, quiet_share=0.0), open_ms=series.open_ms)


def spliced(before: BarSeries, after: BarSeries, row: int) -> BarSeries:
    """The figures of `before` up to the row, those of `after` from it on."""
    columns = {
        name: np.concatenate([getattr(before, name)[:row], getattr(after, name)[row:]])
        for name in ("open", "high", "low", "close", "volume")
    }
    return replace(after, **columns)


def shaken(series: BarSeries, row: int) -> BarSeries:
    """One bar with another range, close and volume."""
    changed = {name: getattr(series, name).copy() for name in ("high", "low", "close", "volume")}
    for name, factor in (("high", 1.5), ("low", 0.7), ("close", 1.1), ("volume", 3.0)):
        changed[name][row] *= factor
    return replace(series, **changed)


def test_the_table_lists_every_feature_in_its_order() -> None:
    assert tuple(line.name for line in LINES) == FEATURES
    listed = re.findall(r"^\| `(\w+)` \|[^|\n]*\|[^|\n]*\|$", PAGE, re.MULTILINE)
    assert tuple(listed) == POSITION_FEATURES
    assert f"`vol_60` x {CHANCE_SPREAD:.2f}," in PAGE


@pytest.mark.parametrize("name", WINDOWED)
def test_nothing_older_than_the_look_back_matters_and_the_oldest_bar_in_it_can(name: str) -> None:
    """Truncation from behind: other bars before the window change nothing; its first bar does, at some time of day."""
    column, look_back = FEATURES.index(name), int(BY_NAME[name].look_back)
    # Moves large enough that every flag is set somewhere; the row's place in the hour is tried all round.
    series = random_bars(BARS, MINUTE_MS, seed=5, quiet_share=0.0)
    series = replace(series, **{k: getattr(series, k) ** 3 / 1e4 for k in ("open", "high", "low", "close")})
    wild = other_bars(series, 21)
    whole = values_of(series)
    oldest_mattered = False
    for row in range(ROW - 60, ROW + 1):
        first = row - look_back + 1
        forgot = compute_features(spliced(wild, series, first)).values
        assert math.isclose(forgot[row, column], whole[row, column], rel_tol=1e-12, abs_tol=1e-15), (
            f"{name}: a bar before the last {look_back} matters"
        )
        changed = compute_features(shaken(series, first)).values
        oldest_mattered |= bool(changed[row, column] != whole[row, column])
    if not BY_NAME[name].flag:
        assert oldest_mattered, f"{name}: the look-back of {look_back} is too long"


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_every_value_lies_in_its_range(line: Line, shared: Path) -> None:
    column = FEATURES.index(line.name)
    for series in (
        random_bars(3_000, MINUTE_MS, seed=8, quiet_share=0.4),
        real_bars(shared, "binance_spot_BTC_1m.parquet", 0, 20_000),
        real_bars(shared, "hyperliquid_perp_HYPE_1h.parquet", 0, 4_000),
    ):
        frame = compute_features(series)
        values = frame.values[frame.valid, column]
        assert len(values) > 1_000
        assert np.isfinite(values).all()
        assert values.min() >= line.low - 1e-12
        assert values.max() <= line.high + 1e-12
        if line.flag:
            assert set(np.unique(values)) <= {0.0, 1.0}


@pytest.mark.parametrize("name", FEATURES)
def test_weeks_later_and_in_another_currency_it_is_the_same(name: str) -> None:
    """Shift: the whole market 5 weeks later, prices times a power of two, changes no bit of any feature."""
    column = FEATURES.index(name)
    series = random_bars(BARS, MINUTE_MS, seed=6, first=7_000_017)
    hours = series.open_ms[0] // HOUR_MS * HOUR_MS + np.arange(-1, 20) * HOUR_MS
    funding = FundingSeries.from_settlements(
        Coin("BTC"), hours, np.sin(hours / DAY_MS) * 1e-4, np.cos(hours / DAY_MS) * 1e-3
    )
    later = 35 * DAY_MS
    moved = replace(
        series,
        open_ms=series.open_ms + later,
        volume=series.volume * 8.0,
        **{k: getattr(series, k) * 4.0 for k in ("open", "high", "low", "close")},
    )
    here, there = values_of(series, funding), values_of(moved, funding.shifted(later))
    np.testing.assert_allclose(there[:, column], here[:, column], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FEATURES)
def test_one_bar_earlier_is_the_row_before_and_not_this_one(name: str) -> None:
    """Shift: a series that lacks its last bar ends with the row before, bit for bit; no feature looks ahead."""
    column = FEATURES.index(name)
    series = random_bars(BARS, MINUTE_MS, seed=7)
    hours = np.arange(-1, 20) * HOUR_MS
    funding = FundingSeries.from_settlements(
        Coin("BTC"), hours, np.sin(np.arange(21)) * 1e-4, np.cos(np.arange(21)) * 1e-3
    )
    whole = values_of(series, funding)
    for stop in (ROW, ROW + 1, ROW + 61, BARS - 1):
        wild = other_bars(series, seed=stop)
        with_other_future = compute_features(spliced(series, wild, stop), funding).values
        np.testing.assert_array_equal(with_other_future[:stop, column], whole[:stop, column])
        np.testing.assert_array_equal(
            compute_features(series.rows(0, stop), funding).values[-1, column], whole[stop - 1, column]
        )
