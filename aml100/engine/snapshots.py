"""Builds the frozen snapshot of the engine that screens, `status` and attached consoles are given."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aml100.control.alerts import AlertBook
from aml100.control.protocol import (
    BudgetView,
    FeedView,
    ModelView,
    OpenOrderView,
    PerformanceView,
    PositionView,
    RiskView,
    Snapshot,
    TrainingView,
)
from aml100.domain.clock import wall_ms
from aml100.domain.orders import Action
from aml100.domain.units import Coin, decimal_text
from aml100.engine.access import access_view
from aml100.engine.telemetry import order_view

if TYPE_CHECKING:
    from aml100.engine.runtime import Engine

ENTRY_DECIMALS = 8
"""Of an average entry price: finer than the finest tick, and no endless fraction."""

_FEED_WORDS = {"live": "LIVE", "stale": "STALE", "down": "OFFLINE"}


class SnapshotBuilder:
    """Numbers the snapshots of one engine."""

    def __init__(self, engine: Engine, alerts: AlertBook) -> None:
        self._engine = engine
        self._alerts = alerts
        self._seq = 0

    def build(self) -> Snapshot:
        """The engine as it stands, between two events."""
        engine, options, core = self._engine, self._engine.options, self._engine.core
        self._seq += 1
        telemetry, desk = engine.telemetry, engine.desk
        price_coin = self._price_coin()
        return Snapshot(
            seq=self._seq,
            time_ms=engine.clock.now_ms(),
            wall_ms=wall_ms(),
            state=core.state.trading.value,
            state_reason=core.state.reason,
            mode=options.mode,
            venue=options.venue,
            execution=options.execution,
            origin=options.origin,
            speed=options.speed,
            run_id=options.run_id,
            pid=os.getpid(),
            uptime_s=engine.clock.monotonic_s() - engine.started_s,
            phase=engine.autonomy.phase_view(engine.clock.now_ms()),
            equity=decimal_text(round(core.ledger.equity(), 6)),
            balance=decimal_text(round(core.ledger.balance, 6)),
            initial_equity=decimal_text(core.ledger.book.deposits),
            drawdown_pct=core.risk.state.drawdown * 100,
            equity_curve=telemetry.equity.thinned(),
            price_curve=tuple(telemetry.price.get(price_coin, ())),
            price_coin=price_coin,
            action_curve=telemetry.action_history.shown(),
            alerts=self._alerts.views(),
            performance=self._performance(),
            positions=tuple(self._position(coin) for coin in core.ledger.open_coins()),
            open_orders=tuple(self._orders()),
            recent_orders=telemetry.done_order_views(),
            trades=telemetry.trade_views(),
            decisions=telemetry.decision_views(),
            why_histogram=tuple(telemetry.why.most_common()),
            feeds=tuple(self._feeds()),
            risk=tuple(self._risk()),
            training=desk.view() if desk is not None else TrainingView(state="idle", reason="this policy needs none"),
            model=desk.model_view() if desk is not None else ModelView(id=None, name=options.policy),
            models=desk.model_views() if desk is not None else (),
            shadow=desk.shadow_view() if desk is not None else None,
            health=engine.autonomy.watch.health_views(),
            loop_lag_ms=engine.loop_lag_ms,
            order_latency_ms=engine.executor.latency_ms,
            budget=self._budget(),
            access=access_view(engine),
            log=tuple(telemetry.log),
        )

    def _price_coin(self) -> Coin:
        """The coin whose position is the oldest, else the first."""
        core = self._engine.core
        held = sorted(core.ledger.open_coins(), key=lambda coin: core.coin(coin).opened_ms)
        return held[0] if held else self._engine.options.coins[0]

    def _budget(self) -> BudgetView:
        rest = self._engine.rest
        used = rest.ip_budget.used(self._engine.clock.monotonic_s())
        return BudgetView(used, rest.ip_budget.limit, rest.action_budget.used, rest.action_budget.cap)

    def _performance(self) -> PerformanceView:
        telemetry, ledger = self._engine.telemetry, self._engine.core.ledger
        trades = list(telemetry.trades)
        wins = sum(1 for t in trades if t.pnl > 0)
        gains = float(sum(t.pnl for t in trades if t.pnl > 0))
        losses = float(-sum(t.pnl for t in trades if t.pnl < 0))
        start = float(ledger.book.deposits)
        sharpe = self._engine.cycles.sharpe()
        desk = self._engine.desk
        return PerformanceView(
            trades=len(trades),
            win_rate_pct=100 * wins / len(trades) if trades else None,
            profit_factor=gains / losses if losses else None,
            sharpe=sharpe.value,
            sharpe_low=sharpe.low,
            sharpe_high=sharpe.high,
            sharpe_note=sharpe.note,
            return_pct=(float(ledger.equity()) / start - 1) * 100 if start > 0 else 0.0,
            max_drawdown_pct=telemetry.max_drawdown * 100,
            fees_usd=telemetry.fees,
            funding_usd=float(sum(t.funding for t in trades)),
            actions=(telemetry.actions[Action.HOLD], telemetry.actions[Action.BUY], telemetry.actions[Action.SELL]),
            in_sample=desk is not None and desk.in_sample.until_ms > 0,
        )

    def _position(self, coin: Coin) -> PositionView:
        core = self._engine.core
        position, known = core.ledger.position(coin), core.coin(coin)
        stop = core.protection.resting_stop(coin)
        mark = core.ledger.book.marks.get(coin, position.entry)
        return PositionView(
            coin=coin,
            size=decimal_text(position.size),
            entry_price=decimal_text(round(position.entry, ENTRY_DECIMALS)),
            mark=decimal_text(mark),
            unrealised=f"{core.ledger.unrealised(coin):.2f}",
            stop_price=None if known.stop_price is None else decimal_text(known.stop_price),
            target_price=None if known.target_price is None else decimal_text(known.target_price),
            stop_oid=None if stop is None else stop.oid,
            protected=stop is not None,
            stop_age_s=None if stop is None else (core.state.now_ms - stop.order.created_ms) / 1000,
            bars_held=known.bars_held,
            opened_ms=known.opened_ms,
            close_cost=f"{abs(position.size) * mark * self._engine.options.close_cost_frac:.2f}",
        )

    def _orders(self) -> list[OpenOrderView]:
        blotter = self._engine.core.blotter
        return [order_view(t.order, t.oid, t.status, t.order.reason) for t in blotter.live_all()]

    def _feeds(self) -> list[FeedView]:
        board, now_s = self._engine.feeds, self._engine.clock.monotonic_s()
        return [
            FeedView(
                feed.coin,
                feed.channel,
                _FEED_WORDS[feed.state],
                board.age_ms(*key, now_s),
                feed.gap_bars,
                feed.out_of_order,
                self._engine.bars.revised(feed.coin) if feed.channel == "candle" else 0,
            )
            for key, feed in board.feeds.items()
        ]

    def _risk(self) -> list[RiskView]:
        engine, limits, state = self._engine, self._engine.core.rules.risk, self._engine.core.risk.state
        recent = engine.core.risk.orders_lately(max(engine.core.state.now_ms, engine.clock.now_ms()))
        day = float(state.day_start_equity)
        lost = 100 * (day - float(engine.core.ledger.equity())) / day if day else 0.0
        rows = [
            ("circuit_breaker", state.drawdown * 100, round(limits.breaker_dd * 100, 10), "%"),
            ("hard_stop", state.drawdown * 100, round(limits.hard_stop_dd * 100, 10), "%"),
            ("daily_loss", max(lost, 0.0), round(limits.max_daily_loss * 100, 10), "%"),
            ("daily_trades", float(state.trades_today), float(limits.max_daily_trades), ""),
            ("losses_in_row", float(state.losses_in_row), float(limits.cooldown_losses), ""),
            ("orders_per_minute", float(recent), float(limits.max_orders_per_minute), ""),
            ("rejects_in_row", float(state.rejects_in_row), float(limits.max_rejects_in_row), ""),
            ("loop_lag", engine.loop_lag_ms, float(limits.max_loop_lag_ms), "ms"),
        ]
        return [
            RiskView(
                guard,
                "off" if not limit or not limits.enabled else ("tripped" if value >= limit else "ok"),
                round(value, 4),
                limit or None,
                unit,
            )
            for guard, value, limit, unit in rows
        ]
