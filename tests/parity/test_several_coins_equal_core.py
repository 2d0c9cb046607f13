"""Several coins on one account, compiled and through the decision core: the same trades and the same equity.

What a back-test of several coins is held against is played on the compiled path, so this makes the comparison fair.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml100.config.loading import load_settings
from aml100.config.models import Params
from aml100.domain.orders import Action
from aml100.domain.units import Coin
from aml100.evaluation.baselines import matched_chance, random_signals, signal_record
from aml100.evaluation.course import Actions, is_compiled, signal_rules
from aml100.evaluation.ground import Ground
from aml100.evaluation.metrics import RunRecord, turnover_of
from aml100.market.series import BarSeries, FundingSeries
from aml100.sim.staging import exchange_rules, hourly_rate, instruments_of
from aml100.storage.importing import read_bars
from aml100.trading.policies import Scheduled
from aml100.wiring.backtests import PolicyChoice, build_backtest, choose_baseline, simulated_rules
from tests.parity.tapes import jumpy
from tests.parity.test_options_equal_core import CAPPED, EITHER, GUARDED, MAKER, SCALED, TRAILING, together

WARMUP = 40


def market(seed: int) -> list[BarSeries]:
    """Three coins whose gaps, first and last bars lie at different times."""
    found = []
    for number, (coin, scale) in enumerate((("BTC", 1.0), ("ETH", 0.1), ("SOL", 0.01))):
        series, _ = jumpy(seed)
        other, _ = jumpy(seed + 10 + number)
        rows = min(len(series), len(other))
        columns = {n: np.round(getattr(other, n)[:rows] * scale, 3) for n in ("open", "high", "low", "close")}
        keep = np.ones(rows, np.bool_)
        keep[: 70 * number] = False
        keep[400 + 30 * number : 430 + 30 * number] = False
        keep[rows - 40 * (2 - number) :] = number == 2
        whole = BarSeries(
            Coin(coin), series.interval_ms, "test", series.open_ms[:rows], **columns, volume=other.volume[:rows]
        )
        found.append(
            replace(
                whole,
                **{n: getattr(whole, n)[keep] for n in ("open_ms", "open", "high", "low", "close", "volume")},
            )
        )
    return found


def drawn(ground: Ground, seed: int, calm: int) -> list[Actions]:
    rng = np.random.default_rng(seed)
    signals = []
    for course in ground.courses:
        wanted = rng.integers(0, calm, len(course.series))
        actions = np.where(wanted == 1, 1, np.where(wanted == 2, 2, 0)).astype(np.int8)
        actions[~course.decides] = 0
        signals.append(actions)
    return signals


def both(
    series: list[BarSeries], funding: dict[Coin, FundingSeries], params: Params, seed: int, calm: int
) -> tuple[RunRecord, RunRecord]:
    """(through the core, compiled)."""
    instruments = instruments_of([one.coin for one in series])
    rules = simulated_rules(params, choose_baseline("flat", 0), series[0].interval_ms, WARMUP)
    assert is_compiled(rules, list(instruments.values()))
    ground = Ground.lay(series, funding, float(hourly_rate(params) or 0), rules, WARMUP)
    signals = drawn(ground, seed, calm)
    policies = {}
    for one, actions in zip(series, signals, strict=True):
        times = zip(one.open_ms.tolist(), actions.tolist(), strict=True)
        policies[one.coin] = Scheduled("drawn", {time: Action(action) for time, action in times})
    settings = replace(load_settings(None, {}), params=params)
    choice = PolicyChoice("drawn", lambda coin: policies[coin])
    run = build_backtest(settings, series, funding, choice, warmup_bars=WARMUP)
    run.run()
    kernels = [signal_rules(rules, exchange_rules(params), instruments[one.coin]) for one in series]
    compiled = signal_record(ground, kernels, signals, 10_000.0, "drawn", "test", None)
    return run.record("drawn", None, "test", None), compiled


def assert_same(core: RunRecord, compiled: RunRecord) -> None:
    order = lambda one: (one.exit_ms, one.coin, one.entry_ms)  # noqa: E731
    for ours, theirs in zip(sorted(compiled.trades, key=order), sorted(core.trades, key=order), strict=True):
        for name in ("coin", "side", "entry_ms", "exit_ms", "exit_reason", "bars_held"):
            assert getattr(ours, name) == getattr(theirs, name), (name, ours, theirs)
        for name in ("entry_price", "exit_price", "size", "pnl", "fees", "funding"):
            wanted = pytest.approx(float(getattr(theirs, name)), rel=1e-9, abs=1e-7)
            assert float(getattr(ours, name)) == wanted, (name, ours, theirs)
    np.testing.assert_array_equal(compiled.open_ms, core.open_ms)
    np.testing.assert_allclose(compiled.equity, core.equity, rtol=1e-9)
    np.testing.assert_array_equal(compiled.exposed, core.exposed)
    assert compiled.funding_usd == pytest.approx(core.funding_usd, abs=1e-6)
    assert compiled.slippage_usd == pytest.approx(core.slippage_usd, rel=1e-9)


REVERSED: dict[str, Any] = {"trading": {"on_opposite": "reverse"}}
OPTIONS = {
    "plain": together(),
    "reverse": together(REVERSED),
    "guarded": together(GUARDED, SCALED),
    "capped": together(CAPPED),
    "maker": together(MAKER, REVERSED),
    "all": together(EITHER, TRAILING, GUARDED, {"trading": {"atr_stop_multiple": 1.3}}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_on_random_tapes(name: str) -> None:
    for seed in range(2):
        series = market(seed)
        core, compiled = both(series, {}, OPTIONS[name], seed, 7)
        assert_same(core, compiled)
        assert len({trade.coin for trade in core.trades}) == 3
        assert len(core.trades) > 60


def test_on_real_bars(shared: Path) -> None:
    folder = shared / "data" / "market"
    series = [read_bars(folder / f"hyperliquid_perp_{c}_15m.parquet", None).rows(0, 2_500) for c in ("BTC", "ETH")]
    core, compiled = both(series, {}, OPTIONS["guarded"], 3, 25)
    assert_same(core, compiled)
    assert len(core.trades) > 60


@pytest.mark.parametrize("coins", [1, 3])
@pytest.mark.parametrize("name", ["plain", "guarded"])
def test_chance_is_matched_in_trades_and_turnover(name: str, coins: int) -> None:
    """A policy that trades at 0.6 of the usual size is held against chance that does, breaker or not."""
    series, params = market(4)[:coins], OPTIONS[name]
    rules = simulated_rules(params, choose_baseline("flat", 0), series[0].interval_ms, WARMUP)
    instruments = instruments_of([one.coin for one in series])
    ground = Ground.lay(series, {}, 0.0, rules, WARMUP)
    kernels = [signal_rules(rules, exchange_rules(params), instruments[one.coin]) for one in series]
    policy = signal_record(ground, kernels, drawn(ground, 9, 20), 10_000.0, "drawn", "test", None, size=0.6)
    chance = matched_chance(ground, kernels, len(policy.trades), turnover_of(policy), 5, 10_000.0)
    played = ground.play(kernels, random_signals(ground, chance.share, 5), 10_000.0, chance.size)
    assert played.count == pytest.approx(len(policy.trades), rel=0.06)
    assert played.turnover == pytest.approx(turnover_of(policy), rel=0.06)
    assert chance.size < 0.9
