"""The ledger of one account as columns: equity at each bar's close, exits and profits of trades, in growing buffers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

from aml100.domain.units import DAY_MS
from aml100.evaluation.metrics import SHARPE_MIN_RETURNS, YEAR_DAYS, returns_until_ruin, sampled_equity
from aml100.evaluation.statistics import moments_of, sharpe_stderr
from aml100.evaluation.windows import PhaseRecord, Window, window_of
from aml100.market.series import Floats, Ints

_TWO_SIDED: Final = NormalDist().inv_cdf(0.975)
_YEAR_ROOT: Final = math.sqrt(YEAR_DAYS)


class SharpeSeen(NamedTuple):
    """An annualised ratio with its 95 % interval, by its standard error with skew and kurtosis; else why none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class LedgerWindow:
    """The last `days` of the ledger: equity at the bars' closes [n] after `opening_equity`, net profits of trades."""

    days: float
    opening_equity: float
    equity: Floats
    profits: Floats


def first_window_ms(first_open_ms: int, span_ms: int) -> int:
    """Where the first cycle begins: at a 00:00 UTC, or of shorter windows at a multiple of their length after one."""
    grid, day = min(span_ms, DAY_MS), first_open_ms // DAY_MS * DAY_MS
    return day + -(-(first_open_ms - day) // grid) * grid


class LedgerCurve:
    """Equity by bar, trades by exit. Views handed out stay valid; they show what was known when they were asked for.

    Money that was paid in or out is no return (GUARANTEES E5): from the first flow on the equity is what it would be
    without it, scaled so that each bar's return is the one earned on what was there before.
    """

    def __init__(self, interval_ms: int, initial_equity: float = 0.0) -> None:
        self.interval_ms = interval_ms
        self.initial = initial_equity
        """USD paid in before the first bar; 0 where that is not known."""
        self._told = self._flow = 0.0
        self._scale = self._scale_before = 1.0
        self._times: Ints = np.empty(4096, np.int64)
        self._equity: Floats = np.empty(4096)
        self._count = 0
        self._exits: Ints = np.empty(256, np.int64)
        self._profits: Floats = np.empty(256)
        self._trades = 0

    def __len__(self) -> int:
        return self._count

    @property
    def first_open_ms(self) -> int | None:
        """Open of the first bar; None before there is one."""
        return int(self._times[0]) if self._count else None

    @property
    def last_end_ms(self) -> int:
        return int(self._times[self._count - 1]) + self.interval_ms if self._count else 0

    def add_flow(self, amount: float) -> None:
        """USD paid in (> 0) or out, which the next close holds."""
        if self._count:
            self._told += amount
        else:
            self.initial += amount

    def add_equity(self, end_ms: int, equity: float) -> None:
        """Equity at a close; the same close again replaces it, an earlier one is an echo."""
        open_ms = end_ms - self.interval_ms
        is_new = not self._count or open_ms > self._times[self._count - 1]
        if not is_new and open_ms < self._times[self._count - 1]:
            return
        if is_new:
            self._begin_row(open_ms)
        self._flow, self._told = self._flow + self._told, 0.0
        earned = equity - self._flow
        if self._flow and earned > 0.0 and equity > 0.0:  # on nothing that was there before, a return has no meaning
            self._scale = self._scale_before * earned / equity
        self._equity[self._count - 1] = equity * self._scale

    def _begin_row(self, open_ms: int) -> None:
        if self._count == len(self._times):
            self._times = np.concatenate([self._times, np.empty(self._count, np.int64)])
            self._equity = np.concatenate([self._equity, np.empty(self._count)])
        self._times[self._count] = open_ms
        self._count += 1
        self._flow, self._scale_before = 0.0, self._scale

    def add_trade(self, exit_ms: int, profit: float) -> None:
        if self._trades == len(self._exits):
            self._exits = np.concatenate([self._exits, np.empty(self._trades, np.int64)])
            self._profits = np.concatenate([self._profits, np.empty(self._trades)])
        self._exits[self._trades], self._profits[self._trades] = exit_ms, profit
        self._trades += 1

    def record(self) -> PhaseRecord:
        """Everything so far; there must be a bar."""
        equity = self._equity[: self._count]
        return PhaseRecord(
            open_ms=self._times[: self._count],
            equity=equity,
            interval_ms=self.interval_ms,
            initial_equity=self.initial or float(equity[0]),
            exit_ms=self._exits[: self._trades],
            profits=self._profits[: self._trades],
        )

    def window(self, start_ms: int, end_ms: int) -> Window:
        """The part in [start_ms, end_ms)."""
        return window_of(self.record(), start_ms, end_ms)

    def ledger_window(self, now_ms: int, span_ms: int) -> LedgerWindow:
        """The last `span_ms`, or as much of it as there is."""
        if not self._count:
            return LedgerWindow(0.0, self.initial, np.zeros(0), np.zeros(0))
        start_ms = max(now_ms - span_ms, int(self._times[0]))
        seen = self.window(start_ms, now_ms)
        return LedgerWindow((now_ms - start_ms) / DAY_MS, seen.opening_equity, seen.equity, seen.profits)

    def daily_returns(self, from_ms: int | None = None) -> Floats:
        """Over each 00:00 UTC after `from_ms` (None: after the first bar)."""
        if self._count < 2:
            return np.zeros(0)
        record = self.record()
        marks, levels = sampled_equity(record.open_ms, record.equity, self.interval_ms, record.initial_equity, DAY_MS)
        if from_ms is not None:
            first = max(int(np.searchsorted(marks, from_ms, side="right")) - 1, 0)
            levels = levels[first:]
        return returns_until_ruin(levels) if len(levels) > 1 else np.zeros(0)

    def profits(self, from_ms: int) -> Floats:
        """Of trades that exited at `from_ms` or later."""
        exits = self._exits[: self._trades]
        return self._profits[: self._trades][exits >= from_ms]

    def sharpe(self) -> SharpeSeen:
        """Of all daily returns so far; under 30 of them only a note of how many there are (GUARANTEES E3)."""
        returns = self.daily_returns()
        moments = moments_of(returns)
        if len(returns) < SHARPE_MIN_RETURNS:
            return SharpeSeen(note=f"n/a ({len(returns)} of {SHARPE_MIN_RETURNS})")
        if moments is None:
            return SharpeSeen(note="n/a (no return differs from another)")
        reach = _TWO_SIDED * sharpe_stderr(moments)
        value, low, high = ((moments.sharpe + off) * _YEAR_ROOT for off in (0.0, -reach, reach))
        return SharpeSeen(value, low, high)
