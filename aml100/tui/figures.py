"""Numbers as people read them. A value that is unknown is `n/a`, never a zero."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from aml100.domain.units import iso_utc

UNKNOWN = "n/a"


def money(amount: str | float, *, signed: bool = False) -> str:
    """USD with two decimals and thousands.

    >>> money("10123.456"), money(-0.5, signed=True), money("what")
    ('10,123.46', '-0.50', 'n/a')
    """
    try:
        value = Decimal(str(amount))
    except InvalidOperation:
        return UNKNOWN
    if not value.is_finite():
        return UNKNOWN
    value = value.quantize(Decimal("0.01")) if abs(value) < Decimal(10) ** 20 else value
    value = value if value else abs(value)
    return f"{value:+,}" if signed else f"{value:,}"


def price(text: str | None) -> str:
    """A price with all its digits, in thousands.

    >>> price("65000.5"), price(None)
    ('65,000.5', 'n/a')
    """
    if text is None:
        return UNKNOWN
    try:
        value = Decimal(text)
    except InvalidOperation:
        return UNKNOWN
    return f"{value:,f}" if value.is_finite() else UNKNOWN


def level(value: float) -> str:
    """A price at the edge of a chart, or an average: five to seven digits are enough there.

    >>> level(65012.345), level(0.0123456), level(12.3456), level(0.0000123456)
    ('65,012.3', '0.0123456', '12.3456', '0.0000123456')
    """
    if abs(value) >= 10_000:
        return f"{value:,.1f}"
    return f"{value:,.2f}" if abs(value) >= 100 else format(Decimal(f"{value:.6g}"), "f")


def percent(value: float | None, decimals: int = 2, *, signed: bool = False) -> str:
    """
    >>> percent(1.234), percent(None), percent(-0.001, signed=True)
    ('1.23 %', 'n/a', '+0.00 %')
    """
    if value is None:
        return UNKNOWN
    rounded = round(value, decimals) + 0.0
    return f"{rounded:+.{decimals}f} %" if signed else f"{rounded:.{decimals}f} %"


def number(value: float | None, decimals: int = 2) -> str:
    """A plain figure.

    >>> number(1.5), number(None)
    ('1.50', 'n/a')
    """
    return UNKNOWN if value is None else f"{round(value, decimals) + 0.0:.{decimals}f}"


def trimmed(value: float | None) -> str:
    """Up to four significant digits without trailing zeros: thresholds and limits.

    >>> trimmed(5.0), trimmed(0.45), trimmed(1200.0)
    ('5', '0.45', '1,200')
    """
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def count(value: int) -> str:
    """
    >>> count(1203), count(525600), count(12_345_678)
    ('1,203', '526k', '12.3M')
    """
    if value < 10_000:
        return f"{value:,}"
    if value < 100_000:
        return f"{value / 1000:.1f}k"
    return f"{value / 1000:.0f}k" if value < 1_000_000 else f"{value / 1_000_000:.1f}M"


def span(seconds: float | None) -> str:
    """A length of time in its two largest units.

    >>> span(2.14), span(75), span(8000), span(200000), span(None)
    ('2.1 s', '1m15s', '2h13m', '2d07h', 'n/a')
    """
    if seconds is None:
        return UNKNOWN
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"


def calm_span(seconds: float | None) -> str:
    """A length of time for figures that are watched all day: no digit in it moves more often than it must.

    >>> calm_span(0.4), calm_span(7.2), calm_span(75), calm_span(8000), calm_span(None)
    ('<1 s', '7 s', '1m', '2h13m', 'n/a')
    """
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return "<1 s"
    if seconds < 60:
        return f"{int(seconds)} s"
    return span(seconds) if seconds >= 3600 else f"{int(seconds // 60)}m"


def moment(time_ms: int) -> str:
    """
    >>> moment(1751241725000)
    '2025-06-30 00:02:05 UTC'
    """
    return f"{_stamp(time_ms)[:10]} {_stamp(time_ms)[11:19]} UTC"


def day_time(time_ms: int) -> str:
    """
    >>> day_time(1751241725000)
    '06-30 00:02'
    """
    return _stamp(time_ms)[5:16].replace("T", " ")


def minute(time_ms: int) -> str:
    """
    >>> minute(1751241725000)
    '00:02'
    """
    return _stamp(time_ms)[11:16]


def minute_or_day(time_ms: int, now_ms: int) -> str:
    """The time of something of today, the date of something older: five characters both.

    >>> minute_or_day(1751241725000, 1751284925000), minute_or_day(1751241725000, 1751328125000)
    ('00:02', '06-30')
    """
    return minute(time_ms) if _stamp(time_ms)[:10] == _stamp(now_ms)[:10] else _stamp(time_ms)[5:10]


def second(time_ms: int) -> str:
    """
    >>> second(1751241725000)
    '00:02:05'
    """
    return _stamp(time_ms)[11:19]


def _stamp(time_ms: int) -> str:
    return iso_utc(time_ms - time_ms % 1000)


def tone(value: float | None) -> str:
    """The role of a signed figure; its sign says the same without colour."""
    if value is None or value == 0:
        return "text"
    return "good" if value > 0 else "bad"


def as_float(text: str) -> float:
    """A decimal text as a number for sums and tones; 0 where it is none."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return 0.0
    return float(value) if value.is_finite() else 0.0
