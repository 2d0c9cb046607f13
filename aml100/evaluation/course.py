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
from aml100.evaluation.kernel import EXIT_REASONS, KernelRules, Market, Records
from aml100.evaluation.transition import END, STOP_LOSS, TAKE_PROFIT, WIDEST_STOP
from aml100.market.features import FEATURES, FeatureFrame, compute_features
from aml100.market.series import BarSeries, Floats, FundingSeries
from aml100.sim.exchange import ExchangeRules
from aml100.trading.rules import TradingRules

Actions: TypeAlias = npt.NDArray[np.int8]
Flags: TypeAlias = npt.NDArray[np.bool_]

_FEW_ORDERS: Final = 12
"""Orders a minute of one coin that no compiled run exceeds: entry, stop, target, both moved to the fill, exit."""
_MOST: Final = 1.5
"""What confidence can make of an entry's size."""
_MARGIN: Final = 0.75
"""Share of the equity that all positions together may bind, so that no entry lacks margin."""
_BARE: Final = 1.5
_STOPPED: Final = 4.5
"""Notional of all positions as a multiple of the equity under which nothing is liquidated, without stops and with."""


def is_compiled(rules: TradingRules, instruments: Sequence[Instrument]) -> bool:
    """The compiled path makes the core's trades under these rules: it lacks the guards that count trades, losses or
    seconds, and it knows neither lack of margin nor liquidation."""
    risk, count = rules.risk, len(instruments)
    worth = float(rules.position_size) * rules.leverage * _MOST * count
    if risk.enabled and risk.max_leverage:
        worth = min(worth, float(risk.max_leverage))
    quiet = not risk.enabled or not (
        risk.max_daily_loss
        or risk.cooldown_losses
        or risk.max_daily_trades
        or risk.min_ms_between_trades
        or 0 < risk.max_orders_per_minute < _FEW_ORDERS * count
    )
    carried = float(rules.position_size) * _MOST * count <= _MARGIN
    carried &= worth <= (_STOPPED if rules.stop_loss else _BARE)
    least = min(one.max_leverage for one in instruments)
    if risk.enabled and worth:  # the gate of the liquidation distance never binds
        stop = WIDEST_STOP if rules.atr_stop else float(rules.stop_loss)
        needed = max(risk.min_liquidation_distance, stop)
        carried &= 1.0 / worth - 0.5 / least >= needed
    return quiet and carried and rules.leverage <= least


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
        maker_fee=float(costs.maker_fee_frac),
        entry_style=rules.entry_style,
        maker_timeout_bars=rules.maker_timeout_bars,
        atr_stop=rules.atr_stop,
        trailing_stop=float(rules.trailing_stop),
        scaling_floor=risk.scaling_floor if on else 1.0,
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
            funding: hourly rates, where they are known; `hourly_rate` is charged at every other full hour.
        """
        frame = compute_features(series, funding, thresholds=rules.regimes)
        market = Market.from_series(series, funding, hourly_rate, frame.values if rules.atr_stop else None)
        complete = np.zeros(len(series), np.int64)
        for start, stop in series.segments():
            complete[start:stop] = np.cumsum(frame.valid[start:stop])
        decides = complete >= max(rules.window_bars, 1)
        decides[:warmup_bars] = False
        decides &= market.bars["ordinal"] % rules.decision_bars == 0
        return Course(series, market, frame, decides, warmup_bars)

    def play(
        self, rules: KernelRules, actions: Actions, deposit: float, confidence: Floats | None = None
    ) -> SignalResult:
        """A signal on these bars; `confidence` multiplies the size of the entry decided on each, float64 [T]."""
        return backtest_signal(
            self.market, rules, actions, start=self.warmup_bars, initial_equity=deposit, confidence=confidence
        )

    def column(self, name: str) -> npt.NDArray[np.float64]:
        return self.frame.values[:, FEATURES.index(name)]


def _entry_ms(trades: Records, series: BarSeries) -> npt.NDArray[np.int64]:
    """The bar's open, or its end for an entry that rested and was met inside it."""
    opens = series.open[trades["entry_row"]]
    inside = (trades["is_maker"] == 1) & (trades["side"] * (opens - trades["entry_price"]) >= 0.0)
    return np.asarray(series.open_ms[trades["entry_row"]] + np.where(inside, series.interval_ms, 0))


def _exit_ms(trades: Records, series: BarSeries, slippage: float) -> npt.NDArray[np.int64]:
    """Opens for exits at the open (a stop that the bar opens beyond too), else the bar's end."""
    opens = series.open[trades["exit_row"]] * (1.0 - trades["side"] * slippage)
    at_open = (trades["exit_reason"] == STOP_LOSS) & np.isclose(trades["exit_price"], opens, rtol=1e-12, atol=0.0)
    inside = np.isin(trades["exit_reason"], (STOP_LOSS, TAKE_PROFIT, END)) & ~at_open
    return np.asarray(series.open_ms[trades["exit_row"]] + np.where(inside, series.interval_ms, 0))


def trades_of(trades: Records, series: BarSeries, slippage: float) -> list[TradeClosed]:
    """The round trips as the core reports them, money from float64."""
    entries, exits = _entry_ms(trades, series).tolist(), _exit_ms(trades, series, slippage).tolist()
    return [
        TradeClosed(
            coin=series.coin,
            side=Side.BUY if trade["side"] > 0 else Side.SELL,
            entry_ms=entry_ms,
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
        for trade, entry_ms, exit_ms in zip(trades, entries, exits, strict=True)
    ]


def fills_of(trades: Records, series: BarSeries, slippage: float) -> list[Fill]:
    """Entry and exit of each round trip."""
    fills: list[Fill] = []
    entries, exits = _entry_ms(trades, series).tolist(), _exit_ms(trades, series, slippage).tolist()
    for trade, entry_ms, exit_ms in zip(trades, entries, exits, strict=True):
        side = Side.BUY if trade["side"] > 0 else Side.SELL
        paid = -float(trade["entry_fee"])
        left = -float(trade["fees"]) - paid
        size = _money(trade["size"])
        for made, price, fee, time_ms, is_taker in (
            (side, trade["entry_price"], paid, entry_ms, not trade["is_maker"]),
            (side.opposite, trade["exit_price"], left, exit_ms, True),
        ):
            number = len(fills) + 1
            fills.append(
                Fill(series.coin, made, _money(price), size, _money(fee), time_ms, number, 0, None, bool(is_taker))
            )
    return fills


def _money(value: float) -> Decimal:
    return decimal_from_float(float(value))
