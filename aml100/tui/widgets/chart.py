"""Curves drawn with characters: braille dots, eight to a cell, or plain ASCII.

A curve of any length is thinned to the columns there are by keeping, for each column, the range its points cover;
so a spike of one point survives on the narrowest screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Bits of a braille cell by (column, row from the top).
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BRAILLE = 0x2800


def curve(
    values: Sequence[float],
    width: int,
    height: int,
    *,
    plain: bool = False,
    span: tuple[float, float] | None = None,
) -> list[str]:
    """The curve in `height` rows of `width` characters, top row first; blank where there are fewer than two values.

    Args:
        values: evenly spaced, oldest first.
        width: characters, at least 1.
        height: rows, at least 1.
        plain: ASCII instead of braille.
        span: values of the lowest and the highest dot; None: of the curve itself.

    >>> curve([0.0, 1.0], 2, 2, plain=True)
    [' *', '* ']
    """
    if len(values) < 2 or width < 1 or height < 1:
        return [" " * max(width, 0)] * max(height, 0)
    columns, rows = (width, height) if plain else (2 * width, 4 * height)
    ranges = _ranges(values, columns, rows, span or (min(values), max(values)))
    if plain:
        return ["".join("*" if low <= row <= high else " " for low, high in ranges) for row in range(rows - 1, -1, -1)]
    cells = [[0] * width for _ in range(height)]
    for column, (low, high) in enumerate(ranges):
        bits = _DOTS[column % 2]
        for level in range(low, high + 1):
            from_top = rows - 1 - level
            cells[from_top // 4][column // 2] |= bits[from_top % 4]
    return ["".join(chr(_BRAILLE + bits) if bits else " " for bits in row) for row in cells]


def _ranges(values: Sequence[float], columns: int, rows: int, span: tuple[float, float]) -> list[tuple[int, int]]:
    """For each column the lowest and highest level of the curve, joined to its neighbour on the left."""
    if len(values) < columns:
        values = _stretched(values, columns)
    floor, ceiling = span
    scale = (rows - 1) / (ceiling - floor) if ceiling > floor else 0.0
    base = 0 if scale else (rows - 1) // 2
    levels = [min(max(round((value - floor) * scale) + base, 0), rows - 1) for value in values]
    last = len(levels) - 1
    found: list[tuple[int, int]] = []
    before: int | None = None
    for column in range(columns):
        start = column * last // max(columns - 1, 1)
        stop = max(start + 1, (column + 1) * last // max(columns - 1, 1))
        piece = levels[start : min(stop, last + 1)]
        low, high = min(piece), max(piece)
        if before is not None and before < low - 1:
            low = before + 1
        if before is not None and before > high + 1:
            high = before - 1
        found.append((low, high))
        before = piece[-1]
    return found


def _stretched(values: Sequence[float], columns: int) -> list[float]:
    """As many values as columns, on straight lines between the given ones."""
    step = (len(values) - 1) / max(columns - 1, 1)
    found = []
    for column in range(columns):
        at = min(int(column * step), len(values) - 2)
        share = column * step - at
        found.append(values[at] * (1.0 - share) + values[at + 1] * share)
    return found


def bars(values: Sequence[float], width: int, *, plain: bool = False, largest: float | None = None) -> str:
    """One row of bars, for each column the largest of its values, in eighths of `largest` (else of the largest of all).

    >>> bars([0.0, 1.0, 2.0], 3, plain=True)
    ' -#'
    """
    if not values or width < 1:
        return " " * max(width, 0)
    signs = " .-=#" if plain else " ▁▂▃▄▅▆▇█"
    largest = max(values) if largest is None else largest
    size = len(values)
    row = []
    for column in range(width):
        start = column * size // width
        piece = values[start : max(start + 1, (column + 1) * size // width)]
        share = min(max(piece) / largest, 1.0) if largest > 0 else 0.0
        row.append(signs[math.ceil(share * (len(signs) - 1) - 1e-9)])
    return "".join(row)
