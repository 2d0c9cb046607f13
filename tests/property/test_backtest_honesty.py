"""Nothing leaks from the future, nothing comes from nowhere, and no rule earns on shuffled returns."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aml100.config.loading import load_settings
from aml100.config.models import Params
from aml100.domain.events import TradeClosed
from aml100.domain.orders import Action, OrderKind
from aml100.domain.units import MINUTE_MS, ZERO, Coin
from aml100.evaluation.backtest import BacktestResult
from aml100.evaluation.baselines import random_signals, signal_of
from aml100.evaluation.course import Actions, Course, signal_rules
from aml100.evaluation.ground import Ground
from aml100.evaluation.kernel import KernelRules
from aml100.market.series import BarSeries
from aml100.sim.scenario import synthetic_series
from aml100.sim.staging import exchange_rules, instruments_of
from aml100.wiring.backtests import build_backtest, choose_baseline, simulated_rules
from tests.harness import QUIET_BARS, play, quiet, rules_for_tests, series_of

BTC = Coin("BTC")
MADE = synthetic_series("regimes", BTC, MINUTE_MS, 1_700_006_400_000, 1_600, 5, 60_000.0)
WARMUP = 400


OPTIONS = {
    "AML100_TRADING__ENTRY_STYLE": "maker_then_taker",
    "AML100_TRADING__MAKER_TIMEOUT_BARS": "2",
    "AML100_TRADING__TRAILING_STOP_PCT": "0.25",
    "AML100_TRADING__ATR_STOP_MULTIPLE": "3",
    "AML100_RISK__DRAWDOWN_SCALING": "true",
    "AML100_RISK__STATUS_SIZING": "true",
    "AML100_OBJECTIVES__CYCLE_DAYS": "0.25",
}


def run(series: BarSeries, name: str) -> BacktestResult:
    settled = load_settings(None, OPTIONS if name.endswith("options") else {})
    policy = choose_baseline(name.removesuffix(" options"), 4)
    return build_backtest(settled, [series], {}, policy, warmup_bars=WARMUP).run()


WHOLE = {name: run(MADE, name) for name in ("mean-reversion", "random", "mean-reversion options")}


def left_at_open(trade: TradeClosed, level: float) -> bool:
    """A trailing stop that the market opened beyond: it belongs to the bar that opens there."""
    return abs(float(trade.exit_price) / level - 1.0) <= 1.01e-4


@settings(max_examples=35, deadline=None)
@given(st.integers(WARMUP + 2, len(MADE) - 1), st.sampled_from(sorted(WHOLE)))
@example(WARMUP + 2, "random")
def test_truncating_at_any_bar_changes_no_earlier_trade_decision_or_equity(bars: int, name: str) -> None:
    short, whole = run(MADE.rows(0, bars), name), WHOLE[name]
    last_open, end_ms = int(MADE.open_ms[bars - 1]), int(MADE.open_ms[bars - 1]) + MINUTE_MS
    done = [trade for trade in short.trades if trade.exit_reason != "end"]
    inside = {"stop_loss", "take_profit"}
    earlier = [
        trade
        for trade in whole.trades
        if trade.exit_ms <= last_open or (trade.exit_ms == end_ms and trade.exit_reason in inside and trade in done)
    ]
    assert done == earlier
    missed = [trade for trade in whole.trades if trade.exit_ms == end_ms and trade.exit_reason in inside]
    assert all(trade in done or left_at_open(trade, MADE.open[bars]) for trade in missed)
    assert len(short.trades) - len(done) <= 1
    before = [one for one in whole.decisions if one.bar_ms < last_open]
    assert [one for one in short.decisions if one.bar_ms < last_open] == before
    assert short.equity[: bars - 1] == whole.equity[: bars - 1]


def test_the_options_make_trades_of_every_kind() -> None:
    made = WHOLE["mean-reversion options"]
    entries = [done.fill for done in made.fills if done.kind is OrderKind.ENTRY]
    assert len(made.trades) > 15
    assert {fill.is_taker for fill in entries} == {True, False}
    assert "stop_loss" in {trade.exit_reason for trade in made.trades}


wild = st.integers(0, 2**32)


@settings(max_examples=40, deadline=None)
@given(wild, st.booleans(), st.sampled_from(["0", "0.0001", "-0.0004"]))
def test_money_is_conserved_whatever_is_done(seed: int, reverse: bool, rate: str) -> None:
    """Deposits, realised profit, fees and funding make the balance, exactly; with the position's worth the equity."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(5, 150))
    closes = 100.0 * np.exp(np.cumsum(rng.standard_t(3, count) * 0.004))
    opens = np.concatenate([[100.0], closes[:-1]]) * np.exp(rng.normal(0, 0.001, count))
    high = np.maximum(opens, closes) * (1 + np.abs(rng.normal(0, 0.003, count)))
    low = np.minimum(opens, closes) * (1 - np.abs(rng.normal(0, 0.003, count)))
    rows = [tuple(row) for row in np.stack([opens, high, low, closes], axis=1).round(3).tolist()]
    skip = {QUIET_BARS + count // 2: 3} if seed % 3 == 0 else {}
    series = series_of([*quiet(), *rows], skip=skip)
    chosen = rng.choice([0, 0, 1, 2], count).tolist()
    actions = {QUIET_BARS - 1 + n: Action(a) for n, a in enumerate(chosen)}
    result, core = play(series, actions, rules_for_tests(reverse_on_opposite=reverse), hourly_rate=Decimal(rate))
    book = core.ledger.book
    assert book.positions == {}
    realised = sum((done.realised for done in result.fills), ZERO)
    fees = sum((done.fill.fee for done in result.fills), ZERO)
    funding = sum((trade.funding for trade in result.trades), ZERO)
    assert book.balance == 10_000 + realised - fees + funding
    assert result.final_equity == book.balance
    pnl = sum((trade.pnl for trade in result.trades), ZERO)
    assert abs(pnl - (book.balance - 10_000)) < Decimal("1e-18")
    assert len(result.equity) == len(series)
    assert sum(one.outcome == "order" for one in result.decisions) >= len(result.trades) // 2
    if rate == "0":
        assert funding == 0


# --- shuffled returns (D25) ---------------------------------------------------------------------------------------

FREE = KernelRules(taker_fee=0.0, slippage=0.0, sz_decimals=5, px_decimals=1)


def shuffled(series: BarSeries, seed: int) -> BarSeries:
    """The same bars in another order, each moved to where the one before ended: no past, the same returns."""
    order = np.random.default_rng(seed).permutation(len(series) - 1) + 1
    before = series.close[order - 1]
    moves = np.log(series.close[order] / before)
    start = series.close[0] * np.exp(np.concatenate([[0.0], np.cumsum(moves - moves.mean())[:-1]]))
    columns = {name: (getattr(series, name)[order] / before * start) for name in ("open", "high", "low", "close")}
    columns["close"] = start * np.exp(moves - moves.mean())
    columns["high"] = np.maximum.reduce([columns["high"], columns["close"], columns["open"]])
    columns["low"] = np.minimum.reduce([columns["low"], columns["close"], columns["open"]])
    return replace(series, open_ms=series.open_ms[1:], volume=series.volume[order], **columns)


def course_of(series: BarSeries) -> Course:
    rules = simulated_rules(Params(), choose_baseline("flat", 0), series.interval_ms, WARMUP)
    return Course.lay(series, None, 0.0, rules, WARMUP)


def edge(course: Course, actions: Actions) -> tuple[float, int]:
    """Standard errors by which the mean return of a trade, before costs, differs from nothing."""
    trades = course.play(FREE, actions, 10_000.0).trades
    returns = trades["net"] / (trades["size"] * trades["entry_price"])
    return float(returns.mean() / returns.std(ddof=1) * np.sqrt(len(returns))), len(returns)


REVERTING = synthetic_series("mean-reverting", BTC, MINUTE_MS, 1_700_006_400_000, 40_000, 3, 60_000.0)
RULES = ("momentum", "mean-reversion", "random", "buy-and-hold")


def actions_of(name: str, course: Course, seed: int) -> Actions:
    if name != "random":
        return signal_of(name, course)
    places = np.arange(len(course.series))[None, :]
    (actions,) = random_signals(Ground((course,), course.series.open_ms, places, WARMUP), 0.05, seed)
    return actions


def test_the_planted_edge_is_there_before_the_shuffle() -> None:
    course = course_of(REVERTING)
    found, count = edge(course, signal_of("mean-reversion", course))
    assert count > 200
    assert found > 5.0


@pytest.mark.parametrize("name", RULES)
def test_no_rule_earns_on_shuffled_returns_beyond_chance_d25(name: str) -> None:
    """Over several shuffles, before costs: the best that a fair game allows is chance, and chance is small."""
    scores = []
    for seed in range(6):
        course = course_of(shuffled(REVERTING, seed))
        found, count = edge(course, actions_of(name, course, seed))
        scores.append(found)
        assert count > 20
    assert np.mean(scores) * np.sqrt(len(scores)) < 3.0


def test_costs_make_every_rule_lose_on_shuffled_returns_d25() -> None:
    instrument = instruments_of([BTC])[BTC]
    rules = simulated_rules(Params(), choose_baseline("flat", 0), MINUTE_MS, WARMUP)
    costly = signal_rules(rules, exchange_rules(Params()), instrument)
    course = course_of(shuffled(REVERTING, 1))
    for name in ("momentum", "mean-reversion", "random"):
        assert course.play(costly, actions_of(name, course, 1), 10_000.0).equity[-1] < 10_000.0
