"""The rules of one run as exact numbers, taken once from the configuration.

The decision core, the back-test and the engine read these; nobody below them sees percent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from aml100.config.models import Params
from aml100.domain.units import INTERVALS, ZERO, Coin, decimal_from_float
from aml100.market.regime import DEFAULT_THRESHOLDS, RegimeThresholds


def regime_thresholds(params: Params) -> RegimeThresholds:
    """Where a trend begins, as configured: part of what the features mean."""
    model = params.model
    return RegimeThresholds(model.regime_trend_frac, model.regime_trend_frac, model.regime_trend_sigmas)


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """Section 9's limits. Fractions of equity, market seconds and counts; 0 switches a limit off.

    `live_guards` adds the guards of the wall clock, the book and the connection, which have no meaning in a
    back-test.
    """

    enabled: bool
    live_guards: bool
    breaker_dd: float
    hard_stop_dd: float
    breaker_pause_ms: int
    max_daily_loss: float
    cooldown_losses: int
    cooldown_ms: int
    max_daily_trades: int
    min_ms_between_trades: int
    max_position_notional: Decimal
    max_leverage: Decimal
    max_orders_per_minute: int
    price_collar: float
    max_loop_lag_ms: float
    max_clock_skew_ms: float
    max_rejects_in_row: int
    min_liquidation_distance: float
    scaling_floor: float = 1.0
    """Share of an entry's size that is left at the breaker's drawdown (the hard stop's where there is no breaker)."""


WIDEST_STOP: Final = 0.5
"""Fraction of the entry: a stop by ATR is never farther away."""


@dataclass(frozen=True, slots=True)
class TradingRules:
    """How positions are opened, sized, protected and closed. Fractions; 0 switches TP, SL or the time exit off.

    `order_band` bounds a taker order's price around the decision close: wide where the market is simulated (a fill at
    the next open must not depend on it), the configured slippage bound on a real venue.
    """

    interval_ms: int
    decision_bars: int
    warmup_bars: int
    window_bars: int
    take_profit: Decimal
    stop_loss: Decimal
    position_size: Decimal
    leverage: int
    max_hold_bars: int
    reverse_on_opposite: bool
    min_q_gap: float
    confidence_sizing: bool
    order_band: Decimal
    protection_s: float
    risk: RiskLimits
    atr_stop: float = 0.0
    """ATRs of the decision bar to the stop, in place of `stop_loss`."""
    trailing_stop: Decimal = ZERO
    """Distance of the stop from the best close since the entry, where that is tighter."""
    entry_style: str = "taker"
    maker_timeout_bars: int = 1
    is_live: bool = False
    """A market that moves by itself: positions count at its mark price, and resting entries join its book."""
    adopts_positions: bool = False
    """Positions that were there before us are taken over."""
    regimes: RegimeThresholds = DEFAULT_THRESHOLDS
    closing_only: frozenset[Coin] = frozenset()
    """Coins that an earlier run left something in and this one does not trade: what is open is managed, no more."""

    @staticmethod
    def from_params(
        params: Params,
        *,
        interval_ms: int | None = None,
        warmup_bars: int,
        live_guards: bool,
        order_band: Decimal,
        protection_s: float = 5.0,
        is_live: bool = False,
        adopts_positions: bool = False,
        closing_only: frozenset[Coin] = frozenset(),
    ) -> TradingRules:
        """The configured rules; `interval_ms` of an input file wins over `trading.interval`."""
        trading, risk = params.trading, params.risk
        return TradingRules(
            interval_ms=interval_ms or INTERVALS[trading.interval],
            decision_bars=trading.decision_bars,
            warmup_bars=warmup_bars,
            window_bars=params.model.window_bars,
            take_profit=trading.take_profit_frac,
            stop_loss=trading.stop_loss_frac,
            position_size=trading.position_size_frac,
            leverage=trading.leverage,
            max_hold_bars=trading.max_hold_bars,
            reverse_on_opposite=trading.on_opposite == "reverse",
            min_q_gap=trading.min_q_gap,
            confidence_sizing=trading.confidence_sizing,
            order_band=order_band,
            protection_s=protection_s,
            entry_style=trading.entry_style,
            maker_timeout_bars=trading.maker_timeout_bars,
            is_live=is_live,
            adopts_positions=adopts_positions,
            closing_only=closing_only,
            regimes=regime_thresholds(params),
            risk=RiskLimits(
                enabled=live_guards or params.backtest.risk_checks,
                live_guards=live_guards,
                breaker_dd=float(risk.circuit_breaker_dd_frac),
                hard_stop_dd=float(risk.hard_stop_dd_frac),
                breaker_pause_ms=int(risk.breaker_pause_minutes * 60_000),
                max_daily_loss=float(risk.max_daily_loss_frac),
                cooldown_losses=risk.cooldown_losses,
                cooldown_ms=int(risk.cooldown_minutes * 60_000),
                max_daily_trades=risk.max_daily_trades,
                min_ms_between_trades=int(risk.min_seconds_between_trades * 1000),
                max_position_notional=risk.max_position_notional,
                max_leverage=decimal_from_float(risk.max_leverage),
                max_orders_per_minute=risk.max_orders_per_minute,
                price_collar=float(risk.price_collar_frac),
                max_loop_lag_ms=risk.max_loop_lag_ms,
                max_clock_skew_ms=risk.max_clock_skew_ms,
                max_rejects_in_row=risk.max_rejects_in_row,
                min_liquidation_distance=float(risk.min_liquidation_distance_frac),
                scaling_floor=risk.drawdown_scaling_floor if risk.drawdown_scaling else 1.0,
            ),
            atr_stop=trading.atr_stop_multiple,
            trailing_stop=trading.trailing_stop_frac,
        )

    @property
    def has_stop(self) -> bool:
        """Positions of this run are never without a stop (GUARANTEES B1)."""
        return bool(self.stop_loss or self.atr_stop)

    def stop_distance(self, atr: float) -> Decimal:
        """Of a stop from its entry, a fraction: by `atr` (a fraction of the price too) where so configured, else fixed.

        0 is no stop; an unknown `atr` (0) falls back on the fixed distance.
        """
        by_atr = decimal_from_float(round(min(self.atr_stop * atr, WIDEST_STOP), 6))
        return by_atr or self.stop_loss

    def without_exits_and_risk(self) -> TradingRules:
        """For buy-and-hold: no TP, SL or time exit, and section 9 off."""
        return replace(
            self,
            take_profit=ZERO,
            stop_loss=ZERO,
            atr_stop=0.0,
            trailing_stop=ZERO,
            max_hold_bars=0,
            risk=replace(self.risk, enabled=False, live_guards=False),
        )
