"""Rows of the benchmarks as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from aml100.bench.frame import Row

TABLE_HEADER: Final = ("what", "unit", "ours", "peer", "", "ratio", "worst..best", "goal", "")


def table_row(row: Row) -> tuple[str, ...]:
    """Cells under TABLE_HEADER."""
    spread = "" if row.low is None or row.high is None else f"{figure(row.low)}..{figure(row.high)}"
    goal = "" if row.goal is None else f">= {row.goal:g}x"
    state = f"{row.state}, {row.note}" if row.state in ("absent", "failed") else row.state
    state = f"open: {state}" if _is_open(row) else state
    return (
        *(row.name, row.unit, figure(row.ours), figure(row.peer), row.peer_name or ""),
        *("" if row.ratio is None else f"{figure(row.ratio)}x", spread, goal, state),
    )


def summary(rows: Sequence[Row]) -> str:
    """How many goals were met, missed and left open."""
    counts = Counter("open" if _is_open(row) else row.state for row in rows)
    return f"goals: {counts['met']} met, {counts['missed']} missed, {counts['open']} open (peer absent or failed)"


def _is_open(row: Row) -> bool:
    return row.goal is not None and row.state in ("absent", "failed")


def figure(value: float | None) -> str:
    """Three significant digits, in thousands and millions where large.

    >>> [figure(value) for value in (None, 0.00123, 3.456, 98.76, 12_345, 1_234_567)]
    ['', '0.00123', '3.46', '98.8', '12.3k', '1.23M']
    """
    if value is None:
        return ""
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit * 9.995 or (abs(value) >= unit and unit == 1e6):
            return f"{_three(value / unit)}{suffix}"
    return _three(value)


def _three(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.3g}"
