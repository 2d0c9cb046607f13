"""One coin's bars laid out for the compiled path: which of its bars decide, under which rules, and what fills made.

The compiled path makes the same trades as the decision core (tests/parity); `is_compiled` says under which rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from aml100.domain.events import TradeClosed
from aml100.domain.market import Instrument
from aml100.domain.orders import Fill, Side
from aml100.domain.units import decimal_from_float
from aml100.evaluation.fixed_signal import SignalResult, backtest_signal
from aml100.evaluation.kernel import EXIT_REASONS, KernelRules, Market
from aml100.evaluation.transition import END, STOP_LOSS, TAKE_PROFIT
from aml100.market.features import FEATURES, FeatureFrame, compute_features
from aml100.market.series import BarSeries, FundingSeries
from aml100.sim.exchange import ExchangeRules
from aml100.trading.rules import TradingRules

Actions: TypeAlias = npt.NDArray[np.int8]
Flags: TypeAlias = npt.NDArray[np.bool_]

_FEW_ORDERS: Final = 12
"""Orders a minute that no compiled run ever exceeds: entry, stop, target, both moved to the fill, exit."""


def is_compiled(rules: TradingRules, instruments: Sequence[Instrument]) -> bool:
    """The compiled path makes the core's trades under these rules: one coin, and none of the guards it lacks."""
    risk = rules.risk
    notional = float(rules.position_size) * rules.leverage
    quiet = not risk.enabled or not (
        risk.max_daily_loss
        or risk.cooldown_losses
        or risk.max_daily_trades
        or risk.min_ms_between_trades
        or 0 < risk.max_orders_per_minute < _FEW_ORDERS
    )
    plain = rules.entry_style == "taker" and not (
        rules.atr_stop or rules.trailing_stop or (risk.enabled and risk.scaling_floor < 1.0)
    )
    carried = float(rules.position_size) <= 0.5 and notional <= 1.0
    return len(instruments) == 1 and quiet and plain and carried and rules.leverage <= instruments[0].max_leverage


def signal_rules(rules: TradingRules, costs: ExchangeRules, instrument: Instrument) -> KernelRules:
    """The rules of a run as the compiled back-test takes them, breaker and hard stop included."""
    risk = rules.risk
    on = risk.enabled
    return KernelRules(
        take_profit=float(rules.take_profit),
        stop_loss=float(rules.stop_loss),
        taker_fee=float(costs.taker_fee_frac),
        slippage=float(costs.slippage_frac),
        notional_frac=float(rules.position_size * rules.leverage),
        max_hold=rules.max_hold_bars,
        reverse_on_opposite=rules.reverse_on_opposite,
        decision_bars=rules.decision_bars,
        sz_decimals=instrument.sz_decimals,
        px_decimals=-1 if instrument.px_decimals is None else instrument.px_decimals,
        max_leverage=float(risk.max_leverage) if on else 0.0,
        max_notional=float(risk.max_position_notional) if on else 0.0,
        breaker_dd=risk.breaker_dd if on else 0.0,
        hard_dd=risk.hard_stop_dd if on else 0.0,
        breaker_pause_bars=-(-risk.breaker_pause_ms // rules.interval_ms),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """One coin's bars with what is needed to play signals on them. `decides` bool [T]: a decision falls on this bar."""

    series: BarSeries
    market: Market
    frame: FeatureFrame
    decides: Flags
    warmup_bars: int

    @staticmethod
    def lay(
        series: BarSeries,
        funding: FundingSeries | None,
        hourly_rate: float,
        rules: TradingRules,
        warmup_bars: int,
    ) -> Course:
        """Decisions begin after the warm-up, and in each contiguous stretch with the first complete window.

        Args:
            funding: hourly rates; None: `hourly_rate` is charged at each full hour.
        """
        market = Market.from_series(series, funding, hourly_rate)
        frame = compute_features(series, funding, thresholds=rules.regimes)
        complete = np.zeros(len(series), np.int64)
        for start, stop in series.segments():
            complete[start:stop] = np.cumsum(frame.valid[start:stop])
        decides = complete >= max(rules.window_bars, 1)
        decides[:warmup_bars] = False
        decides &= market.bars["ordinal"] % rules.decision_bars == 0
        return Course(series, market, frame, decides, warmup_bars)

    def play(self, rules: KernelRules, actions: Actions, deposit: float) -> SignalResult:
        return backtest_signal(self.market, rules, actions, start=self.warmup_bars, initial_equity=deposit)

    def column(self, name: str) -> npt.NDArray[np.float64]:
        return self.frame.values[:, FEATURES.index(name)]


def _exit_ms(result: SignalResult, series: BarSeries, slippage: float) -> npt.NDArray[np.int64]:
    """Opens for exits at the open (a stop that the bar opens beyond too), else the bar's end."""
    trades = result.trades
    opens = series.open[trades["exit_row"]] * (1.0 - trades["side"] * slippage)
    at_open = (trades["exit_reason"] == STOP_LOSS) & np.isclose(trades["exit_price"], opens, rtol=1e-12, atol=0.0)
    inside = np.isin(trades["exit_reason"], (STOP_LOSS, TAKE_PROFIT, END)) & ~at_open
    return np.asarray(series.open_ms[trades["exit_row"]] + np.where(inside, series.interval_ms, 0))


def trades_of(result: SignalResult, series: BarSeries, slippage: float) -> list[TradeClosed]:
    """The round trips as the core reports them, money from float64."""
    exits = _exit_ms(result, series, slippage).tolist()
    return [
        TradeClosed(
            coin=series.coin,
            side=Side.BUY if trade["side"] > 0 else Side.SELL,
            entry_ms=int(series.open_ms[trade["entry_row"]]),
            entry_price=_money(trade["entry_price"]),
            exit_ms=exit_ms,
            exit_price=_money(trade["exit_price"]),
            size=_money(trade["size"]),
            pnl=_money(trade["net"]),
            fees=_money(-trade["fees"]),
            funding=_money(trade["funding"]),
            exit_reason=EXIT_REASONS[trade["exit_reason"]],
            bars_held=int(trade["bars_held"]),
        )
        for trade, exit_ms in zip(result.trades, exits, strict=True)
    ]


def fills_of(result: SignalResult, series: BarSeries, slippage: float) -> list[Fill]:
    """Entry and exit of each round trip."""
    fills: list[Fill] = []
    for trade, exit_ms in zip(result.trades, _exit_ms(result, series, slippage).tolist(), strict=True):
        side = Side.BUY if trade["side"] > 0 else Side.SELL
        entry_ms = int(series.open_ms[trade["entry_row"]])
        paid = -float(trade["entry_fee"])
        left = -float(trade["fees"]) - paid
        size = _money(trade["size"])
        for made, price, fee, time_ms in (
            (side, trade["entry_price"], paid, entry_ms),
            (side.opposite, trade["exit_price"], left, exit_ms),
        ):
            fills.append(
                Fill(series.coin, made, _money(price), size, _money(fee), time_ms, len(fills) + 1, 0, None, True)
            )
    return fills


def _money(value: float) -> Decimal:
    return decimal_from_float(float(value))
