"""The coins of a back-test on one time line, where signals are played on one account.

One coin runs in the walk that skips quiet bars (evaluation/fixed_signal.py), several together in step with each other
(evaluation/shared_account.py); both make the trades of the decision core (tests/parity).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aml100.domain.units import Coin
from aml100.evaluation.course import Actions, Course, Flags
from aml100.evaluation.fixed_signal import TRADE_DTYPE
from aml100.evaluation.kernel import KernelRules, Records, flat_positions
from aml100.evaluation.shared_account import walk_together
from aml100.evaluation.transition import STEP_DTYPE
from aml100.market.series import BarSeries, Floats, FundingSeries, Ints
from aml100.trading.rules import TradingRules


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What signals made: at each time step's close the equity and whether anything is held [T]; trades by coin."""

    equity: Floats
    exposed: Flags
    trades: tuple[Records, ...]

    @property
    def count(self) -> int:
        """Round trips of all coins."""
        return sum(len(one) for one in self.trades)

    @property
    def turnover(self) -> float:
        """Notional of all fills / mean equity."""
        notional = sum(
            float(np.sum(one["size"] * (one["entry_price"] + one["exit_price"]))) for one in self.trades if len(one)
        )
        return notional / float(self.equity.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """`open_ms` int64 [T] are the times at which any coin has a bar, `places` int64 [K, T] the row of each coin there
    in an array that holds the rows of all coins one after the other; -1 where it has none."""

    courses: tuple[Course, ...]
    open_ms: Ints
    places: Ints
    warmup_bars: int

    @staticmethod
    def lay(
        series: Sequence[BarSeries],
        funding: Mapping[Coin, FundingSeries],
        hourly_rate: float,
        rules: TradingRules,
        warmup_bars: int,
    ) -> Ground:
        """Args: see `Course.lay`; `funding` by coin."""
        courses = tuple(Course.lay(one, funding.get(one.coin), hourly_rate, rules, warmup_bars) for one in series)
        open_ms = np.unique(np.concatenate([one.open_ms for one in series]))
        places = np.full((len(series), len(open_ms)), -1, np.int64)
        first = 0
        for number, one in enumerate(series):
            places[number, np.searchsorted(open_ms, one.open_ms)] = first + np.arange(len(one))
            first += len(one)
        return Ground(courses, open_ms, places, warmup_bars)

    def play(
        self, kernels: Sequence[KernelRules], signals: Sequence[Actions], deposit: float, size: float = 1.0
    ) -> Played:
        """Trade one signal a coin, int8 [rows]; `size` multiplies what every entry buys."""
        if len(self.courses) == 1:
            confidence = None if size == 1.0 else np.full(len(signals[0]), size)
            found = self.courses[0].play(kernels[0], signals[0], deposit, confidence)
            return Played(found.equity, found.position != 0.0, (found.trades,))
        steps, number = len(self.open_ms), len(self.courses)
        equity, exposed = np.full(steps, deposit), np.zeros(steps, np.bool_)
        rows = sum(len(one) for one in signals)
        trades, coins = np.empty(2 * rows, TRADE_DTYPE), np.zeros(2 * rows, np.int64)
        count = walk_together(
            np.concatenate([course.market.bars for course in self.courses]),
            np.concatenate([one.as_record(account=True) for one in kernels]),
            self.places,
            np.concatenate(signals),
            size,
            self.warmup_bars,
            flat_positions(1, deposit),
            flat_positions(number, deposit),
            np.zeros(1, STEP_DTYPE),
            equity,
            exposed,
            trades,
            coins,
        )
        made, whose = trades[:count], coins[:count]
        return Played(equity, exposed, tuple(self._of_coin(made[whose == k], k) for k in range(number)))

    def _of_coin(self, trades: Records, number: int) -> Records:
        """The trades with rows counted in the coin's own series."""
        first = sum(len(course.series) for course in self.courses[:number])
        trades["entry_row"] -= first
        trades["exit_row"] -= first
        return trades
