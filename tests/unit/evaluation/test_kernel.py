"""The kernel by hand-worked examples: one per rule of SPEC section 6."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml100.domain.units import HOUR_MS, Coin, round_price
from aml100.evaluation.fixed_signal import SignalResult, backtest_signal
from aml100.evaluation.kernel import (
    EXIT_REASONS,
    KernelRules,
    Market,
    Records,
    counterfactual,
    flat_positions,
    position_rows,
    step_batch,
)
from aml100.evaluation.rounding import round_to_tick
from aml100.market.position import POSITION_FEATURES
from aml100.market.series import BarSeries, FundingSeries

FLAT = (100.0, 100.0, 100.0, 100.0)
FREE = KernelRules(taker_fee=0.0, slippage=0.0, take_profit=0.02, stop_loss=0.01, max_hold=0)
START_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS + 300_000


def market(*rows: tuple[float, float, float, float], gap_before: int | None = None) -> Market:
    """Five-minute bars (open, high, low, close) from five past an hour on."""
    columns = [np.array(column, np.float64) for column in zip(*rows, strict=True)]
    open_ms = START_MS + 300_000 * np.arange(len(rows), dtype=np.int64)
    if gap_before is not None:
        open_ms[gap_before:] += 600_000
    series = BarSeries(Coin("X"), 300_000, "synthetic:test", open_ms, *columns, np.ones(len(rows)))
    hours = np.arange(START_MS // HOUR_MS, START_MS // HOUR_MS + 4, dtype=np.int64) * HOUR_MS
    return Market.from_series(series, FundingSeries(Coin("X"), hours, np.full(4, 0.001)))


def trade(result: SignalResult) -> tuple[float, float, str, int]:
    assert len(result.trades) == 1
    only = result.trades[0]
    return only["entry_price"], only["exit_price"], EXIT_REASONS[only["exit_reason"]], int(only["bars_held"])


def play(rules: KernelRules, *rows: tuple[float, float, float, float], action: int = 1) -> SignalResult:
    """Enter at the close of the first row; the position is closed by the rules or at the end."""
    signal = np.zeros(len(rows), np.int8)
    signal[0] = action
    return backtest_signal(market(*rows), rules, signal)


@pytest.mark.parametrize(
    ("action", "bar", "price", "reason"),
    [
        (1, (100.0, 101.0, 98.9, 100.0), 99.0, "stop_loss"),
        (1, (100.0, 101.0, 99.0, 100.0), 99.0, "stop_loss"),
        (1, (100.0, 103.0, 98.0, 100.0), 99.0, "stop_loss"),
        (1, (97.0, 98.0, 96.0, 97.5), 97.0, "stop_loss"),
        (1, (100.0, 102.0, 99.1, 101.0), 102.0, "take_profit"),
        (1, (105.0, 106.0, 104.0, 105.0), 102.0, "take_profit"),
        (2, (100.0, 101.0, 99.0, 100.0), 101.0, "stop_loss"),
        (2, (103.0, 104.0, 97.0, 100.0), 103.0, "stop_loss"),
        (2, (100.0, 100.5, 98.0, 99.0), 98.0, "take_profit"),
    ],
)
def test_stop_before_target_and_the_open_where_the_bar_begins_beyond_the_stop(
    action: int, bar: tuple[float, float, float, float], price: float, reason: str
) -> None:
    result = play(FREE, FLAT, FLAT, bar, FLAT, action=action)
    at_open = reason == "stop_loss" and bar[0] != 100.0
    assert trade(result) == (100.0, pytest.approx(price), reason, 1 if at_open else 2)


def test_the_entry_bar_s_own_range_is_tested() -> None:
    assert trade(play(FREE, FLAT, (100.0, 100.5, 98.0, 99.5), FLAT)) == (100.0, 99.0, "stop_loss", 1)


def test_slippage_and_fees_by_hand() -> None:
    rules = KernelRules(taker_fee=0.001, slippage=0.01, take_profit=0.0, stop_loss=0.0, max_hold=0, notional_frac=0.5)
    result = play(rules, FLAT, FLAT, (100.0, 110.0, 100.0, 110.0))
    only = result.trades[0]
    # 10 000 x 0.5 / 100 = 50 coins; bought at 101, sold at the last close 110 x 0.99 = 108.9
    assert (only["size"], only["entry_price"], only["exit_price"]) == (50.0, 101.0, pytest.approx(108.9))
    # fees 50 x 101 x 0.001 = 5.05 and 50 x 108.9 x 0.001 = 5.445
    assert only["fees"] == pytest.approx(-10.495)
    assert only["net"] == pytest.approx(50 * 7.9 - 10.495)
    assert result.equity.tolist() == pytest.approx([10_000, 10_000 - 50 - 5.05, 10_000 + 395 - 10.495])


def test_funding_is_paid_by_longs_on_the_notional_at_the_full_hour_only() -> None:
    rows = [FLAT] * 11 + [(120.0, 120.0, 120.0, 120.0)] * 3
    rules = KernelRules(taker_fee=0.0, slippage=0.0, take_profit=0.0, stop_loss=0.0, max_hold=0, notional_frac=0.5)
    # bar 11 opens at the hour: 50 coins x 120 x 0.001
    assert play(rules, *rows).trades["funding"].tolist() == pytest.approx([-6.0])
    assert play(rules, *rows, action=2).trades["funding"].tolist() == pytest.approx([6.0])


def test_an_entry_at_the_hour_itself_pays_no_funding_for_it() -> None:
    signal = np.zeros(13, np.int8)
    signal[10] = 1
    assert backtest_signal(market(*[FLAT] * 13), FREE, signal).trades["funding"].tolist() == [0.0]


def test_the_time_exit_is_decided_where_bars_held_reaches_the_most_and_fills_at_the_next_open() -> None:
    rules = KernelRules(taker_fee=0.0, slippage=0.0, take_profit=0.0, stop_loss=0.0, max_hold=2)
    result = play(rules, FLAT, FLAT, FLAT, (101.0, 101.0, 101.0, 101.0), FLAT)
    assert trade(result) == (100.0, 101.0, "time", 2)
    assert result.trades["exit_row"].tolist() == [3]


def test_before_a_gap_the_position_is_closed_and_no_order_fills_behind_it() -> None:
    bars = market(FLAT, FLAT, (100.0, 101.0, 100.0, 101.0), FLAT, FLAT, gap_before=3)
    result = backtest_signal(bars, FREE, np.array([1, 0, 2, 0, 0], np.int8))
    assert trade(result) == (100.0, 101.0, "end", 2)
    assert result.position.tolist() == [0.0, 40.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(("reverse", "sides"), [(False, [1]), (True, [1, -1])])
def test_the_opposite_side_closes_or_reverses(reverse: bool, sides: list[int]) -> None:
    rules = KernelRules(take_profit=0.0, stop_loss=0.0, max_hold=0, reverse_on_opposite=reverse)
    result = backtest_signal(market(*[FLAT] * 6), rules, np.array([1, 0, 2, 0, 0, 0], np.int8))
    assert result.trades["side"].tolist() == sides
    assert EXIT_REASONS[result.trades["exit_reason"][0]] == "signal"


def test_decisions_count_only_on_bars_whose_end_is_a_multiple() -> None:
    # the first bar ends at ten past the hour, so with 3 bars the decisions are on rows 1, 4, 7
    rules = KernelRules(decision_bars=3, take_profit=0.0, stop_loss=0.0, max_hold=0)
    for row, entered in ((0, 0), (1, 1), (2, 0), (3, 0), (4, 1)):
        signal = np.zeros(8, np.int8)
        signal[row] = 1
        assert len(backtest_signal(market(*[FLAT] * 8), rules, signal).trades) == entered


def test_an_entry_under_ten_dollars_is_refused() -> None:
    signal = np.array([1, 0, 0], np.int8)
    for equity, entered in ((24.0, 0), (25.0, 1)):
        result = backtest_signal(market(*[FLAT] * 3), FREE, signal, initial_equity=equity)
        assert len(result.trades) == entered


@pytest.mark.parametrize(
    ("rules", "entries"),
    [
        (KernelRules(breaker_dd=0.01, breaker_pause_bars=4), [1, 7]),
        (KernelRules(hard_dd=0.01), [1]),
    ],
)
def test_the_breaker_flattens_and_pauses_and_the_hard_stop_ends_for_good(
    rules: KernelRules, entries: list[int]
) -> None:
    bare = KernelRules(
        taker_fee=0.0, slippage=0.0, take_profit=0.0, stop_loss=0.0, max_hold=0, notional_frac=1.0,
        breaker_dd=rules.breaker_dd, hard_dd=rules.hard_dd, breaker_pause_bars=rules.breaker_pause_bars,
    )  # fmt: skip
    low = (98.0, 98.0, 98.0, 98.0)
    result = backtest_signal(market(FLAT, FLAT, *[low] * 8), bare, np.ones(10, np.int8))
    assert result.trades["entry_row"].tolist() == entries
    assert EXIT_REASONS[result.trades["exit_reason"][0]] == "risk"
    assert result.trades["exit_row"][0] == 3


def test_counterfactual_prices_the_three_actions_of_a_flat_and_of_a_long() -> None:
    rules = KernelRules(taker_fee=0.001, slippage=0.0, take_profit=0.0, stop_loss=0.0, max_hold=0).as_record()
    bars = market(FLAT, (100.0, 102.0, 100.0, 102.0), (102.0, 102.0, 102.0, 102.0))
    states = flat_positions(2)
    step_batch(bars, rules, np.array([0, 0]), states, np.array([0, 1], np.int8))
    assert states["side"].tolist() == [0, 1]
    following, steps = counterfactual(bars, rules, np.array([1, 1]), states)
    # flat: nothing, or a fee; long (1/100 coin): keeps, keeps, or pays 0.001 x 102 / 100
    np.testing.assert_allclose(steps["net"], [[0.0, -0.001, -0.001], [0.0, 0.0, -0.00102]], atol=1e-15)
    assert following["side"].tolist() == [[0, 1, -1], [1, 1, 0]]
    assert steps["closed_net"][1, 2] == pytest.approx(0.02 - 0.001 - 0.00102)
    assert following["wins"].tolist() == [[0, 0, 0], [0, 0, 1]]
    assert following["holds"].tolist() == [[2, 0, 0], [1, 0, 0]]


def test_the_last_bar_truncates_every_action_alike() -> None:
    bars, rules = market(FLAT, FLAT), KernelRules().as_record()
    following, steps = counterfactual(bars, rules, np.array([1]), flat_positions(1))
    assert steps["truncated"].tolist() == [[1, 1, 1]]
    assert following["side"].tolist() == [[0, 0, 0]]


def test_position_rows_are_the_policy_s_view() -> None:
    states = flat_positions(2)
    states["side"], states["entry"], states["bars_held"] = [0, -1], 100.0, 6
    states["stop"], states["target"], states["equity"] = 101.0, 98.0, 0.99
    rows = position_rows(states, np.array([99.0, 99.0]))
    view = dict(zip(POSITION_FEATURES, rows[1].tolist(), strict=True))
    assert view["side"] == -1
    assert view["unrealised_return"] == pytest.approx(1.0 / 1.1)
    assert view["bars_held"] == pytest.approx(np.log(7.0) / 7.0, rel=1e-6)
    assert view["drawdown"] == pytest.approx(0.2)
    assert rows[0, :5].tolist() == [0.0] * 5


def _rows(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_outside_the_market_raises_and_reads_nothing(row: int) -> None:
    rules: Records = KernelRules().as_record()
    with pytest.raises(IndexError, match="bar rows"):
        counterfactual(market(FLAT, FLAT), rules, _rows([row]), flat_positions(1))


@given(st.integers(1, 10**9), st.integers(0, 9), st.sampled_from([-1, 0, 1, 4, 6]))
def test_ticks_are_those_of_the_exact_rounding(digits: int, places: int, px_decimals: int) -> None:
    exact = Decimal(digits).scaleb(-places)
    wanted = round_price(exact, None if px_decimals < 0 else px_decimals)
    assert round_to_tick(float(exact), px_decimals) == float(wanted)
