"""The dashboard as one painting: panels side by side in the room there is, from 80x24 up.

It is a function from a view to lines, like every panel in it, and one widget on the screen. A widget for each panel
cost more to mount, to style and to lay out than to paint, before the first frame as at every resize (GUARANTEES C5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from aml100.tui.ink import EMPTY, Line, fit
from aml100.tui.view import Painter, View
from aml100.tui.widgets.account import (
    closed_lines,
    decision_lines,
    feed_lines,
    performance_lines,
    position_lines,
    training_lines,
)
from aml100.tui.widgets.curves import Charts, action_lines, equity_lines, price_lines
from aml100.tui.widgets.frame import MIN_HEIGHT, MIN_WIDTH, banner_lines, key_lines, notice_lines, operation_lines
from aml100.tui.widgets.phase import phase_lines

ROOMY_HEIGHT: Final = 36
LOFTY_HEIGHT: Final = 52
WIDE_WIDTH: Final = 110
BROAD_WIDTH: Final = 170
GAP: Final = " "
LEAST_DECISIONS: Final = 3


class Rows(NamedTuple):
    """Heights of the dashboard's rows of panels; the decisions take what is left."""

    top: int
    middle: int
    bottom: int


def rows_for(height: int, view: View) -> Rows:
    """At 24 rows: banner 2, panels 8 + 4, decisions 5, panels 4, keys 1. High screens give what positions need."""
    if height >= LOFTY_HEIGHT:
        snapshot = view.snapshot
        positions, feeds = (len(snapshot.positions), len(snapshot.feeds)) if snapshot is not None else (1, 4)
        return Rows(25, min(max(2 + 3 * positions, 5), 11), min(max(1 + feeds // 2, 5), 8))
    return Rows(17, 5, 5) if height >= ROOMY_HEIGHT else Rows(8, 4, 4)


def columns_for(width: int) -> tuple[int, ...]:
    """Widths of the columns: the first is as wide as its figures need, the others share the rest."""
    if width < WIDE_WIDTH:
        return 40, width - 41
    first = 60 if width >= BROAD_WIDTH else 46
    rest = width - first - 2
    return first, rest - rest // 2, rest // 2


def beside(view: View, painters: Sequence[Painter], widths: Sequence[int], height: int) -> list[Line]:
    """Panels side by side, as many as there are columns."""
    painted = [(painter(view, width, height)[:height], width) for painter, width in zip(painters, widths, strict=False)]
    rows: list[Line] = []
    for at in range(height):
        row: Line = EMPTY
        for lines, width in painted:
            cell = fit(lines[at] if at < len(lines) else EMPTY, width)
            row = (*row, (GAP, "text"), *cell) if row else cell
        rows.append(row)
    return rows


class Board:
    """Paints the dashboard; it keeps the charts of the second."""

    def __init__(self) -> None:
        self._charts = Charts()

    def paint(self, view: View, width: int, height: int) -> list[Line]:
        """The whole terminal: banner, panels, the command under way, keys."""
        if width < MIN_WIDTH or height < MIN_HEIGHT:
            return notice_lines(view, width, height)
        operations = operation_lines(view, width, 1)
        rows, widths = rows_for(height, view), columns_for(width)
        decisions = max(height - 2 - sum(rows) - len(operations) - 1, LEAST_DECISIONS)
        return [
            *banner_lines(view, width, 2),
            *beside(view, (phase_lines, self._equity, self._price), widths, rows.top),
            *beside(view, (position_lines, performance_lines, self._actions), widths, rows.middle),
            *beside(view, *self._talk(width, widths), decisions),
            *beside(view, (feed_lines, training_lines), (widths[0], width - widths[0] - 1), rows.bottom),
            *operations,
            *key_lines(view, width, 1),
        ]

    def _talk(self, width: int, columns: Sequence[int]) -> tuple[tuple[Painter, ...], tuple[int, ...]]:
        """The decisions; where there is a third column, the trades that were closed beside them."""
        if len(columns) < 3:
            return (decision_lines,), (width,)
        return (decision_lines, closed_lines), (width - columns[2] - 1, columns[2])

    def _equity(self, view: View, width: int, height: int) -> list[Line]:
        return equity_lines(view, width, height, self._charts)

    def _price(self, view: View, width: int, height: int) -> list[Line]:
        return price_lines(view, width, height, self._charts)

    def _actions(self, view: View, width: int, height: int) -> list[Line]:
        return action_lines(view, width, height, self._charts)
