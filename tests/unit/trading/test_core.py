"""The decision core against the matching engine, on markets small enough to work out by hand.

Costs in every case: 0.045 % taker fee, 0.01 % slippage, notional 40 % of 10,000 USD.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from aml100.config.models import Params
from aml100.domain.events import (
    BarsClosed,
    CancelOrders,
    Command,
    CommandName,
    Decision,
    FillReceived,
    OrderChanged,
    PlaceOrders,
    RiskChanged,
    Tick,
    TradingState,
)
from aml100.domain.orders import Action, ExitReason, Fill, Order, OrderKind, OrderStatus, Side
from aml100.domain.units import MINUTE_MS
from aml100.market.series import FundingSeries
from aml100.trading.core import TradingCore
from aml100.trading.policies import Scheduled
from aml100.trading.rules import regime_thresholds
from aml100.wiring.backtests import training_settings
from tests.harness import BTC, INSTRUMENT, QUIET_BARS, START_MS, play, quiet, rules_for_tests, series_of

LAST = QUIET_BARS - 1  # the last quiet bar: decisions are taken on its close
SIZE = Decimal(40)  # 10,000 x 4 % x 10 / 100


def fee(price: Decimal) -> Decimal:
    """0.045 % of 40 coins, cut to six decimals."""
    return (price * SIZE * Decimal("0.00045")).quantize(Decimal("0.000001"), rounding="ROUND_DOWN")


def test_entry_fills_at_the_next_open_and_the_target_at_its_level() -> None:
    market = [*quiet(), (100.5, 100.9, 100.2, 100.6), (100.6, 103.0, 100.5, 102.0), (102.0, 102.0, 102.0, 102.0)]
    result, _ = play(series_of(market), {LAST: Action.BUY})
    entry = Decimal("100.5") * Decimal("1.0001")
    target = Decimal("102.32")  # 100.51005 x 1.018 = 102.3192309, five figures
    (trade,) = result.trades
    assert (trade.entry_price, trade.exit_price) == (entry, target)
    assert trade.exit_reason == ExitReason.TAKE_PROFIT
    assert trade.bars_held == 2
    assert trade.pnl == SIZE * (target - entry) - fee(entry) - fee(target)
    assert result.final_equity == 10_000 + trade.pnl


def test_stop_counts_where_a_bar_touches_both_and_pays_slippage() -> None:
    market = [*quiet(), (100.0, 103.0, 99.0, 100.0), (100.0, 100.0, 100.0, 100.0)]
    result, _ = play(series_of(market), {LAST: Action.BUY})
    stop = Decimal("99.410")  # 100.01 x 0.994 = 99.40994, five figures
    (trade,) = result.trades
    assert trade.exit_reason == ExitReason.STOP_LOSS
    assert trade.exit_price == stop * Decimal("0.9999")
    assert trade.bars_held == 1


def test_bar_that_opens_beyond_the_stop_fills_at_its_open() -> None:
    market = [*quiet(), (100.0, 100.2, 99.9, 100.0), (97.0, 98.0, 96.0, 97.5), (97.5, 97.5, 97.5, 97.5)]
    result, _ = play(series_of(market), {LAST: Action.BUY})
    (trade,) = result.trades
    assert trade.exit_price == Decimal("97") * Decimal("0.9999")
    assert trade.bars_held == 1, "an exit at an open does not count the bar it opens"
    assert result.fills[-1].fill.time_ms == START_MS + (QUIET_BARS + 1) * MINUTE_MS


def test_time_exit_is_decided_at_the_close_where_the_count_is_reached_and_filled_at_the_next_open() -> None:
    flat = [(100.0, 100.1, 99.9, 100.0)] * 6
    result, _ = play(series_of([*quiet(), *flat]), {LAST: Action.SELL}, rules_for_tests(max_hold_bars=3))
    (trade,) = result.trades
    assert (trade.exit_reason, trade.bars_held) == (ExitReason.TIME, 3)
    assert trade.exit_ms == START_MS + (QUIET_BARS + 3) * MINUTE_MS


def test_opposite_signal_closes_and_with_reverse_opens_the_other_side() -> None:
    flat = [(100.0, 100.1, 99.9, 100.0)] * 5
    series = series_of([*quiet(), *flat])
    actions = {LAST: Action.BUY, LAST + 2: Action.SELL}
    closing, _ = play(series, actions)
    assert [t.exit_reason for t in closing.trades] == [ExitReason.SIGNAL]
    reversing, _ = play(series, actions, rules_for_tests(reverse_on_opposite=True))
    assert [(t.side, t.exit_reason) for t in reversing.trades] == [
        (Side.BUY, ExitReason.SIGNAL),
        (Side.SELL, ExitReason.END),
    ]


def test_position_is_closed_at_the_last_close_before_a_gap_and_nothing_fills_after_it() -> None:
    after = [*quiet(101.0), *([(101.0, 101.1, 100.9, 101.0)] * 3)]
    rows = [*quiet(), (100.0, 100.2, 99.9, 100.1), *after]
    series = series_of(rows, skip={QUIET_BARS + 1: 30})
    result, core = play(series, {LAST: Action.BUY, QUIET_BARS: Action.SELL})
    (trade,) = result.trades
    assert trade.exit_reason == ExitReason.END
    assert trade.exit_price == Decimal("100.1") * Decimal("0.9999")
    assert core.ledger.position(BTC).size == 0
    refused = next(d for d in result.decisions if d.bar_ms == int(series.open_ms[QUIET_BARS]))
    assert refused.outcome == "none"
    assert result.equity[-1].equity == result.final_equity


def test_decisions_begin_again_only_with_a_complete_window_after_a_gap() -> None:
    rows = [*quiet(), *quiet(100.0, 300)]
    series = series_of(rows, skip={QUIET_BARS: 30})
    result, _ = play(series, {})
    decided = {d.bar_ms for d in result.decisions}
    gap_ms = int(series.open_ms[QUIET_BARS])
    assert min(t for t in decided if t >= gap_ms) >= gap_ms + 60 * MINUTE_MS


def test_funding_is_paid_on_the_open_of_the_bar_at_the_hour_before_fills_there() -> None:
    hour = START_MS + QUIET_BARS * MINUTE_MS  # 240 minutes after midnight: a full hour
    rates = FundingSeries(BTC, np.array([hour, hour + 3_600_000]), np.array([0.001, 0.001]))
    flat = [(100.0, 100.1, 99.9, 100.0)] * 62
    result, _ = play(series_of([*quiet(), *flat]), {LAST: Action.BUY}, funding=rates)
    # Entered at the open of the first full hour: funding there came before the fill; the second hour is charged.
    assert result.trades[0].funding == Decimal("-4.000000")


def test_size_is_rounded_down_to_the_lot_and_refused_under_ten_dollars() -> None:
    market = series_of([*quiet(30_000.0), (30_000.0, 30_000.0, 30_000.0, 30_000.0)])
    result, _ = play(market, {LAST: Action.BUY})
    assert result.fills[0].fill.size == Decimal("0.13333")
    poor, _ = play(market, {LAST: Action.BUY}, deposit=Decimal(20))
    assert poor.fills == []
    gate = next(g for g in poor.decisions[-2].gates if not g.ok)
    assert gate.name == "size"


def test_breaker_flattens_and_pauses_and_hard_stop_halts_for_good() -> None:
    rules = rules_for_tests(stop_loss=Decimal(0), take_profit=Decimal(0), position_size=Decimal("0.1"))
    fall = [(100.0, 100.0, 96.0, 96.2)] * 1 + [(96.2, 96.2, 96.2, 96.2)] * 3
    result, core = play(series_of([*quiet(), *fall]), {LAST: Action.BUY, LAST + 3: Action.BUY}, rules)
    assert [t.exit_reason for t in result.trades] == [ExitReason.RISK]
    assert core.state.trading is TradingState.PAUSED
    deep = [(100.0, 100.0, 94.0, 94.0)] + [(94.0, 94.0, 94.0, 94.0)] * 3
    halted, core = play(series_of([*quiet(), *deep]), {LAST: Action.BUY}, rules)
    assert core.state.trading is TradingState.HALTED
    last = halted.decisions[-1]
    assert next(g.name for g in last.gates if not g.ok) == "halt"


def test_b2_every_closed_bar_with_a_complete_window_has_exactly_one_explained_decision() -> None:
    flat = [(100.0, 100.1, 99.9, 100.0)] * 20
    series = series_of([*quiet(), *flat])
    result, _ = play(series, {LAST: Action.BUY, LAST + 4: Action.BUY, LAST + 6: Action.SELL})
    bars = [d.bar_ms for d in result.decisions]
    assert len(bars) == len(set(bars))
    assert bars == list(range(bars[0], int(series.open_ms[-1]) + 1, MINUTE_MS))
    for decision in result.decisions:
        refusing = [g for g in decision.gates if not g.ok]
        assert (decision.outcome == "order") == (not refusing)


class Bench:
    """A core alone, its venue played by the test."""

    def __init__(self, core: TradingCore, now_ms: int) -> None:
        self.core = core
        self.now_ms = now_ms
        self.fills = 0

    def orders(self, effects: list[object], kind: OrderKind) -> list[Order]:
        return [o for e in effects if isinstance(e, PlaceOrders) for o in e.orders if o.kind is kind]

    def fill(self, order: Order, price: str, size: Decimal | None = None) -> list[object]:
        self.fills += 1
        one = Fill(
            BTC,
            order.side,
            Decimal(price),
            size or order.size,
            Decimal(0),
            self.now_ms,
            self.fills,
            1,
            order.cloid,
            True,
        )
        return list(self.core.process(FillReceived(one)))

    def say(self, order: Order, status: OrderStatus, reason: str = "") -> list[object]:
        return list(self.core.process(OrderChanged(order.cloid, status, 9, reason)))


@pytest.fixture
def opened() -> tuple[Bench, Order, Order, Order]:
    """A core that has just sent an entry with its stop and target."""
    series = series_of(quiet())
    core = TradingCore(
        {BTC: INSTRUMENT},
        rules_for_tests(),
        lambda coin: Scheduled("x", {int(series.open_ms[LAST]): Action.BUY}),
        salt="t",
    )
    core.ledger.deposit(Decimal(10_000), 0, "initial")
    core.begin(START_MS)
    for row in range(LAST):
        core.warm_up(series.bar(row))
    bar = series.bar(LAST)
    effects = core.process(BarsClosed(bar.end_ms, (bar,)))
    bench = Bench(core, bar.end_ms)
    (entry,) = bench.orders(list(effects), OrderKind.ENTRY)
    (stop,) = bench.orders(list(effects), OrderKind.STOP_LOSS)
    (target,) = bench.orders(list(effects), OrderKind.TAKE_PROFIT)
    return bench, entry, stop, target


def test_d4_new_stop_is_placed_from_the_fill_before_the_old_one_is_cancelled(
    opened: tuple[Bench, Order, Order, Order],
) -> None:
    bench, entry, stop, _ = opened
    bench.say(stop, OrderStatus.RESTING)
    effects = bench.fill(entry, "100.5")
    (fresh,) = bench.orders(effects, OrderKind.STOP_LOSS)
    assert fresh.trigger_price == Decimal("99.897")
    assert not [e for e in effects if isinstance(e, CancelOrders)]
    effects = bench.say(fresh, OrderStatus.RESTING)
    (cancel,) = [e for e in effects if isinstance(e, CancelOrders)]
    assert cancel.orders == ((BTC, stop.cloid),)


def test_b1_partial_fills_resize_the_stop(opened: tuple[Bench, Order, Order, Order]) -> None:
    bench, entry, stop, _ = opened
    bench.say(stop, OrderStatus.RESTING)
    effects = bench.fill(entry, "100", Decimal(15))
    (fresh,) = bench.orders(effects, OrderKind.STOP_LOSS)
    assert fresh.size == 15
    bench.say(fresh, OrderStatus.RESTING)
    effects = bench.fill(entry, "100", Decimal(25))
    (larger,) = bench.orders(effects, OrderKind.STOP_LOSS)
    assert larger.size == 40
    assert bench.core.protection.resting_stop(BTC) is None
    bench.say(larger, OrderStatus.RESTING)
    assert bench.core.protection.resting_stop(BTC) is not None


def test_b1_a_dropped_stop_is_placed_again_and_after_repeated_refusal_the_position_is_closed(
    opened: tuple[Bench, Order, Order, Order],
) -> None:
    bench, entry, stop, _ = opened
    bench.say(stop, OrderStatus.RESTING)
    bench.fill(entry, "100")
    lost = bench.core.blotter.get(bench.core.coin(BTC).stop_cloid)
    assert lost is not None
    effects = bench.say(lost.order, OrderStatus.CANCELED, "reduceOnlyCanceled")
    (again,) = bench.orders(effects, OrderKind.STOP_LOSS)
    effects = bench.say(again, OrderStatus.REJECTED, "Invalid TP/SL price.")
    (third,) = bench.orders(effects, OrderKind.STOP_LOSS)
    effects = bench.say(third, OrderStatus.REJECTED, "Invalid TP/SL price.")
    assert any(isinstance(e, RiskChanged) and e.guard == "protection" for e in effects)
    effects = list(bench.core.process(Tick(bench.now_ms, 1.0)))
    (out,) = bench.orders(effects, OrderKind.EXIT)
    assert (out.side, out.size, out.reduce_only, out.reason) == (Side.SELL, SIZE, True, "risk")


def test_b1_a_stop_never_seen_resting_is_replaced_after_the_deadline_then_the_position_is_closed(
    opened: tuple[Bench, Order, Order, Order],
) -> None:
    bench, entry, _, _ = opened
    bench.fill(entry, "100")
    assert not bench.orders(list(bench.core.process(Tick(bench.now_ms, 100.0))), OrderKind.STOP_LOSS)
    effects = list(bench.core.process(Tick(bench.now_ms, 105.5)))
    assert len(bench.orders(effects, OrderKind.STOP_LOSS)) == 1
    effects = list(bench.core.process(Tick(bench.now_ms, 110.5)))
    assert len(bench.orders(effects, OrderKind.EXIT)) == 1


def test_an_exit_whose_fill_is_on_its_way_is_not_sent_twice_by_the_first_tick_either(
    opened: tuple[Bench, Order, Order, Order],
) -> None:
    """The answer says filled, the fill comes by another line; the clock of the deadlines begins with the first tick."""
    bench, entry, stop, _ = opened
    bench.say(stop, OrderStatus.RESTING)
    bench.fill(entry, "100")
    flatten = list(bench.core.process(Command(CommandName.FLATTEN, "tester", bench.now_ms)))
    (out,) = bench.orders(flatten, OrderKind.EXIT)
    bench.say(out, OrderStatus.FILLED)
    assert not bench.orders(list(bench.core.process(Tick(bench.now_ms, 5_000.0))), OrderKind.EXIT)
    assert not bench.orders(list(bench.core.process(Tick(bench.now_ms, 5_001.0))), OrderKind.EXIT)
    assert len(bench.orders(list(bench.core.process(Tick(bench.now_ms, 5_002.5))), OrderKind.EXIT)) == 1


def test_halt_closes_and_stays_and_d13_nothing_opens_after_it(opened: tuple[Bench, Order, Order, Order]) -> None:
    bench, entry, stop, _ = opened
    bench.say(stop, OrderStatus.RESTING)
    bench.fill(entry, "100")
    effects = list(bench.core.process(Command(CommandName.HALT, "test", bench.now_ms)))
    (out,) = bench.orders(effects, OrderKind.EXIT)
    effects = bench.fill(out, "99.9")
    assert [e for e in effects if isinstance(e, CancelOrders)]
    restored = TradingCore(
        {BTC: INSTRUMENT},
        rules_for_tests(),
        lambda coin: Scheduled("x", {bench.now_ms: Action.BUY}),
        salt="t",
        state=bench.core.export_state(),
    )
    assert restored.state.trading is TradingState.HALTED
    row = series_of([(100.0, 100.0, 100.0, 100.0)], start_ms=bench.now_ms).bar(0)
    effects = list(restored.process(BarsClosed(row.end_ms, (row,))))
    (decision,) = [e for e in effects if isinstance(e, Decision)]
    assert (decision.outcome, decision.action) == ("none", Action.BUY)
    assert not [e for e in effects if isinstance(e, PlaceOrders)]


def test_d14_peak_and_day_start_survive_a_restart() -> None:
    flat = [(100.0, 100.5, 99.7, 100.2)] * 4
    _, core = play(series_of([*quiet(), *flat]), {LAST: Action.BUY})
    again = TradingCore(
        {BTC: INSTRUMENT}, rules_for_tests(), lambda c: Scheduled("x", {}), salt="t", state=core.export_state()
    )
    assert again.risk.state == core.risk.state
    assert again.ledger.book == core.ledger.book
    assert again.risk.state.peak > 0


def test_d2_state_saved_in_mid_trade_goes_on_like_the_uninterrupted_run() -> None:
    """The same bars through one core, and through a core that is saved and restored after every bar."""
    rng = np.random.default_rng(3)
    closes = 100 + np.cumsum(rng.normal(0, 0.15, 400))
    rows = [
        (float(round(a, 2)), float(round(max(a, b) + 0.1, 2)), float(round(min(a, b) - 0.1, 2)), float(round(b, 2)))
        for a, b in itertools.pairwise(closes)
    ]
    series = series_of(rows)
    rules = rules_for_tests()
    actions = {int(t): Action.BUY if n % 3 else Action.SELL for n, t in enumerate(series.open_ms[::7])}

    def core_of(state: bytes | None = None) -> TradingCore:
        return TradingCore({BTC: INSTRUMENT}, rules, lambda c: Scheduled("x", actions), salt="t", state=state)

    one, two = core_of(), core_of()
    for core in (one, two):
        core.ledger.deposit(Decimal(10_000), 0, "initial")
        core.begin(START_MS)
    for row in range(len(series)):
        bar = series.bar(row)
        event = BarsClosed(bar.end_ms, (bar,))
        assert one.process(event) == two.process(event)
        two = core_of(two.export_state())
    assert one.export_state() == two.export_state()
    assert replace(one.state.risk) == two.state.risk


def test_configured_regime_thresholds_reach_the_policys_row() -> None:
    """What counts as a trend is a matter of configuration, and the same for whoever computes features."""
    params = Params.model_validate({"model": {"regime_trend_pct": 0.0, "regime_trend_sigmas": 5.0}})
    regimes = regime_thresholds(params)
    assert (regimes.up_frac, regimes.scaled) == (0.0, 5.0)
    assert training_settings(params).regimes == regimes
    rising = [(100.0 + n / 100, 100.0 + n / 100, 100.0 + n / 100, 100.0 + n / 100) for n in range(300)]
    _, usual = play(series_of(rising), {})
    _, tight = play(series_of(rising), {}, rules_for_tests(regimes=regimes))
    assert (usual.coin(BTC).regime, tight.coin(BTC).regime) == ("range", "trend_up")
