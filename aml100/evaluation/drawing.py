"""Charts as SVG text: a curve, an area, marks and axes over UTC time, small enough to stand in a page by themselves.

A curve of any length becomes at most two points a pixel: the lowest and the highest value of each column, so that no
spike is lost. Nothing is drawn across a gap in time.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import numpy as np

from aml100.domain.units import DAY_MS
from aml100.market.series import Floats, Ints

WIDTH: Final = 1000
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 14, 12, 24


@dataclass(frozen=True, slots=True)
class Curve:
    """One line. `css` names its class; values of NaN are left out."""

    times: Ints
    values: Floats
    css: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign on the chart. `shape` is up, down or dot."""

    time_ms: int
    value: float
    shape: str
    css: str
    title: str


@dataclass(slots=True)
class Chart:
    """Curves over one time line. `gap_ms`: farther apart than this, two points are not joined."""

    label: str
    curves: list[Curve]
    height: int = 260
    marks: list[Mark] = field(default_factory=list)
    gap_ms: int = 2**62
    filled: bool = False
    unit: str = ""
    floor: float | None = None

    def svg(self) -> str:
        """The chart; a sentence where there is nothing to draw."""
        curves = [one for one in self.curves if len(one.times) > 1]
        if not curves:
            return "<p class='quiet'>nothing to draw</p>"
        first = min(int(one.times[0]) for one in curves)
        last = max(int(one.times[-1]) for one in curves)
        low, high = self._range(curves)
        scale = _Scale(first, max(last, first + 1), low, high, self.height)
        parts = [
            f"<svg viewBox='0 0 {WIDTH} {self.height}' role='img' aria-label='{html.escape(self.label, quote=True)}'>",
            self._grid(scale),
        ]
        for curve in curves:
            parts.append(self._curve(curve, scale))
        parts += [_mark(one, scale) for one in self.marks]
        return "".join([*parts, "</svg>"])

    def _range(self, curves: Sequence[Curve]) -> tuple[float, float]:
        low = min(float(np.nanmin(one.values)) for one in curves)
        high = max(float(np.nanmax(one.values)) for one in curves)
        if self.floor is not None:
            low = min(low, self.floor)
        if high - low < 1e-12:
            pad = max(abs(high), 1.0) * 0.001
            return low - pad, high + pad
        pad = (high - low) * 0.04
        return (low if self.floor is not None else low - pad), high + pad

    def _grid(self, scale: _Scale) -> str:
        parts = []
        for value in _round_steps(scale.low, scale.high):
            y = scale.y(value)
            parts.append(f"<line class='grid' x1='{_LEFT}' x2='{WIDTH - _RIGHT}' y1='{y:.1f}' y2='{y:.1f}'/>")
            text = f"{_short(value)}{self.unit}"
            parts.append(f"<text class='tick' x='{_LEFT - 8}' y='{y + 4:.1f}' text-anchor='end'>{text}</text>")
        for time_ms, words in _date_ticks(scale.first, scale.last):
            x = scale.x(time_ms)
            anchor = "end" if x > WIDTH - _RIGHT - 30 else "middle"
            parts.append(
                f"<line class='grid' x1='{x:.1f}' x2='{x:.1f}' y1='{_TOP}' y2='{self.height - _BOTTOM}'/>"
                f"<text class='tick' x='{x:.1f}' y='{self.height - 6}' text-anchor='{anchor}'>{words}</text>"
            )
        return "".join(parts)

    def _curve(self, curve: Curve, scale: _Scale) -> str:
        title = f"<title>{html.escape(curve.name)}</title>" if curve.name else ""
        parts = []
        cuts = np.flatnonzero(np.diff(curve.times) > self.gap_ms) + 1
        for times, values in zip(np.split(curve.times, cuts), np.split(curve.values, cuts), strict=True):
            xs, ys = thinned(times, values, scale.first, scale.last)
            points = " ".join(
                f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True)
            )
            if self.filled and len(xs):
                base = scale.y(0.0)
                points = f"{scale.x(xs[0]):.1f},{base:.1f} {points} {scale.x(xs[-1]):.1f},{base:.1f}"
                parts.append(f"<polygon class='{curve.css}' points='{points}'>{title}</polygon>")
            else:
                parts.append(f"<polyline class='{curve.css}' points='{points}'>{title}</polyline>")
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class _Scale:
    first: int
    last: int
    low: float
    high: float
    height: int

    def x(self, time_ms: float) -> float:
        return _LEFT + (time_ms - self.first) / (self.last - self.first) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)


def thinned(times: Ints, values: Floats, first: int, last: int, columns: int = 900) -> tuple[Ints, Floats]:
    """At most four points for each of `columns` columns of time: first, lowest, highest and last value, in order."""
    known = np.isfinite(values)
    times, values = times[known], values[known]
    if len(times) <= 4 * columns:
        return times, values
    column = ((times - first) * columns // max(last - first, 1)).astype(np.int64)
    starts = np.flatnonzero(np.diff(column, prepend=column[0] - 1))
    stops = np.append(starts[1:], len(times))
    keep = np.zeros(len(times), np.bool_)
    keep[starts] = keep[stops - 1] = True
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        part = values[start:stop]
        keep[start + int(part.argmin())] = keep[start + int(part.argmax())] = True
    return times[keep], values[keep]


def _mark(mark: Mark, scale: _Scale) -> str:
    x, y = scale.x(mark.time_ms), scale.y(mark.value)
    title = f"<title>{html.escape(mark.title)}</title>"
    if mark.shape == "dot":
        return f"<circle class='{mark.css}' cx='{x:.1f}' cy='{y:.1f}' r='2.6'>{title}</circle>"
    up = mark.shape == "up"
    tip, base = (y + 3, y + 11) if up else (y - 3, y - 11)
    return (
        f"<polygon class='{mark.css}' points='{x:.1f},{tip:.1f} {x - 4.5:.1f},{base:.1f} {x + 4.5:.1f},{base:.1f}'>"
        f"{title}</polygon>"
    )


def _round_steps(low: float, high: float, about: int = 5) -> list[float]:
    """Round values between two bounds, about so many."""
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(m for m in (1, 2, 2.5, 5, 10) if m * unit >= raw)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def _short(value: float) -> str:
    if abs(value) >= 1000.0:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _date_ticks(first: int, last: int, about: int = 7) -> list[tuple[int, str]]:
    """Midnights (or hours, in short spans) at round distances, with their words."""
    span = last - first
    steps = (3_600_000, 10_800_000, 21_600_000, DAY_MS, 2 * DAY_MS, 7 * DAY_MS, 14 * DAY_MS)
    step = next((one for one in steps if span / one <= about), None)
    if step is None:
        return _month_ticks(first, last, about)
    words = "%d %b" if step >= DAY_MS else "%d %b %H:%M"
    start = -(-first // step) * step
    return [(t, datetime.fromtimestamp(t / 1000, UTC).strftime(words)) for t in range(start, last + 1, step)]


def _month_ticks(first: int, last: int, about: int) -> list[tuple[int, str]]:
    begin = np.datetime64(first, "ms").astype("datetime64[M]") + np.timedelta64(1, "M")
    end = np.datetime64(last, "ms").astype("datetime64[M]")
    months = np.arange(begin, end + np.timedelta64(1, "M"))
    every = next(n for n in (1, 2, 3, 6, 12, 24, 48, 120, 1200) if len(months) / n <= about)
    shown = [one for one in months if int(one.astype(np.int64)) % every == 0] or list(months[:1])
    words = "%b %Y" if every < 12 else "%Y"
    stamps = [int(one.astype("datetime64[ms]").astype(np.int64)) for one in shown]
    return [(t, datetime.fromtimestamp(t / 1000, UTC).strftime(words)) for t in stamps if first <= t <= last]
