"""The compiled kernel against a short exact reference written from SPEC section 6, which shares no line with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aml100.domain.units import HOUR_MS, Coin, decimal_from_float, floor_size, round_price, truncate_usd
from aml100.evaluation.fixed_signal import SignalResult, backtest_signal
from aml100.evaluation.kernel import (
    EXIT_REASONS,
    STEP_DTYPE,
    KernelRules,
    Market,
    counterfactual,
    flat_positions,
    step_batch,
)
from aml100.market.series import BarSeries, FundingSeries

ONE = Decimal(1)
ZERO = Decimal(0)


@dataclass
class Held:
    side: int
    size: Decimal
    entry: Decimal
    stop: Decimal | None
    target: Decimal | None
    bars: int = 0
    row: int = 0
    fees: Decimal = ZERO
    funding: Decimal = ZERO


@dataclass
class Closed:
    entry_row: int
    exit_row: int
    side: int
    entry: Decimal
    exit: Decimal
    size: Decimal
    net: Decimal
    fees: Decimal
    funding: Decimal
    bars: int
    reason: str


@dataclass
class Reference:
    """An account over one series. `rounded` False: no lots, no truncation, no minimum (the unit accounting)."""

    series: BarSeries
    rates: dict[int, Decimal]
    rules: KernelRules
    rounded: bool = True
    balance: Decimal = Decimal(10_000)
    held: Held | None = None
    equity: list[Decimal] = field(default_factory=list)
    trades: list[Closed] = field(default_factory=list)

    def money(self, amount: Decimal) -> Decimal:
        return truncate_usd(amount) if self.rounded else amount

    def exact(self, name: str) -> Decimal:
        return decimal_from_float(getattr(self.rules, name))

    def leave(self, row: int, level: Decimal, slippage: Decimal, reason: str) -> None:
        held = self.held
        assert held is not None
        price = level * (ONE - held.side * slippage)
        fee = self.money(price * held.size * self.exact("taker_fee"))
        realised = held.side * held.size * (price - held.entry)
        self.balance += realised - fee
        fees = -held.fees - fee
        net = realised + fees + held.funding
        self.trades.append(
            Closed(held.row, row, held.side, held.entry, price, held.size, net, fees, held.funding, held.bars, reason)
        )
        self.held = None

    def enter(self, row: int, side: int, size: Decimal, level: Decimal, close: Decimal) -> None:
        price = level * (ONE + side * self.exact("slippage"))
        fee = self.money(price * size * self.exact("taker_fee"))
        self.balance -= fee
        places = None if self.rules.px_decimals < 0 else self.rules.px_decimals
        stop_loss, take_profit = self.exact("stop_loss"), self.exact("take_profit")
        stop = round_price(price * (ONE - side * stop_loss), places) if stop_loss else None
        target = round_price(price * (ONE + side * take_profit), places) if take_profit else None
        if stop is not None and side * (level - stop) <= 0:  # the venue takes none that the market has reached
            stop = round_price(close * (ONE - side * stop_loss), places)
        if target is not None and side * (target - level) <= 0:
            target = round_price(close * (ONE + side * take_profit), places)
        self.held = Held(side, size, price, stop, target, row=row, fees=fee)

    def play(self, row: int, bar_open: Decimal, high: Decimal, low: Decimal) -> None:
        held = self.held
        assert held is not None
        held.bars += 1
        long = held.side > 0
        if held.stop is not None and (low <= held.stop if long else high >= held.stop):
            beyond = bar_open <= held.stop if long else bar_open >= held.stop
            held.bars -= beyond
            self.leave(row, bar_open if beyond else held.stop, self.exact("slippage"), "stop_loss")
        elif held.target is not None and (high >= held.target if long else low <= held.target):
            self.leave(row, held.target, ZERO, "take_profit")

    def size(self, equity: Decimal, close: Decimal, multiplier: Decimal) -> Decimal:
        notional = equity * self.exact("notional_frac") * multiplier
        if not self.rounded:
            return notional / close
        size = floor_size(notional / close, self.rules.sz_decimals)
        return size if size * close >= 10 else ZERO

    def run(self, actions: npt.NDArray[np.int8], start: int, confidence: npt.NDArray[np.float64] | None) -> Reference:
        rules, interval = self.rules, self.series.interval_ms
        leaving, entering, size = "", 0, ZERO
        peak, paused_until, halted = self.balance, -1, False
        for row in range(len(self.series)):
            bar = self.series.bar(row)
            held = self.held
            if held is not None and bar.open_ms % HOUR_MS == 0 and bar.open_ms in self.rates:
                paid = self.money(-held.side * held.size * bar.open * self.rates[bar.open_ms])
                self.balance += paid
                held.funding += paid
            if leaving:
                self.leave(row, bar.open, self.exact("slippage"), leaving)
            if entering and size > 0:
                self.enter(row, entering, size, bar.open, self.series.bar(row - 1).close)
            if self.held is not None:
                self.play(row, bar.open, bar.high, bar.low)
            leaving, entering = "", 0
            follows = row + 1 < len(self.series) and self.series.open_ms[row + 1] == bar.open_ms + interval
            end_ms = bar.open_ms + interval
            if not follows:  # the close is marked and guarded before the position is closed at it
                held = self.held
                marked = self.balance + (held.side * held.size * (bar.close - held.entry) if held else ZERO)
                peak = max(peak, marked)
                if row >= start and (rules.breaker_dd or rules.hard_dd):
                    if 0 <= paused_until <= end_ms:
                        paused_until, peak = -1, marked
                    fallen = ONE - marked / peak
                    halted = halted or bool(rules.hard_dd and fallen >= self.exact("hard_dd"))
                    if rules.breaker_dd and fallen >= self.exact("breaker_dd") and paused_until < 0:
                        paused_until = end_ms + rules.breaker_pause_bars * interval
            if self.held is not None and not follows:
                self.leave(row, bar.close, self.exact("slippage"), "end")
            held = self.held
            equity = self.balance + (held.side * held.size * (bar.close - held.entry) if held else ZERO)
            self.equity.append(equity)
            peak = max(peak, equity)
            if row < start or not follows:
                continue
            action = int(actions[row]) if end_ms % (rules.decision_bars * interval) == 0 else 0
            wanted = {0: 0, 1: 1, 2: -1}[action]
            if held is None:
                entering = wanted
            elif rules.max_hold and held.bars >= rules.max_hold:
                leaving = "time"
            elif wanted == -held.side:
                leaving, entering = "signal", wanted if rules.reverse_on_opposite else 0
            if rules.breaker_dd or rules.hard_dd:
                if 0 <= paused_until <= end_ms:
                    paused_until, peak = -1, equity
                fallen = ONE - equity / peak
                halted = halted or bool(rules.hard_dd and fallen >= self.exact("hard_dd"))
                if rules.breaker_dd and fallen >= self.exact("breaker_dd") and paused_until < 0:
                    paused_until = end_ms + rules.breaker_pause_bars * interval
                if halted or paused_until >= 0:
                    leaving, entering = "risk" if held else "", 0
            if entering:
                multiplier = ONE if confidence is None else decimal_from_float(confidence[row])
                size = self.size(equity, bar.close, multiplier)
        return self


def wild_tape(seed: int) -> tuple[BarSeries, FundingSeries]:
    """A short series with wide ranges, jumps between bars, gaps and several full hours."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    interval = int(rng.choice([300_000, 900_000, 3_600_000]))
    price = float(rng.choice([1.2345, 250.0, 49_990.0, 104_321.0]))
    places = max(0, 4 - int(np.floor(np.log10(price))))
    width = int(rng.choice([20, 100, 300]))
    moves = rng.integers(-width, width + 1, n).cumsum() + round(price * 10**places)
    jumps = rng.integers(-width, width + 1, n) * (rng.random(n) < 0.3)
    closing = np.maximum(1, moves)
    opening = np.maximum(1, np.concatenate([closing[:1], closing[:-1]]) + jumps)
    high = np.maximum(opening, closing) + rng.integers(0, width, n)
    low = np.maximum(1, np.minimum(opening, closing) - rng.integers(0, width, n))
    columns = [ticks / 10**places for ticks in (opening, high, low, closing)]
    steps = rng.choice([1, 2, 7], n, p=[0.92, 0.05, 0.03])
    open_ms = 1_700_000_000_000 // HOUR_MS * HOUR_MS + interval * np.cumsum(steps)
    hours = np.arange(open_ms[0] // HOUR_MS, open_ms[-1] // HOUR_MS + 1, dtype=np.int64) * HOUR_MS
    listed = hours[:: int(rng.integers(1, 3))]
    rates = rng.integers(-400, 401, len(listed)) / 1e5
    series = BarSeries(Coin("X"), interval, "synthetic:test", open_ms, *columns, np.ones(n))
    return series, FundingSeries(Coin("X"), listed, rates)


seeds = st.integers(0, 2**32)
tapes = seeds.map(wild_tape)
rule_sets = st.builds(
    KernelRules,
    take_profit=st.sampled_from([0.0, 0.01, 0.018]),
    stop_loss=st.sampled_from([0.0, 0.006, 0.002]),
    taker_fee=st.sampled_from([0.0, 0.00045]),
    slippage=st.sampled_from([0.0, 0.0001, 0.003]),
    notional_frac=st.sampled_from([0.4, 2.0]),
    max_hold=st.sampled_from([0, 1, 4]),
    reverse_on_opposite=st.booleans(),
    decision_bars=st.sampled_from([1, 1, 3]),
    sz_decimals=st.sampled_from([0, 2, 5]),
    px_decimals=st.sampled_from([-1, 1]),
    breaker_dd=st.sampled_from([0.0, 0.0, 0.01]),
    hard_dd=st.sampled_from([0.0, 0.0, 0.015]),
    breaker_pause_bars=st.sampled_from([1, 6]),
)


def signal(seed: int, length: int) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).choice([0, 0, 1, 2], length).astype(np.int8)


def assert_same_results(result: SignalResult, reference: Reference) -> None:
    assert len(result.trades) == len(reference.trades)
    for ours, wanted in zip(result.trades, reference.trades, strict=True):
        assert (ours["entry_row"], ours["exit_row"]) == (wanted.entry_row, wanted.exit_row)
        assert (ours["side"], ours["bars_held"]) == (wanted.side, wanted.bars)
        assert EXIT_REASONS[ours["exit_reason"]] == wanted.reason
        prices = [ours["entry_price"], ours["exit_price"], ours["size"]]
        assert prices == pytest.approx([float(wanted.entry), float(wanted.exit), float(wanted.size)], rel=1e-9)
        amounts = [ours["net"], ours["fees"], ours["funding"]]
        expected = [float(wanted.net), float(wanted.fees), float(wanted.funding)]
        assert amounts == pytest.approx(expected, rel=1e-9, abs=1e-7)
    np.testing.assert_allclose(result.equity, [float(value) for value in reference.equity], rtol=1e-9)


def rates_of(funding: FundingSeries) -> dict[int, Decimal]:
    return {int(t): decimal_from_float(r) for t, r in zip(funding.time_ms, funding.rate, strict=True)}


PEAK_WHILE_FLAT = KernelRules(
    take_profit=0.0,
    stop_loss=0.0,
    taker_fee=0.0,
    slippage=0.0,
    notional_frac=2.0,
    max_hold=1,
    sz_decimals=0,
    hard_dd=0.015,
)


@settings(max_examples=300, deadline=None)
@given(tapes, rule_sets, seeds)
@example(wild_tape(432), PEAK_WHILE_FLAT, 432)  # the highest equity stands flat, on the last bar before a gap
def test_a_fixed_signal_makes_the_trades_and_the_equity_of_the_exact_reference(
    tape: tuple[BarSeries, FundingSeries], rules: KernelRules, seed: int
) -> None:
    series, funding = tape
    n = len(series)
    actions = signal(seed, n)
    start = seed % n
    confidence = np.random.default_rng(seed).choice([0.5, 1.0, 1.5], n)
    if rules.px_decimals == 1 and series.close.min() < 100:
        rules = replace(rules, px_decimals=4)
    reference = Reference(series, rates_of(funding), rules).run(actions, start, confidence)
    result = backtest_signal(Market.from_series(series, funding), rules, actions, start=start, confidence=confidence)
    assert_same_results(result, reference)


@settings(max_examples=200, deadline=None)
@given(tapes, rule_sets, seeds)
def test_unit_positions_keep_the_equity_of_an_account_without_rounding(
    tape: tuple[BarSeries, FundingSeries], rules: KernelRules, seed: int
) -> None:
    series, funding = tape
    n = len(series)
    rules = replace(rules, breaker_dd=0.0, hard_dd=0.0, px_decimals=-1, notional_frac=0.4)
    actions = signal(seed, n)
    reference = Reference(series, rates_of(funding), rules, rounded=False, balance=ONE).run(actions, 0, None)
    market, record = Market.from_series(series, funding), rules.as_record()
    states, steps = flat_positions(1), np.empty(1, STEP_DTYPE)
    closed = 0.0
    for t in range(n):
        step_batch(market, record, np.array([t]), states, actions[t : t + 1], steps)
        closed += steps["closed_net"][0]
        wanted = reference.equity[t] if steps["truncated"][0] else reference.equity[t + 1]
        if not steps["truncated"][0] and (t + 2 >= n or not market.bars["follows"][t + 2]):
            continue  # the reference has closed at this bar's close already; the kernel does so in its next step
        assert states["equity"][0] == pytest.approx(float(wanted), rel=1e-9)
        parts = steps["price"] + steps["slippage"] + steps["fees"] + steps["funding"]
        assert steps["net"][0] == pytest.approx(parts[0], abs=1e-12)
    assert states["equity"][0] == pytest.approx(float(reference.equity[-1]), rel=1e-9)
    on_notional = sum(trade.net / (trade.entry * trade.size) for trade in reference.trades)
    assert closed == pytest.approx(float(on_notional), rel=1e-9, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(tapes, rule_sets, seeds)
def test_every_counterfactual_is_the_step_that_the_action_would_have_taken(
    tape: tuple[BarSeries, FundingSeries], rules: KernelRules, seed: int
) -> None:
    series, funding = tape
    market, record = Market.from_series(series, funding), rules.as_record()
    states = flat_positions(4)
    rng = np.random.default_rng(seed)
    for t in range(len(series)):
        rows = np.full(4, t)
        before = states.copy()
        following, steps = counterfactual(market, record, rows, states)
        assert np.array_equal(states, before)
        for action in range(3):
            moved = states.copy()
            taken = step_batch(market, record, rows, moved, np.full(4, action, np.int8))
            assert np.array_equal(moved, following[:, action])
            assert np.array_equal(taken, steps[:, action])
        chosen = rng.integers(0, 3, 4)
        states = following[np.arange(4), chosen].copy()


def load(path: Path, rows: int) -> BarSeries:
    table = pq.read_table(path).slice(0, rows)
    columns = [np.asarray(table[name]) for name in ("open", "high", "low", "close", "volume")]
    times = np.asarray(table["time"])
    return BarSeries(Coin("BTC"), int(np.min(np.diff(times))), "file:x", times, *columns)


@pytest.mark.parametrize("reverse", [False, True])
def test_real_bars_and_real_funding_give_the_trades_of_the_reference(shared: Path, reverse: bool) -> None:
    series = load(shared / "data/market/hyperliquid_perp_BTC_5m.parquet", 8_000)
    table = pq.read_table(shared / "data/market/hyperliquid_funding_BTC.parquet")
    funding = FundingSeries(Coin("BTC"), np.asarray(table["time"]), np.asarray(table["rate"]))
    fast = np.convolve(series.close, np.ones(12) / 12, "full")[: len(series)]
    slow = np.convolve(series.close, np.ones(48) / 48, "full")[: len(series)]
    actions = np.where(np.arange(len(series)) % 3 == 0, np.where(fast > slow, 1, 2), 0).astype(np.int8)
    rules = KernelRules(max_hold=60, reverse_on_opposite=reverse, sz_decimals=5, px_decimals=1)
    reference = Reference(series, rates_of(funding), rules).run(actions, 100, None)
    assert len(reference.trades) > 200
    assert {trade.reason for trade in reference.trades} >= {"signal", "time", "take_profit", "stop_loss"}
    assert_same_results(backtest_signal(Market.from_series(series, funding), rules, actions, start=100), reference)
