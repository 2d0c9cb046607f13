"""A column of float64 prices becomes the same money, digit for digit, as each of its numbers by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml100.domain.units import MINUTE_MS, Coin, decimal_from_float
from aml100.market.series import BarSeries
from aml100.sim.scenario import Tape

PRICES = st.floats(allow_nan=False, allow_infinity=False)
PRICE_COLUMNS = ("open", "high", "low", "close", "volume")


def series_of(closes: list[float], first: int = 0, coin: str = "BTC") -> BarSeries:
    column = np.array(closes)
    opens = MINUTE_MS * (first + np.arange(len(closes), dtype=np.int64))
    return BarSeries(Coin(coin), MINUTE_MS, "test", opens, column, column, column, column, column)


@given(st.lists(PRICES | st.floats(1e-9, 1e9), max_size=30))
def test_a_column_becomes_the_same_money_as_one_number_at_a_time(closes: list[float]) -> None:
    made = [str(bar.close) for bar in series_of(closes).bars()]
    assert made == [str(decimal_from_float(value)) for value in closes]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_never_becomes_money(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        series_of([1.0, bad]).bars()


def holding(series: BarSeries, open_ms: int) -> bool:
    return bool(np.isin(open_ms, series.open_ms))


@given(st.integers(0, 700), st.lists(st.integers(0, 1200), max_size=40, unique=True))
def test_a_step_is_the_same_in_whatever_order_steps_are_asked_for(shift: int, asked: list[int]) -> None:
    """Two coins that begin apart, with a hole in one: each step holds the bars that open then and says who stops."""
    whole, other = series_of([100.0 + n for n in range(400)]), series_of([5.0 + n for n in range(400)], shift, "ETH")
    kept = np.r_[0:150, 160:400]
    holed = replace(other, **{name: getattr(other, name)[kept] for name in ("open_ms", *PRICE_COLUMNS)})
    tape = Tape([whole, holed])
    for row in asked:
        step = tape.step(row)
        assert (step is None) == (row >= len(tape))
        if step is None:
            continue
        assert step.open_ms == tape.time_of(row)
        there = [one for one in (whole, holed) if holding(one, step.open_ms)]
        expected = [(one.coin, one.close[one.open_ms.searchsorted(step.open_ms)]) for one in there]
        assert [(bar.coin, float(bar.close)) for bar in step.bars] == expected
        assert {bar.open_ms for bar in step.bars} == {step.open_ms}
        assert [coin for coin, _ in step.ending] == [one.coin for one in there if not holding(one, step.end_ms)]
