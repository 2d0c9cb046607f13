"""Plots of several layers: a curve, what is shaded behind it, level lines and marks, with labels at the right edge.

A plot is a grid of characters with a role each. Every layer writes only where nothing nearer to the eye stands:
marks over curves over levels over shades. So one picture says where price went, where we went in and out, and where
target and stop wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from aml100.tui.ink import Line, Span
from aml100.tui.widgets.chart import curve

_DEPTHS = {"shade": 1, "level": 2, "curve": 3, "mark": 4}


class Plot:
    """A grid of `width` x `height` characters over values `low` to `high` and times `start` to `end`.

    Args:
        plain: 7-bit characters only.
    """

    def __init__(
        self, width: int, height: int, low: float, high: float, start: int = 0, end: int = 0, plain: bool = False
    ) -> None:
        if not high > low:
            middle = abs(low) or 1.0
            low, high = low - middle * 0.001, high + middle * 0.001
        self.width, self.height = width, height
        self.low, self.high = low, high
        self.start, self.end = start, end
        self.plain = plain
        self._cells: list[list[Span]] = [[(" ", "text")] * width for _ in range(height)]
        self._depth = [[0] * width for _ in range(height)]
        self._labels: dict[int, tuple[int, Span]] = {}

    def row(self, value: float) -> int | None:
        """The row of a value, from the top; None outside the picture."""
        if not self.low <= value <= self.high:
            return None
        share = (value - self.low) / (self.high - self.low)
        return self.height - 1 - min(int(share * self.height), self.height - 1)

    def column(self, time: int) -> int | None:
        """The column of a time; None outside the picture."""
        if not self.start <= time <= self.end or self.end == self.start:
            return None
        return min(int((time - self.start) / (self.end - self.start) * self.width), self.width - 1)

    def put(self, row: int, column: int, sign: str, role: str, layer: str) -> None:
        """A character, unless something nearer stands there."""
        depth = _DEPTHS[layer]
        if depth >= self._depth[row][column]:
            self._cells[row][column], self._depth[row][column] = (sign, role), depth

    def add_curve(self, values: Sequence[float], role: str = "curve") -> None:
        """Values spread evenly over the width."""
        drawn = curve(values, self.width, self.height, plain=self.plain, span=(self.low, self.high))
        for row, text in enumerate(drawn):
            for column, sign in enumerate(text):
                if sign != " ":
                    self.put(row, column, sign, role, "curve")

    def add_shade(self, tops: Sequence[float], bottoms: Sequence[float], role: str) -> None:
        """The area from each top down to its bottom, both spread evenly over the width."""
        sign = ":" if self.plain else "░"
        for column in range(self.width):
            at = column * (len(tops) - 1) // max(self.width - 1, 1)
            if not tops[at] > bottoms[at]:
                continue
            first, last = self.row(tops[at]), self.row(bottoms[at])
            for row in range(0 if first is None else first, (self.height - 1 if last is None else last) + 1):
                self.put(row, column, sign, role, "shade")

    def add_level(self, value: float, role: str, label: str = "") -> None:
        """A dashed line across; one outside the picture is an arrow at its edge, its label says where it lies."""
        row = self.row(value)
        if row is None:
            row = 0 if value > self.high else self.height - 1
            arrow = ("^" if value > self.high else "v") if self.plain else ("↑" if value > self.high else "↓")
            self.put(row, self.width - 1, arrow, role, "mark")
        else:
            for column in range(self.width):
                self.put(row, column, "-" if self.plain else "╌", role, "level")
        if label:
            self.label(row, label, role, 2)

    def add_mark(self, time: int, value: float, sign: str, role: str) -> bool:
        """A sign at a point; answers whether it lies inside the picture."""
        column, row = self.column(time), self.row(value)
        if column is None or row is None:
            return False
        self.put(row, column, sign, role, "mark")
        return True

    def label(self, row: int, text: str, role: str = "dim", weight: int = 1) -> None:
        """Write at the right of a row; of two on one row the weightier stays."""
        if row not in self._labels or self._labels[row][0] < weight:
            self._labels[row] = weight, (text, role)

    def lines(self, gutter: int) -> list[Line]:
        """The picture, its labels right-aligned in `gutter` cells after it."""
        found: list[Line] = []
        for row, cells in enumerate(self._cells):
            spans: list[Span] = [(" ", "text")]
            for sign, role in cells:
                before, role_before = spans[-1]
                same = role == role_before or (sign == " " and role_before != "alarm")
                if same:
                    spans[-1] = (before + sign, role_before)
                else:
                    spans.append((sign, role))
            if row in self._labels:
                text, role = self._labels[row][1]
                spans.append((f" {text:>{gutter}} ", role))
            found.append(tuple(spans))
        return found
