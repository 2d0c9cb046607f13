"""Entries that rest: filled only when the market trades through their price, as maker, else cancelled or taken.

The decision falls on a close of 100; a resting buy stands at 100 from the next open on.
"""

from __future__ import annotations

from decimal import Decimal

from aml100.domain.events import Gate
from aml100.domain.orders import Action, Side
from aml100.domain.units import MINUTE_MS, Coin, truncate_usd
from tests.harness import QUIET_BARS, play, quiet, rules_for_tests, series_of

LAST = QUIET_BARS - 1
BUY, SELL = {LAST: Action.BUY}, {LAST: Action.SELL}
MAKER = rules_for_tests(entry_style="maker")
THEN_TAKER = rules_for_tests(entry_style="maker_then_taker")
STILL = (100.0, 100.2, 100.0, 100.1)  # touches the price and does not trade through it


def test_a_touch_is_no_fill_and_the_entry_goes_after_its_time() -> None:
    result, core = play(series_of([*quiet(), STILL, *quiet(99.0, 3)]), BUY, MAKER)
    assert result.trades == []
    assert result.fills == []
    assert core.blotter.live(Coin("BTC")) == []
    assert result.final_equity == 10_000


def test_traded_through_it_fills_at_its_price_as_maker() -> None:
    series = series_of([*quiet(), (100.0, 100.1, 99.9, 100.0), *quiet(100.0, 2)])
    result, _ = play(series, BUY, MAKER)
    entry = result.fills[0].fill
    assert (entry.price, entry.is_taker, entry.time_ms) == (
        Decimal(100), False, int(series.open_ms[LAST + 1]) + MINUTE_MS
    )  # fmt: skip
    assert entry.fee == truncate_usd(entry.size * 100 * Decimal("0.00015"))
    (trade,) = result.trades
    assert (trade.exit_reason, trade.bars_held) == ("end", 3)
    assert result.fills[1].fill.is_taker


def test_a_resting_sell_is_the_mirror() -> None:
    result, _ = play(series_of([*quiet(), (100.0, 100.1, 99.9, 100.0), *quiet(100.0, 2)]), SELL, MAKER)
    assert (result.trades[0].side, result.trades[0].entry_price) == (Side.SELL, Decimal(100))
    missed, _ = play(series_of([*quiet(), (100.0, 100.0, 99.0, 99.5), *quiet(99.5, 2)]), SELL, MAKER)
    assert missed.trades == []


def test_the_bar_that_fills_it_may_stop_it_too() -> None:
    result, _ = play(series_of([*quiet(), (100.0, 100.1, 99.0, 99.5), *quiet(99.5, 2)]), BUY, MAKER)
    (trade,) = result.trades
    assert (trade.exit_reason, trade.bars_held) == ("stop_loss", 1)
    assert trade.entry_price == 100
    assert trade.exit_price == Decimal("99.4") * Decimal("0.9999")


def test_a_market_that_opens_beyond_the_price_refuses_the_post_only_entry() -> None:
    result, _ = play(series_of([*quiet(), *quiet(99.8, 3)]), BUY, MAKER)
    assert result.trades == []


def test_what_does_not_fill_in_time_is_taken_at_the_next_open() -> None:
    series = series_of([*quiet(), STILL, (100.3, 100.4, 100.2, 100.3), *quiet(100.3, 2)])
    result, _ = play(series, BUY, THEN_TAKER)
    entry = result.fills[0].fill
    assert (entry.price, entry.is_taker) == (Decimal("100.3") * Decimal("1.0001"), True)
    assert entry.time_ms == int(series.open_ms[LAST + 2])
    assert result.trades[0].bars_held == 3


def test_an_entry_may_wait_several_bars() -> None:
    rows = [STILL, STILL, (100.1, 100.1, 99.95, 100.0), *quiet(100.0, 2)]
    waits = rules_for_tests(entry_style="maker", maker_timeout_bars=3)
    result, _ = play(series_of([*quiet(), *rows]), BUY, waits)
    assert result.trades[0].entry_price == 100
    assert play(series_of([*quiet(), *rows]), BUY, MAKER)[0].trades == []


def test_an_entry_never_outlives_its_series() -> None:
    """Resting over a gap would fill at a price from before it."""
    rows = [STILL, (100.0, 100.0, 90.0, 95.0), *quiet(95.0, 2)]
    waits = rules_for_tests(entry_style="maker", maker_timeout_bars=5)
    result, core = play(series_of([*quiet(), *rows], skip={QUIET_BARS + 1: 10}), BUY, waits)
    assert result.trades == []
    assert core.blotter.live(Coin("BTC")) == []


def test_the_opposite_signal_takes_a_resting_entry_away() -> None:
    rows = [STILL, (100.0, 100.2, 99.0, 99.1), *quiet(99.1, 2)]
    waits = rules_for_tests(entry_style="maker", maker_timeout_bars=5)
    left_alone, _ = play(series_of([*quiet(), *rows]), BUY, waits)
    assert [trade.side for trade in left_alone.trades] == [Side.BUY]
    taken_away, _ = play(series_of([*quiet(), *rows]), {**BUY, LAST + 1: Action.SELL}, waits)
    assert taken_away.trades == []


def test_while_an_entry_rests_the_same_signal_adds_nothing() -> None:
    rows = [STILL, STILL, (100.1, 100.1, 99.95, 100.0), *quiet(100.0, 2)]
    waits = rules_for_tests(entry_style="maker", maker_timeout_bars=4)
    actions = {LAST + n: Action.BUY for n in range(4)}
    result, _ = play(series_of([*quiet(), *rows]), actions, waits)
    assert len(result.fills) == 2
    held_back = [one for one in result.decisions if one.action is Action.BUY and one.outcome == "none"]
    assert held_back
    assert all(isinstance(gate, Gate) and gate.reason for one in held_back for gate in one.gates if not gate.ok)
