"""A frozen market day for the console, and a desk to watch it from."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from textual.pilot import Pilot

from aml100.control.protocol import (
    ActionCount,
    AlertView,
    BudgetView,
    DecisionView,
    EvidenceView,
    FeedView,
    GateView,
    LogLine,
    ModelView,
    ObjectiveView,
    OpenOrderView,
    PerformanceView,
    PhaseView,
    PositionView,
    RiskView,
    ShadowView,
    Snapshot,
    TradeView,
    TrainingView,
)
from aml100.domain.clock import ManualClock
from aml100.tui.app import ConsoleApp
from aml100.tui.source import FakeSource

NOON_MS = 1_751_284_925_000  # 2025-06-30 12:02:05 UTC


def wave(points: int, base: float, swing: float) -> tuple[tuple[int, float], ...]:
    """A made-up curve with two periods and a drift."""
    return tuple(
        (
            NOON_MS - (points - at) * 60_000,
            base + swing * (math.sin(at / 17) + 0.35 * math.sin(at / 3.3) + at / points * 1.6),
        )
        for at in range(points)
    )


GATES = (
    GateView("halt", True, ""),
    GateView("feed", True, ""),
    GateView("min_q_gap", False, "gap 0.0112 is under 0.0500"),
    GateView("daily_loss", True, ""),
)
DECISIONS = tuple(
    DecisionView(
        coin="BTC",
        bar_ms=NOON_MS - 5_000 - at * 60_000,
        action=("HOLD", "SELL", "HOLD", "BUY")[at % 4],
        q=(0.0312 - at / 500, -0.0041, 0.0427 - at / 300),
        confidence=0.42,
        regime="trend_up",
        outcome="order" if at % 4 == 3 else "none",
        why=(
            "kept: in position, target 66,170.5",
            "no entry: gap 0.0112 is under 0.0500",
            "kept: flat, best action is to wait",
            "bought 0.01230 at 65,000.5",
        )[at % 4],
        gates=GATES,
    )
    for at in range(24)
)

SNAPSHOT = Snapshot(
    seq=7,
    time_ms=NOON_MS,
    wall_ms=NOON_MS,
    state="trading",
    state_reason="in position",
    mode="SIM",
    venue="sim",
    execution="venue",
    origin="synthetic:regimes",
    speed=60.0,
    run_id="r-20250630-1",
    pid=4242,
    uptime_s=8000.0,
    phase=PhaseView(
        name="Foundation",
        number=1,
        cycles_done=1,
        cycles_required=3,
        objectives=(
            ObjectiveView("monthly_return_pct", 2.41, 2.0, True, "PROVISIONAL", "12 days of 38 needed", bound=-0.4),
            ObjectiveView("sharpe", None, 0.5, None, "UNKNOWN", "n/a (12 of 30)"),
            ObjectiveView("profit_factor", 1.1, 0.8, True, "PASS"),
            ObjectiveView("win_rate_pct", 38.5, 40.0, False, "FAIL", "10 of 26 trades"),
            ObjectiveView("max_drawdown_pct", 1.73, 5.0, True, "PASS"),
            ObjectiveView("trade_density_pct", 0.41, 0.3, True, "PASS"),
        ),
        cycle_number=2,
        cycle_progress=0.43,
        cycle_days=30.0,
        last_verdict="PROVISIONAL",
        last_source="realised",
        evidence=(
            EvidenceView("sharpe_bound", -0.31, 0.0, False, 26.0),
            EvidenceView("trades", 26.0, 100.0, False, 31.5),
            EvidenceView("drawdown_probability", 0.04, 0.1, True),
        ),
        days_to_go=31.5,
        luck=0.31,
        feasibility="2 %/month with drawdown under 5 % needs a true Sharpe ratio near 1.7",
    ),
    equity="10123.456789",
    balance="10110.20",
    initial_equity="10000",
    drawdown_pct=0.42,
    equity_curve=wave(240, 10_000.0, 40.0),
    price_curve=wave(240, 64_800.0, 250.0),
    price_coin="BTC",
    action_curve=tuple(
        ActionCount(NOON_MS - (60 - at) * 240_000, 20 - at % 7 - at % 3, at % 7, at % 3) for at in range(60)
    ),
    alerts=(
        AlertView(2, "feed_stale", "warning", "BTC activeAssetCtx is silent", NOON_MS - 60_000, NOON_MS - 30_000),
        AlertView(
            1,
            "order_rejected",
            "warning",
            "BTC entry: minimum value of 10 USD",
            NOON_MS - 7_200_000,
            NOON_MS - 7_100_000,
            3,
            False,
        ),
    ),
    performance=PerformanceView(
        trades=26,
        win_rate_pct=38.46,
        profit_factor=1.1,
        sharpe_note="n/a (12 of 30)",
        return_pct=1.23,
        max_drawdown_pct=1.73,
        fees_usd=31.2,
        funding_usd=-1.25,
        actions=(12_034, 441, 402),
    ),
    positions=(
        PositionView(
            coin="BTC",
            size="0.01230",
            entry_price="65000.5",
            mark="65100",
            unrealised="12.34",
            stop_price="64610.5",
            target_price="66170.5",
            stop_oid=1234567,
            protected=True,
            stop_age_s=2.14,
            bars_held=12,
            opened_ms=NOON_MS - 725_000,
            close_cost="0.72",
        ),
    ),
    open_orders=(
        OpenOrderView(
            "0x" + "a" * 32,
            1234567,
            "BTC",
            "sell",
            "stop_loss",
            "64610.5",
            "0.0123",
            "resting",
            True,
            NOON_MS - 725_000,
            "protects the position",
        ),
        OpenOrderView(
            "0x" + "b" * 32,
            1234568,
            "BTC",
            "sell",
            "take_profit",
            "66170.5",
            "0.0123",
            "resting",
            True,
            NOON_MS - 725_000,
        ),
    ),
    trades=tuple(
        TradeView(
            coin="BTC",
            side="buy" if at % 2 else "sell",
            entry_ms=NOON_MS - at * 3_600_000 - 1_260_000,
            exit_ms=NOON_MS - at * 3_600_000,
            entry_price="64800",
            exit_price="65100",
            size="0.0123",
            pnl=str(3.69 if at % 3 else -2.35),
            exit_reason="take_profit" if at % 3 else "stop_loss",
            fees="0.72",
            funding="-0.04",
            bars_held=21,
        )
        for at in range(26)
    ),
    decisions=DECISIONS,
    why_histogram=(("in position", 5210), ("no edge", 6733), ("min_q_gap", 91), ("entered", 843)),
    feeds=(
        FeedView("BTC", "candle", "LIVE", 400),
        FeedView("BTC", "l2Book", "LIVE", 120),
        FeedView("BTC", "activeAssetCtx", "LIVE", 900),
    ),
    risk=(
        RiskView("circuit_breaker", "ok", 0.42, 3.5, "%"),
        RiskView("hard_stop", "ok", 0.42, 4.5, "%"),
        RiskView("orders_per_minute", "ok", 3.0, 60.0, ""),
        RiskView("stale_data", "tripped", 31.0, 30.0, "s", "BTC candle silent"),
        RiskView("daily_loss", "ok", 0.0, 0.0, "%", "off"),
    ),
    training=TrainingView(
        state="running",
        epoch=12,
        epochs=500,
        loss=0.0123,
        validation=0.41,
        eta_s=187.0,
        seed=7,
        device="cpu",
        losses=tuple(0.02 + 0.05 / (1 + at) for at in range(12)),
        validations=tuple(-0.5 + at / 13 for at in range(12)),
    ),
    model=ModelView("m-0012-abcd", "m-0012", NOON_MS - 7_200_000, 0.83, "champion"),
    shadow=ShadowView("m-0013-beef", NOON_MS - 7_200_000, 120, 480, 3, 0.31, "m-0012-abcd", 0.12),
    models=(
        ModelView("m-0012-abcd", "m-0012", NOON_MS - 7_200_000, 0.83, "champion", "champion"),
        ModelView("m-0011-ffee", "m-0011", NOON_MS - 90_000_000, -0.12, "replaced by m-0012-abcd", "retired"),
    ),
    loop_lag_ms=3.2,
    order_latency_ms=1.8,
    budget=BudgetView(212, 1200, 340, 10_000),
    log=tuple(
        LogLine(NOON_MS - (60 - at) * 1000, "warning" if at % 20 == 3 else "info", f"bar {at} closed, nothing to do")
        for at in range(60)
    ),
)


def changed(**fields: Any) -> Snapshot:
    """The frozen snapshot with other fields."""
    return msgspec.structs.replace(SNAPSHOT, **fields)


def screen_text(app: ConsoleApp) -> str:
    """What stands on the terminal."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


class Desk:
    """A console on a fake engine at a frozen time; only `tick` repaints.

    Args:
        given: the snapshot the engine last sent.
        options: of ConsoleApp.
    """

    def __init__(self, given: Snapshot | None = SNAPSHOT, **options: Any) -> None:
        self.clock = ManualClock(NOON_MS, wall_s=1000.0)
        self.source = FakeSource(given, halt_file=options.pop("halt_file", None))
        self.app = ConsoleApp(self.source, clock=self.clock, fps=0.001, **options)

    @asynccontextmanager
    async def open(self, width: int = 80, height: int = 24) -> AsyncIterator[Pilot[int]]:
        """Run it on a terminal of that size."""
        async with self.app.run_test(size=(width, height)) as pilot:
            await pilot.pause()
            self.app.tick()
            await pilot.pause()
            yield pilot

    async def finish(self, pilot: Pilot[int], worker: str) -> None:
        """Wait for a worker of the console by its name, if it has not ended already."""
        await pilot.pause()
        for one in list(self.app.workers):
            if one.name == worker:
                await one.wait()

    async def settle(self, pilot: Pilot[int]) -> str:
        """Let messages arrive, repaint, and read the terminal."""
        await pilot.pause()
        self.app.tick()
        await pilot.pause()
        return screen_text(self.app)
