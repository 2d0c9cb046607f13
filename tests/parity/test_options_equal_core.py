"""Every option of section 6 and 9, alone and together: compiled account = decision core with its Decimal ledger.

Resting entries (their time-out, the taker after it, fees by liquidity), stops by ATR, trailing stops, sizes that shrink
with the drawdown or grow with confidence, breaker and hard stop: the same trades and equity on random tapes with gaps
and jumps, and on real bars with their funding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml100.config.loading import load_settings
from aml100.config.models import Params
from aml100.domain.orders import Action, OrderKind
from aml100.domain.units import Coin
from aml100.evaluation.backtest import BacktestResult
from aml100.evaluation.course import Course, fills_of, is_compiled, signal_rules, trades_of
from aml100.evaluation.fixed_signal import SignalResult
from aml100.market.series import BarSeries, FundingSeries
from aml100.sim.staging import exchange_rules, hourly_rate, instruments_of
from aml100.storage.funding_files import read_funding
from aml100.storage.importing import read_bars
from aml100.trading.policies import PolicyAnswer, Scheduled
from aml100.trading.sizing import confidence_multiplier
from aml100.wiring.backtests import PolicyChoice, build_backtest, simulated_rules
from tests.parity.tapes import jumpy

WARMUP = 40

MAKER: dict[str, Any] = {"trading": {"entry_style": "maker", "maker_timeout_bars": 2}}
EITHER: dict[str, Any] = {"trading": {"entry_style": "maker_then_taker", "maker_timeout_bars": 1}}
PATIENT: dict[str, Any] = {"trading": {"entry_style": "maker_then_taker", "maker_timeout_bars": 4}}
ATR: dict[str, Any] = {"trading": {"atr_stop_multiple": 1.3}}
NEAR: dict[str, Any] = {"trading": {"atr_stop_multiple": 0.02, "trailing_stop_pct": 0.4}}
TRAILING: dict[str, Any] = {"trading": {"trailing_stop_pct": 0.35}}
SCALED: dict[str, Any] = {"risk": {"drawdown_scaling": True, "drawdown_scaling_floor": 0.3}}
GUARDED: dict[str, Any] = {
    "risk": {"circuit_breaker_dd_pct": 0.6, "hard_stop_dd_pct": 6.0, "max_dd_pct": 7.0, "breaker_pause_minutes": 200}
}
UNGUARDED: dict[str, Any] = {"risk": {"circuit_breaker_dd_pct": 0.0, "hard_stop_dd_pct": 90.0, "max_dd_pct": 95.0}}
CAPPED: dict[str, Any] = {"risk": {"max_leverage": 0.4}}


def together(*parts: dict[str, Any]) -> Params:
    """The default parameters with what these change."""
    whole: dict[str, Any] = {"trading": {"max_hold_bars": 30}, "model": {"window_bars": 2}}
    for part in (UNGUARDED, *parts):
        for section, values in part.items():
            whole[section] = whole.get(section, {}) | values
    return Params.model_validate(whole)


OPTIONS = {
    "maker": together(MAKER),
    "maker_reverses": together(MAKER, {"trading": MAKER["trading"] | {"on_opposite": "reverse"}}),
    "maker_then_taker": together(EITHER),
    "patient_reverses": together(PATIENT, {"trading": PATIENT["trading"] | {"on_opposite": "reverse"}}),
    "capped_maker_then_taker": together(PATIENT, CAPPED),
    "atr": together(ATR),
    "stop_within_slippage": together(NEAR),
    "trailing": together(TRAILING),
    "scaled": together(SCALED, {"risk": SCALED["risk"] | {"hard_stop_dd_pct": 20.0}}),
    "breaker": together(GUARDED),
    "breaker_over_resting": together(PATIENT, GUARDED),
    "all": together(PATIENT, ATR, {"trading": {"trailing_stop_pct": 0.3}}, GUARDED, {"risk": SCALED["risk"]}),
    "all_every_third_bar": together(
        EITHER, ATR, TRAILING, GUARDED, SCALED, {"trading": {"decision_bars": 3, "on_opposite": "reverse"}}
    ),
}


class Sure(Scheduled):
    """Actions fixed beforehand, with Q values whose gap says how sure it is."""

    def __init__(self, actions: dict[int, Action], gaps: dict[int, float]) -> None:
        super().__init__("sure", actions)
        self._gaps = gaps

    def decide(self, position: npt.NDArray[np.float64], bar_ms: int) -> PolicyAnswer:
        action = super().decide(position, bar_ms).action
        q = [0.0, 0.0, 0.0]
        q[action] = self._gaps[bar_ms]
        return PolicyAnswer(action, (q[0], q[1], q[2]))


@dataclass
class Both:
    core: BacktestResult
    compiled: SignalResult
    series: BarSeries
    slippage: float


def played(series: BarSeries, funding: FundingSeries | None, params: Params, seed: int, calm: int = 6) -> Both:
    """The same random signal, with random confidence, through both."""
    rng = np.random.default_rng(seed)
    wanted = rng.integers(0, calm, len(series))
    actions = np.where(wanted == 1, 1, np.where(wanted == 2, 2, 0)).astype(np.int8)
    gaps = rng.uniform(0.001, 0.15, len(series))
    times = series.open_ms.tolist()
    by_time = {time: Action(action) for time, action in zip(times, actions.tolist(), strict=True)}
    sure = Sure(by_time, dict(zip(times, gaps.tolist(), strict=True)))
    choice = PolicyChoice("sure", lambda coin: sure)
    settings = replace(load_settings(None, {}), params=params)
    rates = {} if funding is None else {series.coin: funding}
    core = build_backtest(settings, [series], rates, choice, warmup_bars=WARMUP).run()
    rules = simulated_rules(params, choice, series.interval_ms, WARMUP)
    instrument = instruments_of([series.coin])[series.coin]
    assert is_compiled(rules, [instrument])
    course = Course.lay(series, funding, float(hourly_rate(params) or 0), rules, WARMUP)
    actions[~course.decides] = 0
    sizes = np.array([float(confidence_multiplier((0.0, 0.0, gap), True)) for gap in gaps])
    kernel = signal_rules(rules, exchange_rules(params), instrument)
    return Both(core, course.play(kernel, actions, 10_000.0, sizes), series, kernel.slippage)


def assert_same(both: Both) -> None:
    ours, theirs = trades_of(both.compiled.trades, both.series, both.slippage), both.core.trades
    for one, other in zip(ours, theirs, strict=False):
        for name in ("coin", "side", "entry_ms", "exit_ms", "exit_reason", "bars_held"):
            assert getattr(one, name) == getattr(other, name), (name, one, other)
        for name in ("entry_price", "exit_price", "size", "pnl", "fees", "funding"):
            close = pytest.approx(float(getattr(other, name)), rel=1e-9, abs=1e-7)
            assert float(getattr(one, name)) == close, (name, one, other)
    assert len(ours) == len(theirs)
    equity = [float(row.equity) for row in both.core.equity]
    np.testing.assert_allclose(both.compiled.equity, equity, rtol=1e-9)
    liquid = [(done.fill.time_ms, done.fill.is_taker) for done in both.core.fills]
    fills = fills_of(both.compiled.trades, both.series, both.slippage)
    assert sorted((fill.time_ms, fill.is_taker) for fill in fills) == sorted(liquid)


@pytest.mark.parametrize("name", OPTIONS)
def test_on_random_tapes_with_gaps_and_jumps(name: str) -> None:
    reasons: set[str] = set()
    makers = takers = 0
    for seed in range(3):
        series, funding = jumpy(seed)
        both = played(series, funding, OPTIONS[name], seed)
        assert_same(both)
        assert len(both.core.trades) > 15
        reasons |= {trade.exit_reason for trade in both.core.trades}
        entries = [done.fill for done in both.core.fills if done.kind is OrderKind.ENTRY]
        makers += sum(not fill.is_taker for fill in entries)
        takers += sum(fill.is_taker for fill in entries)
    style = OPTIONS[name].trading.entry_style
    assert reasons >= {"signal", "stop_loss"}
    assert ("risk" in reasons) == ("breaker" in name or name.startswith("all"))
    assert (makers > 0) == (style != "taker")
    assert (takers > 0) == (style != "maker")


@pytest.mark.parametrize("name", ["maker", "atr", "trailing", "all"])
def test_on_real_bars_with_their_funding(name: str, shared: Path) -> None:
    folder = shared / "data" / "market"
    series = read_bars(folder / "hyperliquid_perp_BTC_5m.parquet", None).rows(0, 5_000)
    funding = read_funding(folder / "hyperliquid_funding_BTC.parquet", Coin("BTC"))
    both = played(series, funding, OPTIONS[name], 7, calm=30)
    assert_same(both)
    assert len(both.core.trades) > 80


def test_scaling_shrinks_sizes_while_the_account_is_down() -> None:
    series, funding = jumpy(1)
    plain, scaled = (played(series, funding, OPTIONS[name], 1) for name in ("trailing", "scaled"))
    assert min(trade.size for trade in scaled.core.trades) < Decimal("0.9") * min(t.size for t in plain.core.trades)
