"""Exact transitions of many positions over one market (the transition itself is in evaluation/transition.py).

The market does not react to us, so all three actions of any position state at any bar can be priced at once
(`counterfactual`); the learner needs no environment to know what the other actions would have done. The batched
environment steps with the same code (`step_batch`), the fast back-test too (evaluation/fixed_signal.py).

Rows of positions are structured arrays: `states["side"]` is the column of all sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aml100.domain.units import HOUR_MS
from aml100.evaluation.transition import (
    ACTIONS,
    ATR_BAR_DTYPE,
    BAR_DTYPE,
    BUY,
    ENTRY_STYLES,
    EXIT_REASONS,
    HOLD,
    OPTIONS_DTYPE,
    POSITION_DTYPE,
    RULES_DTYPE,
    SELL,
    STEP_DTYPE,
    Records,
    advance,
)
from aml100.market.compiled import compiled
from aml100.market.features import FEATURES
from aml100.market.position import POSITION_SIZE, position_features
from aml100.market.series import BarSeries, Floats, FundingSeries, Ints

__all__ = [
    "ACTIONS",
    "ATR_BAR_DTYPE",
    "BAR_DTYPE",
    "BUY",
    "EXIT_REASONS",
    "HOLD",
    "POSITION_DTYPE",
    "SELL",
    "STEP_DTYPE",
    "KernelRules",
    "Market",
    "Records",
    "counterfactual",
    "flat_positions",
    "position_rows",
    "step_batch",
]

_ATR: Final = FEATURES.index("atr_14")
_TICK: Final = 1e-3
"""A fraction of the price, well above what rounding to a tick moves a level by."""


@dataclass(frozen=True, slots=True)
class KernelRules:
    """How positions are opened, protected and closed. Fractions; 0 switches TP, SL, time exit or a limit off.

    `notional_frac` is position size x leverage: the notional of an entry as a fraction of equity. `px_decimals` of -1:
    only the five significant figures bind. `atr_stop` counts ATRs, which the market must then know. `scaling_floor` is
    the share of an entry's size that is left at the breaker's drawdown. The two caps bound the sizes of an account
    (`backtest_signal`); a unit position has none.
    """

    take_profit: float = 0.018
    stop_loss: float = 0.006
    taker_fee: float = 0.00045
    slippage: float = 0.0001
    notional_frac: float = 0.4
    max_hold: int = 720
    reverse_on_opposite: bool = False
    decision_bars: int = 1
    sz_decimals: int = 5
    px_decimals: int = -1
    max_leverage: float = 0.0
    max_notional: float = 0.0
    breaker_dd: float = 0.0
    hard_dd: float = 0.0
    breaker_pause_bars: int = 0
    maker_fee: float = 0.00015
    entry_style: str = "taker"
    maker_timeout_bars: int = 1
    atr_stop: float = 0.0
    trailing_stop: float = 0.0
    scaling_floor: float = 1.0

    def as_record(self, *, account: bool = False) -> Records:
        """The rules as the compiled functions take them, shape [1]; `account` picks the accounting.

        Of OPTIONS_DTYPE where one of its rules is in force, else of RULES_DTYPE.
        """
        optional = self.entry_style != "taker" or self.atr_stop > 0.0 or self.trailing_stop > 0.0
        guarded = self.breaker_dd > 0.0 or self.hard_dd > 0.0
        optional |= guarded and (self.scaling_floor < 1.0 or not account)
        optional |= 0.0 < self.stop_loss <= self.slippage + _TICK or 0.0 < self.take_profit <= _TICK
        record = np.zeros(1, OPTIONS_DTYPE if optional else RULES_DTYPE)
        for name in record.dtype.names or ():
            if hasattr(self, name) and name != "entry_style":
                record[name] = getattr(self, name)
        record["lot"] = 10.0**self.sz_decimals
        record["reverse"] = self.reverse_on_opposite
        record["pause_bars"] = self.breaker_pause_bars
        record["account"] = account
        if optional:
            record["entry_style"] = ENTRY_STYLES.index(self.entry_style)
            record["maker_bars"] = self.maker_timeout_bars
        return record


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """One coin's bars as the kernel reads them: `bars` of BAR_DTYPE [T], or of ATR_BAR_DTYPE."""

    bars: Records
    open_ms: Ints
    interval_ms: int

    def __len__(self) -> int:
        return len(self.bars)

    @staticmethod
    def from_series(
        series: BarSeries,
        funding: FundingSeries | None = None,
        constant_rate: float = 0.0,
        features: Floats | None = None,
    ) -> Market:
        """Lay bars and funding out row by row.

        Args:
            funding: hourly rates, where they are known.
            constant_rate: charged at every other full hour.
            features: of the same bars [T, F], for stops by ATR; None: such stops are the fixed ones.
        """
        bars = np.zeros(len(series), BAR_DTYPE if features is None else ATR_BAR_DTYPE)
        for name in ("open", "high", "low", "close"):
            bars[name] = getattr(series, name)
        if features is not None:
            bars["atr"] = np.nan_to_num(features[:, _ATR])
        bars["ordinal"] = series.open_ms // series.interval_ms + 1
        bars["follows"][1:] = np.diff(series.open_ms) == series.interval_ms
        bars["funding"] = np.where(series.open_ms % HOUR_MS == 0, constant_rate, 0.0)
        if funding is not None and len(funding):
            row = np.minimum(np.searchsorted(funding.time_ms, series.open_ms), len(funding) - 1)
            known = funding.time_ms[row] == series.open_ms
            bars["funding"] = np.where(known, funding.rate[row], bars["funding"])
        return Market(bars, series.open_ms, series.interval_ms)


def flat_positions(count: int, equity: float = 1.0) -> Records:
    """Fresh accounts without a position, POSITION_DTYPE [count]."""
    states = np.zeros(count, POSITION_DTYPE)
    states["equity"] = equity
    states["peak"] = equity
    return states


@compiled(error_model="numpy")
def _counterfactual(bars: Any, rules: Any, t: Any, states: Any, following: Any, steps: Any) -> None:
    rule = rules[0]
    for row in range(t.shape[0]):
        for action in range(ACTIONS):
            following[row, action] = states[row]
            advance(bars, rule, t[row], action, following[row, action], steps[row, action])


@compiled(error_model="numpy")
def _step_batch(bars: Any, rules: Any, t: Any, states: Any, actions: Any, steps: Any) -> None:
    rule = rules[0]
    for row in range(t.shape[0]):
        advance(bars, rule, t[row], actions[row], states[row], steps[row])


@compiled(error_model="numpy")
def _position_rows(states: Any, close: Any, out: Any) -> None:
    for row in range(states.shape[0]):
        s = states[row]
        drawdown = max(0.0, 1.0 - s.equity / s.peak)
        position_features(
            s.side, s.entry, close[row], s.bars_held, s.target, s.stop, drawdown, s.wins, s.holds, out[row]
        )


def counterfactual(
    market: Market,
    rules: Records,
    t: Ints,
    states: Records,
    following: Records | None = None,
    steps: Records | None = None,
) -> tuple[Records, Records]:
    """What each of the three actions would bring, exactly, for many positions at once.

    Args:
        rules: `KernelRules.as_record()`, shape [1].
        t: row of the decision bar of each position, int64 [B]; rows may repeat.
        states: POSITION_DTYPE [B], left untouched.
        following, steps: reused outputs of shape [B, 3], or None to allocate.

    Returns: the states at the close of t + 1, POSITION_DTYPE [B, 3], and the steps, STEP_DTYPE [B, 3], both by
        action. Where nothing follows bar t the three are equal and truncated.
    """
    _check_rows(market, t)
    shape = (len(t), ACTIONS)
    following = np.empty(shape, POSITION_DTYPE) if following is None else following
    steps = np.empty(shape, STEP_DTYPE) if steps is None else steps
    _counterfactual(market.bars, rules, t, states, following, steps)
    return following, steps


def step_batch(
    market: Market,
    rules: Records,
    t: Ints,
    states: Records,
    actions: npt.NDArray[np.int8],
    steps: Records | None = None,
) -> Records:
    """Advance many positions by one bar, in place; `t` stays the caller's. Returns the steps, STEP_DTYPE [B]."""
    _check_rows(market, t)
    steps = np.empty(len(t), STEP_DTYPE) if steps is None else steps
    _step_batch(market.bars, rules, t, states, actions, steps)
    return steps


def position_rows(
    states: Records, close: Floats, out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """The policy's view of each position at `close` [B]: float32 [B, POSITION_SIZE] of market.position."""
    out = np.empty((len(states), POSITION_SIZE), np.float32) if out is None else out
    _position_rows(states, close, out)
    return out


def _check_rows(market: Market, t: Ints) -> None:
    """Compiled code does not look where it reads."""
    if len(t) and (t.min() < 0 or t.max() >= len(market)):
        raise IndexError(f"bar rows must lie in [0, {len(market)}), not [{t.min()}, {t.max()}]")
