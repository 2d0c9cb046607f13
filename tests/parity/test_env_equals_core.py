"""The environment takes the trades of the decision core and its Decimal ledger, one by one (SPEC section 6).

The same actions go through `PerpEnv` and through the core with the matching engine of the simulated venue. The core
has money, lots and fees to the millionth; the environment has positions of one unit, without any of these. So what
happened, when, at which price and why must be the same, and the return of each trade but for the lots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml100.domain.market import instrument_for
from aml100.domain.orders import Action, Side
from aml100.evaluation.backtest import Backtest
from aml100.evaluation.kernel import EXIT_REASONS, KernelRules
from aml100.learning.env import PerpEnv
from aml100.learning.reward import RewardConfig, Shaping
from aml100.market.series import BarSeries, FundingSeries
from aml100.sim.exchange import Exchange, ExchangeRules
from aml100.sim.scenario import Tape
from aml100.storage.funding_files import read_funding
from aml100.storage.importing import read_bars
from aml100.trading.core import TradingCore
from aml100.trading.policies import Scheduled
from tests.harness import rules_for_tests
from tests.parity.tapes import jumpy

DEPOSIT = Decimal(10_000_000)  # so large that a lot is nothing
Actions = npt.NDArray[np.int8]


@dataclass
class Trade:
    side: int
    entry_ms: int
    entry: float
    exit: float
    reason: str
    bars: int
    on_notional: float
    funding: float


def through_core(series: BarSeries, funding: FundingSeries, actions: Actions, **rules: Any) -> list[Trade]:
    instrument = instrument_for(series.coin)
    by_time = {int(series.open_ms[row]): Action(int(action)) for row, action in enumerate(actions)}
    unguarded = replace(rules_for_tests().risk, enabled=False)
    changed = rules_for_tests(interval_ms=series.interval_ms, **({"risk": unguarded} | rules))
    core = TradingCore({series.coin: instrument}, changed, lambda coin: Scheduled("scheduled", by_time), salt="test")
    costs = ExchangeRules(Decimal("0.00045"), Decimal("0.00015"), Decimal("0.0001"))
    tape = Tape([series], funding={series.coin: funding})
    result = Backtest(core, Exchange([instrument], costs), tape, warmup_bars=0, deposit=DEPOSIT).run()
    return [
        Trade(
            side=1 if trade.side is Side.BUY else -1,
            entry_ms=trade.entry_ms,
            entry=float(trade.entry_price),
            exit=float(trade.exit_price),
            reason=trade.exit_reason,
            bars=trade.bars_held,
            on_notional=float(trade.pnl / (trade.entry_price * trade.size)),
            funding=float(trade.funding / (trade.entry_price * trade.size)),
        )
        for trade in result.trades
    ]


def through_env(series: BarSeries, funding: FundingSeries, actions: Actions, rules: KernelRules) -> list[Trade]:
    """Every contiguous stretch is an episode; a trade is read off the state before and the step that ended it."""
    env = PerpEnv(
        series, window=1, funding=funding, rules=rules, reward=RewardConfig(shaping=Shaping.PURE, pnl_scale=1.0)
    )
    trades: list[Trade] = []
    starts = env.arena.starts.tolist()
    row = starts[0]
    while True:
        env.reset(options={"row": row})
        entry_ms = 0
        truncated = False
        while not truncated:
            before = env.state
            _, _, terminated, truncated, _ = env.step(int(actions[row]))
            assert not terminated
            step, after = env.last_step, env.state
            if step["exit_reason"][0]:
                held = before if before["side"][0] else after
                entered_and_left = not before["side"][0]
                opened_ms = int(series.open_ms[row + 1]) if entered_and_left else entry_ms
                side = int(step["entered"][0]) if entered_and_left else int(before["side"][0])
                trades.append(
                    Trade(
                        side=side,
                        entry_ms=opened_ms,
                        entry=float(held["entry"][0]),
                        exit=float("nan"),
                        reason=EXIT_REASONS[step["exit_reason"][0]],
                        bars=int(after["bars_held"][0]),
                        on_notional=float(step["closed_net"][0]),
                        funding=float(after["funding"][0]),
                    )
                )
            if step["entered"][0]:
                entry_ms = int(series.open_ms[row + 1])
            row += not truncated
        later = [start for start in starts if start > row]
        if not later:
            return trades
        row = later[0]


def assert_same(core: list[Trade], env: list[Trade], interval_ms: int = 0) -> None:
    """`interval_ms`: entries may rest, and one that is met inside its bar counts from the bar's end in the core."""
    assert len(core) == len(env)
    for theirs, ours in zip(core, env, strict=True):
        assert (ours.side, ours.reason) == (theirs.side, theirs.reason), (ours, theirs)
        assert theirs.entry_ms in (ours.entry_ms, ours.entry_ms + interval_ms)
        assert ours.bars == theirs.bars
        assert ours.entry == pytest.approx(theirs.entry, rel=1e-12)
        assert ours.on_notional == pytest.approx(theirs.on_notional, abs=2e-10)
        assert ours.funding == pytest.approx(theirs.funding, abs=2e-10)


def drawn(n: int, seed: int, calm: int = 12) -> Actions:
    draws = np.random.default_rng(seed).integers(0, calm, n)
    return np.where(draws == 1, 1, np.where(draws == 2, 2, 0)).astype(np.int8)


def kernel(px_decimals: int = 1, **changes: object) -> KernelRules:
    return KernelRules(sz_decimals=5, px_decimals=px_decimals, **changes)  # type: ignore[arg-type]


def test_on_real_bars_with_real_funding_every_trade_is_the_core_s(shared: Path) -> None:
    data = shared / "data" / "market"
    series = read_bars(data / "hyperliquid_perp_BTC_5m.parquet").rows(0, 9_000)
    funding = read_funding(data / "hyperliquid_funding_BTC.parquet", series.coin)
    actions = drawn(len(series), 1, calm=40)
    core = through_core(series, funding, actions, max_hold_bars=60)
    env = through_env(series, funding, actions, kernel(max_hold=60))
    assert_same(core, env)
    assert len(core) > 150
    assert {trade.reason for trade in core} >= {"signal", "take_profit", "stop_loss", "time"}
    assert sum(trade.funding != 0.0 for trade in core) > 50


@pytest.mark.parametrize("seed", range(6))
def test_on_random_tapes_with_gaps_jumps_and_eight_hourly_funding(seed: int) -> None:
    series, funding = jumpy(seed)
    actions = drawn(len(series), seed, calm=5)
    reverse, hold = seed % 2 == 1, (0, 7, 40)[seed % 3]
    core = through_core(series, funding, actions, max_hold_bars=hold, reverse_on_opposite=reverse)
    env = through_env(series, funding, actions, kernel(max_hold=hold, reverse_on_opposite=reverse))
    if reverse:  # a step may close one trade and open and close another: what it closed is told together
        core_total, env_total = sum(t.on_notional for t in core), sum(t.on_notional for t in env)
        assert env_total == pytest.approx(core_total, abs=1e-7)
        assert len(core) > 60
        return
    assert_same(core, env)
    assert {trade.reason for trade in core} >= {"signal", "stop_loss", "end"}


RESTS: dict[str, Any] = {"entry_style": "maker", "maker_timeout_bars": 2}
TAKES: dict[str, Any] = {"entry_style": "maker_then_taker", "maker_timeout_bars": 3}
GUARDS: dict[str, Any] = {"breaker_dd": 0.004, "hard_dd": 0.05, "breaker_pause_bars": 9}
OPTIONS: dict[str, dict[str, Any]] = {
    "maker": RESTS,
    "maker_then_taker": TAKES,
    "atr": {"atr_stop": 1.2},
    "trailing": {"trailing_stop": 0.003},
    "breaker": GUARDS,
    "all": TAKES | GUARDS | {"atr_stop": 1.5, "trailing_stop": 0.004, "scaling_floor": 0.4},
}


def as_core_rules(interval_ms: int, options: dict[str, Any]) -> dict[str, Any]:
    """The same options in the core's words."""
    limits: dict[str, Any] = {"enabled": "breaker_dd" in options}
    for ours, theirs in (("breaker_dd", "breaker_dd"), ("hard_dd", "hard_stop_dd"), ("scaling_floor", "scaling_floor")):
        limits[theirs] = options.get(ours, 1.0 if ours == "scaling_floor" else 0.0)
    limits["breaker_pause_ms"] = options.get("breaker_pause_bars", 0) * interval_ms
    known = {name: options[name] for name in ("entry_style", "maker_timeout_bars", "atr_stop") if name in options}
    if "trailing_stop" in options:
        known["trailing_stop"] = Decimal(str(options["trailing_stop"]))
    return known | {"risk": replace(rules_for_tests().risk, **limits)}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("seed", [0, 4])
def test_with_each_option_and_all_together(name: str, seed: int) -> None:
    options = OPTIONS[name]
    series, funding = jumpy(seed)
    if "breaker_dd" in options:  # each stretch is an account of its own in the environment: no pause reaches over a gap
        series = series.rows(310, 615)
    actions = drawn(len(series), seed, calm=5)
    core = through_core(series, funding, actions, max_hold_bars=20, **as_core_rules(series.interval_ms, options))
    env = through_env(series, funding, actions, kernel(max_hold=20, maker_fee=0.00015, **options))
    assert_same(core, env, series.interval_ms if "entry_style" in options else 0)
    assert len(core) > 20
    assert ("risk" in {trade.reason for trade in core}) == ("breaker_dd" in options)
