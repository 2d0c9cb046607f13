"""Options of section 9, each by hand: trailing stop, stop by ATR, sizes that shrink, and the hard stop."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from aml100.domain.events import TradingState
from aml100.domain.orders import Action, Side
from aml100.domain.units import MINUTE_MS, ZERO
from aml100.trading.sizing import drawdown_multiplier
from tests.harness import QUIET_BARS, play, quiet, rules_for_tests, series_of

LAST = QUIET_BARS - 1
TRAILING = rules_for_tests(trailing_stop=Decimal("0.01"), stop_loss=Decimal("0.02"), take_profit=ZERO)
BUY, SELL = {LAST: Action.BUY}, {LAST: Action.SELL}


def test_a_trailing_stop_follows_the_best_close_and_never_goes_back() -> None:
    rows = [(100.0, 103.0, 100.0, 103.0), (103.0, 104.0, 102.5, 104.0), (104.0, 104.5, 103.0, 103.5)]
    rows += [(103.5, 103.6, 102.9, 103.2), (103.2, 103.3, 103.1, 103.2)]
    series = series_of([*quiet(), *rows])
    result, _ = play(series, BUY, TRAILING)
    (trade,) = result.trades
    assert trade.exit_reason == "stop_loss"
    assert trade.exit_price == Decimal("102.96") * Decimal("0.9999")  # 1 % under the close of 104, not of 103.5
    assert (trade.bars_held, trade.exit_ms) == (4, int(series.open_ms[LAST + 4]) + MINUTE_MS)


def test_a_trailing_stop_of_a_short_comes_down_from_above() -> None:
    rows = [(100.0, 100.0, 97.0, 97.0), (97.0, 97.98, 96.9, 97.5), (97.5, 97.5, 97.0, 97.2)]
    result, _ = play(series_of([*quiet(), *rows]), SELL, TRAILING)
    (trade,) = result.trades
    assert (trade.exit_reason, trade.side) == ("stop_loss", Side.SELL)
    assert trade.exit_price == Decimal("97.97") * Decimal("1.0001")


def test_a_market_that_opens_beyond_the_trailing_stop_is_left_at_that_open() -> None:
    rows = [(100.0, 103.0, 100.0, 103.0), (101.0, 103.0, 100.9, 102.9), (102.9, 102.9, 102.9, 102.9)]
    series = series_of([*quiet(), *rows])
    result, core = play(series, BUY, TRAILING)
    (trade,) = result.trades
    assert (trade.exit_reason, trade.exit_ms) == ("stop_loss", int(series.open_ms[LAST + 2]))
    assert trade.exit_price == Decimal("101") * Decimal("0.9999")
    assert core.ledger.open_coins() == []


def test_the_fixed_stop_holds_where_it_is_tighter_than_the_trailing_one() -> None:
    rows = [(100.0, 100.0, 99.2, 99.3), (99.3, 99.3, 97.0, 97.5)]
    rules = replace(TRAILING, stop_loss=Decimal("0.01"), trailing_stop=Decimal("0.02"))
    result, _ = play(series_of([*quiet(), *rows]), BUY, rules)
    assert result.trades[0].exit_price == Decimal("99.010") * Decimal("0.9999")  # 1 % under the fill at 100.01


def test_a_stop_by_atr_is_so_many_mean_ranges_from_the_fill() -> None:
    restless = [(100.0, 100.5, 99.5, 100.0)] * QUIET_BARS  # a true range of 1 % each: so is its mean
    rows = [(100.0, 100.5, 98.2, 100.0), (100.0, 100.5, 98.0, 99.0), (99.0, 99.0, 99.0, 99.0)]
    rules = rules_for_tests(atr_stop=2.0, take_profit=ZERO)
    result, _ = play(series_of([*restless, *rows]), BUY, rules)
    (trade,) = result.trades
    assert trade.bars_held == 2
    assert trade.exit_price == Decimal("98.010") * Decimal("0.9999")  # 100.01 less 2 %, to five figures


def test_b1_a_stop_by_atr_that_lies_beyond_liquidation_is_no_entry() -> None:
    restless = [(100.0, 104.0, 96.0, 100.0)] * QUIET_BARS  # an ATR of 8 %
    fat = rules_for_tests(position_size=Decimal("0.9"), leverage=5, take_profit=ZERO)
    fat = replace(fat, risk=replace(fat.risk, max_position_notional=ZERO, max_leverage=ZERO))
    near, far = replace(fat, atr_stop=0.5), replace(fat, atr_stop=3.0)
    series = series_of([*restless, (100.0, 100.0, 100.0, 100.0)])
    assert len(play(series, BUY, near)[0].trades) == 1
    result, _ = play(series, BUY, far)
    assert result.trades == []
    refused = [gate for one in result.decisions for gate in one.gates if gate.name == "liquidation" and not gate.ok]
    assert refused
    assert "24.00% needed" in refused[0].reason


def test_without_a_range_the_stop_is_the_fixed_one() -> None:
    rows = [(100.0, 100.0, 99.0, 99.5), (99.5, 99.5, 99.5, 99.5)]
    result, _ = play(series_of([*quiet(), *rows]), BUY, rules_for_tests(atr_stop=2.0))
    assert result.trades[0].exit_price == Decimal("99.410") * Decimal("0.9999")  # 0.6 % under 100.01


@pytest.mark.parametrize(
    ("drawdown", "share"), [(0.0, "1"), (0.007, "0.9"), (0.0175, "0.75"), (0.035, "0.5"), (0.2, "0.5")]
)
def test_sizes_shrink_evenly_with_the_drawdown_to_their_floor(drawdown: float, share: str) -> None:
    limits = replace(rules_for_tests().risk, scaling_floor=0.5)
    assert drawdown_multiplier(limits, drawdown) == Decimal(share)
    assert drawdown_multiplier(replace(limits, scaling_floor=1.0), drawdown) == 1
    assert drawdown_multiplier(replace(limits, enabled=False), drawdown) == 1


def test_the_entry_after_a_loss_is_smaller_by_the_drawdown() -> None:
    rows = [(100.0, 100.0, 99.0, 100.0), *quiet(100.0, 2)]
    actions = {LAST: Action.BUY, LAST + 2: Action.BUY}
    rules = rules_for_tests()
    scaled = replace(rules, risk=replace(rules.risk, scaling_floor=0.5))
    plain = play(series_of([*quiet(), *rows]), actions, rules)[0]
    shrunk = play(series_of([*quiet(), *rows]), actions, scaled)[0]
    fallen = float(1 - plain.equity[LAST + 2].equity / 10_000)
    share = 1 - 0.5 * fallen / 0.035
    assert 0.002 < fallen < 0.004
    assert float(shrunk.trades[1].size / plain.trades[1].size) == pytest.approx(share, abs=1e-4)
    assert shrunk.trades[0].size == plain.trades[0].size


def test_the_hard_stop_ends_trading_for_good_and_decisions_go_on_with_gate_halt() -> None:
    rules = rules_for_tests(position_size=Decimal("0.4"), stop_loss=ZERO, take_profit=ZERO, max_hold_bars=0)
    rows = [(100.0, 100.0, 98.0, 98.5), *quiet(98.5, 2000)]
    actions = {LAST: Action.BUY, **{LAST + n: Action.BUY for n in range(3, 2000, 7)}}
    result, core = play(series_of([*quiet(), *rows]), actions, rules)
    (trade,) = result.trades
    assert trade.exit_reason == "risk"
    assert core.state.trading is TradingState.HALTED
    after = [one for one in result.decisions if one.time_ms > trade.exit_ms]
    assert len(after) == 2000
    assert all(one.outcome == "none" for one in after)
    assert all(any(gate.name == "halt" and not gate.ok for gate in one.gates) for one in after)


def test_every_option_is_off_by_default() -> None:
    rules = rules_for_tests()
    assert (rules.atr_stop, rules.trailing_stop, rules.risk.scaling_floor) == (0.0, ZERO, 1.0)
