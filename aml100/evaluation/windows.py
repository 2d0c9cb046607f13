"""Records cut into the windows of cycles.

The first window begins at the first 00:00 UTC of the record, each other where the one before ends. A window includes
its opening equity, so 30 days give 30 daily returns; one that is not finished is no cycle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aml100.domain.units import DAY_MS
from aml100.evaluation.metrics import returns_until_ruin, sampled_equity

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PhaseRecord:
    """What phases are judged by: equity at each bar's close, and each trade's exit and net profit in USD.

    A trade closed by the end of the data exits at its last bar's end; give that bar's open instead, so that it counts
    in the window whose equity it moved.
    """

    open_ms: Ints
    equity: Floats
    interval_ms: int
    initial_equity: float
    exit_ms: Ints
    profits: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One stretch of a record. `daily_returns` are those over each 00:00 UTC after its start, its end included."""

    start_ms: int
    end_ms: int
    opening_equity: float
    equity: Floats
    daily_returns: Floats
    profits: Floats

    @property
    def days(self) -> float:
        return (self.end_ms - self.start_ms) / DAY_MS


def window_of(record: PhaseRecord, start_ms: int, end_ms: int) -> Window:
    """The part of a record in [start_ms, end_ms): bars that end in it, trades that exit in it."""
    ends = record.open_ms + record.interval_ms
    first, last = np.searchsorted(ends, [start_ms, end_ms], side="right")
    opening = float(record.equity[first - 1]) if first > 0 else record.initial_equity
    marks, levels = sampled_equity(record.open_ms, record.equity, record.interval_ms, record.initial_equity, DAY_MS)
    inside = np.flatnonzero((marks > start_ms) & (marks <= end_ms))
    daily = returns_until_ruin(levels[inside[0] - 1 : inside[-1] + 1]) if len(inside) else np.zeros(0)
    exits = (record.exit_ms >= start_ms) & (record.exit_ms < end_ms)
    return Window(start_ms, end_ms, opening, record.equity[first:last], daily, record.profits[exits])


def windows(record: PhaseRecord, cycle_days: float) -> Iterator[Window]:
    """The finished windows of a record, oldest first."""
    span_ms = round(cycle_days * DAY_MS)
    if span_ms <= 0 or len(record.open_ms) == 0:
        return
    start_ms = -(-int(record.open_ms[0]) // DAY_MS) * DAY_MS
    last_ms = int(record.open_ms[-1]) + record.interval_ms
    while start_ms + span_ms <= last_ms:
        yield window_of(record, start_ms, start_ms + span_ms)
        start_ms += span_ms
