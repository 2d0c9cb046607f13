"""Resting entries, and sizes by status, over the wire and in the back-test: the same orders, fills and money."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from aml100.config.loading import Settings, load_settings
from aml100.domain.clock import ManualClock
from aml100.domain.events import FillRecorded, RiskChanged, TradeClosed
from aml100.domain.orders import OrderKind
from aml100.domain.units import Coin
from aml100.engine.listener import Listeners
from aml100.evaluation.backtest import BacktestResult
from aml100.market.series import BarSeries
from aml100.storage.reader import StateReader
from aml100.trading.policies import Random
from aml100.wiring.backtests import build_backtest, choose_baseline
from aml100.wiring.embedded import embedded_engine
from aml100.wiring.engines import RunPlan

BARS, WARMUP = 700, 300
START_MS = 1_700_006_400_000


def market() -> BarSeries:
    """Moves large enough for stops and targets, and a gap."""
    rng = np.random.default_rng(4)
    closes = 30_000 * np.exp(np.cumsum(rng.standard_t(4, BARS) * 0.0012))
    opens = np.concatenate([[30_000.0], closes[:-1]]) * (1 + rng.normal(0, 0.0001, BARS))
    spread = np.abs(rng.normal(0, 0.0006, (2, BARS)))
    times = START_MS + np.arange(BARS, dtype=np.int64) * 60_000
    times[500:] += 45 * 60_000
    opens, closes = opens.round(0), closes.round(0)
    high = (np.maximum(opens, closes) * (1 + spread[0])).round(0) + 1
    low = (np.minimum(opens, closes) * (1 - spread[1])).round(0) - 1
    return BarSeries(Coin("BTC"), 60_000, "made:test", times, opens, high, low, closes, rng.gamma(2.0, 5.0, BARS))


def settings_with(style: str, bars: int, **more: str) -> Settings:
    environ = {
        "AML100_TRADING__ENTRY_STYLE": style,
        "AML100_TRADING__MAKER_TIMEOUT_BARS": str(bars),
        "AML100_TRADING__ON_OPPOSITE": "reverse",
        "AML100_RISK__CIRCUIT_BREAKER_DD_PCT": "0",
        "AML100_RISK__HARD_STOP_DD_PCT": "0",
        "AML100_RISK__MAX_LOOP_LAG_MS": "0",
    }
    return load_settings(None, environ | more)


def back_tested(settings: Settings) -> BacktestResult:
    policy = choose_baseline("random", 3)
    return build_backtest(settings, [market()], {}, policy, warmup_bars=WARMUP).run()


class Heard:
    def __init__(self) -> None:
        self.fills: list[FillRecorded] = []
        self.trades: list[TradeClosed] = []
        self.told: list[str] = []

    def on_record(self, record: object) -> None:
        match record:
            case FillRecorded():
                self.fills.append(record)
            case TradeClosed():
                self.trades.append(record)
            case RiskChanged("entry"):
                self.told.append(record.reason)

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        """Only records count here."""


async def over_the_wire(settings: Settings, state: Path) -> Heard:
    plan = RunPlan(
        settings=settings, state=state, coins=(), series=(market(),), funding={}, process="", seed=3, speed=1e6,
        warmup_bars=WARMUP, policy="random", bundle=None, duration_s=None, max_cycles=None,
    )  # fmt: skip
    heard = Heard()
    async with embedded_engine(plan, Listeners(heard), ManualClock()) as (engine, desk):
        assert await engine.run(desk) == 0
    return heard


def shown(done: FillRecorded) -> tuple[object, ...]:
    """All but the client id, which goes with the account."""
    fill = done.fill
    return fill.time_ms, done.kind, fill.side, fill.price, fill.size, fill.fee, fill.is_taker, fill.oid, fill.tid


@pytest.mark.parametrize(("style", "bars"), [("maker", 2), ("maker_then_taker", 1), ("maker_then_taker", 3)])
async def test_resting_entries_fill_alike(
    style: str, bars: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Random, "every", 5)
    settings = settings_with(style, bars)
    tested = back_tested(settings)
    live = await over_the_wire(settings, tmp_path / "state.db")
    assert list(map(shown, live.fills)) == list(map(shown, tested.fills))
    assert live.trades == tested.trades
    assert len(live.trades) > 15
    makers = [done for done in tested.fills if done.kind is OrderKind.ENTRY and not done.fill.is_taker]
    takers = [done for done in tested.fills if done.kind is OrderKind.ENTRY and done.fill.is_taker]
    assert len(makers) > 8
    assert bool(takers) == bool(live.told) == (style == "maker_then_taker")
    with StateReader.read(tmp_path / "state.db", "venue") as reader:
        (point,) = reader.equity_curve()[-1:]
    assert point.equity == tested.final_equity


async def test_sizes_that_follow_the_status_are_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is judged every twenty minutes over the last six hours: sizes shrink once it is POOR."""
    monkeypatch.setattr(Random, "every", 3)
    sized = {
        "AML100_RISK__STATUS_SIZING": "true",
        "AML100_RISK__MAX_DD_PCT": "50",
        "AML100_OBJECTIVES__CYCLE_HOURS": "0.34",
        "AML100_OBJECTIVES__CYCLE_DAYS": "0.25",
    }
    settings = settings_with("taker", 1, **sized)
    plain, tested = back_tested(settings_with("taker", 1)), back_tested(settings)
    live = await over_the_wire(settings, tmp_path / "state.db")
    assert list(map(shown, live.fills)) == list(map(shown, tested.fills))
    assert live.trades == tested.trades
    sizes = [one.size / other.size for one, other in zip(tested.trades, plain.trades, strict=True)]
    assert sizes[0] == 1
    assert min(sizes) < Decimal("0.76")
