"""Ids, times and exact numbers.

Money and prices are `Decimal` made from text, never from binary arithmetic. Rounding lives here and nowhere else:
prices to what the venue accepts, sizes down to the lot, payments toward zero to 6 decimals.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Final, NewType

Coin = NewType("Coin", str)
"""A venue market: `BTC`, or a HIP-3 name such as `xyz:XYZ100`."""

Cloid = NewType("Cloid", str)
"""Client order id: `0x` and 32 hex digits."""

ZERO: Final = Decimal(0)
USD_STEP: Final = Decimal("0.000001")
_LEDGER_STEP: Final = Decimal("1e-12")
MIN_NOTIONAL_USD: Final = Decimal(10)

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

INTERVALS: Final[dict[str, int]] = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
}
"""Bar intervals by the venue's names, in milliseconds."""


def interval_name(interval_ms: int) -> str:
    """The venue's name of a bar interval; ValueError where it has none.

    >>> interval_name(300_000)
    '5m'
    """
    for name, span in INTERVALS.items():
        if span == interval_ms:
            return name
    raise ValueError(f"no interval of {interval_ms} ms; allowed: {', '.join(INTERVALS)}")


def parse_decimal(text: str | int) -> Decimal:
    """A finite Decimal from text; ValueError for NaN, infinities and what is no number (GUARANTEES D9).

    >>> parse_decimal("65000.0")
    Decimal('65000.0')
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"not a number: {text!r}") from None
    if not value.is_finite():
        raise ValueError(f"not a finite number: {text!r}")
    return value


def decimal_from_float(value: float) -> Decimal:
    """The shortest Decimal that reads back as this float; the only door from float64 prices to money."""
    return parse_decimal(repr(float(value)))


def decimal_text(value: Decimal) -> str:
    """Plain digits: no exponent, no trailing zeros, no negative zero.

    >>> decimal_text(Decimal("65000.50")), decimal_text(Decimal("1E+3")), decimal_text(Decimal("-0.0"))
    ('65000.5', '1000', '0')
    """
    if value == 0:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def truncate_usd(value: Decimal) -> Decimal:
    """Fees and funding as the venue books them: toward zero to 6 decimals.

    >>> truncate_usd(Decimal("0.004845825")), truncate_usd(Decimal("-0.0126395"))
    (Decimal('0.004845'), Decimal('-0.012639'))
    """
    return value.quantize(USD_STEP, rounding=ROUND_DOWN)


def ledger_usd(value: Decimal) -> Decimal:
    """A profit as the ledger posts it: at most 12 decimals, so that sums below 10^16 USD stay exact in 28 digits.

    An average entry price may have no end; what was realised against it would then lose digits with every addition.

    >>> ledger_usd(Decimal("20")), ledger_usd(Decimal("1") / 3)
    (Decimal('20'), Decimal('0.333333333333'))
    """
    exponent = value.as_tuple().exponent
    return value.quantize(_LEDGER_STEP) if isinstance(exponent, int) and exponent < -12 else value


def floor_size(size: Decimal, sz_decimals: int) -> Decimal:
    """A size rounded down to the lot of `sz_decimals` decimals.

    >>> floor_size(Decimal("0.123456789"), 5)
    Decimal('0.12345')
    """
    return size.quantize(Decimal(1).scaleb(-sz_decimals), rounding=ROUND_DOWN)


def round_price(price: Decimal, px_decimals: int | None, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """The price nearest to `price` that the venue accepts: at most 5 significant figures and `px_decimals` decimals.

    Integer prices are always accepted, so a price of six digits keeps all of them. `px_decimals` of None means
    that only the significant figures bind. ValueError unless the price is finite and positive.

    >>> round_price(Decimal("12345.67"), 1), round_price(Decimal("123456.7"), 1), round_price(Decimal("0.0123456"), 6)
    (Decimal('12346'), Decimal('123457'), Decimal('0.012346'))
    """
    if not price.is_finite() or price <= 0:
        raise ValueError(f"a price must be finite and positive, not {price}")
    decimals = 4 - price.adjusted()
    if px_decimals is not None and decimals > px_decimals:
        decimals = px_decimals
    decimals = max(decimals, 0)
    return price.quantize(Decimal(1).scaleb(-decimals), rounding=rounding)


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_DURATION_S = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration_s(text: str) -> float:
    """Seconds from `90`, `60s`, `10m`, `2h`, `1d`; ValueError otherwise.

    >>> parse_duration_s("10m")
    600.0
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a duration: {text!r}; allowed: a number with s, m, h or d, as 10m")
    return float(match[1]) * _DURATION_S[match[2]]


def parse_time_ms(text: str) -> int:
    """Milliseconds since the epoch from ISO 8601 (UTC where no zone is given) or from plain milliseconds.

    >>> parse_time_ms("2025-06-30"), parse_time_ms("1751241600000")
    (1751241600000, 1751241600000)
    """
    text = text.strip()
    if re.fullmatch(r"-?\d{9,}", text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"not a time: {text!r}; allowed: ISO 8601 or milliseconds") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def iso_utc(time_ms: int) -> str:
    """A time as people read it, always UTC.

    >>> iso_utc(1751241600000)
    '2025-06-30T00:00:00Z'
    """
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{time_ms % 1000:03d}Z" if time_ms % 1000 else f"{text}Z"
