"""What the policy sees of its position: bounded whatever happened, itself where it is small, zeros where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml100.market.position import (
    BARS_COUNTED,
    DRAWDOWN_COUNTED,
    PERCENT_LIMIT,
    POSITION_FEATURES,
    POSITION_SIZE,
    position_features,
)

PRICES = st.floats(1e-6, 1e9)


def seen(
    side: float,
    entry: float = 100.0,
    close: float = 100.0,
    bars: float = 1.0,
    target: float = 0.0,
    stop: float = 0.0,
    drawdown: float = 0.0,
    wins: float = 0.0,
    holds: float = 0.0,
) -> dict[str, float]:
    row = np.full(POSITION_SIZE, np.nan)
    position_features(side, entry, close, bars, target, stop, drawdown, wins, holds, row)
    return dict(zip(POSITION_FEATURES, row.tolist(), strict=True))


@given(
    st.sampled_from([-1.0, 1.0]), PRICES, PRICES, st.integers(1, 10**9), PRICES, PRICES, st.floats(0.0, 50.0),
    st.integers(0, 10**6), st.integers(0, 10**6),
)  # fmt: skip
def test_no_position_is_seen_beyond_its_bounds(
    side: float,
    entry: float,
    close: float,
    bars: int,
    target: float,
    stop: float,
    drawdown: float,
    wins: int,
    holds: int,
) -> None:
    view = seen(side, entry, close, bars, target, stop, drawdown, wins, holds)
    for name in ("unrealised_return", "to_target", "to_stop"):
        assert abs(view[name]) <= PERCENT_LIMIT, name
    assert 0.0 < view["bars_held"] <= np.log1p(BARS_COUNTED) / 7.0
    assert 0.0 <= view["drawdown"] <= 20.0 * DRAWDOWN_COUNTED
    assert 0.0 <= view["wins_in_row"] <= 1.0
    assert 0.0 <= view["holds_in_row"] <= 1.0


def test_small_returns_are_seen_as_they_are_and_larger_ones_in_their_order() -> None:
    assert seen(1, close=100.1)["unrealised_return"] == pytest.approx(0.1, rel=0.02)
    assert seen(-1, close=100.1)["unrealised_return"] == pytest.approx(-0.1, rel=0.02)
    assert seen(1, close=110.0)["unrealised_return"] == pytest.approx(PERCENT_LIMIT / 2.0)
    gains = [seen(1, close=close)["unrealised_return"] for close in (1.0, 50.0, 99.0, 100.0, 101.0, 150.0, 1000.0)]
    assert gains == sorted(set(gains))


def test_distances_count_from_the_close_towards_where_the_position_ends() -> None:
    long, short = seen(1, target=102.0, stop=99.0), seen(-1, target=98.0, stop=101.0)
    for view in (long, short):
        assert view["to_target"] == pytest.approx(2.0 / 1.2)
        assert view["to_stop"] == pytest.approx(1.0 / 1.1, rel=0.02)
    none = seen(1)
    assert (none["to_target"], none["to_stop"]) == (0.0, 0.0)


def test_flat_there_is_nothing_but_the_account() -> None:
    view = seen(0, drawdown=0.05, wins=2, holds=1)
    assert list(view.values()) == pytest.approx([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.4, 1.0 / 3.0])
