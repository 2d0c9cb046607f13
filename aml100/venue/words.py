"""Single words of the venue's: numbers, sides, statuses and ids from text, exact or refused.

msgspec accepts `"NaN"` as a Decimal, so numbers stay text on the wire and become Decimals here, where each is checked;
a `ProtocolViolation` names the path of what is wrong.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from aml100.domain.errors import ProtocolViolation
from aml100.domain.orders import OrderStatus, Side
from aml100.domain.units import Cloid

_LEAST: Final = Decimal("1e-39")
_BEYOND: Final = Decimal("1e40")
"""The magnitudes that `number` takes, as bounds: one comparison instead of three questions where every price passes."""


def number(text: str, path: str) -> Decimal:
    """A finite Decimal; ProtocolViolation naming `path` for NaN, infinities, absurd magnitudes and what is none."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ProtocolViolation(f"{path}: not a number: {text[:40]!r}") from None
    if not value.is_finite() or not -40 < value.adjusted() < 40 or len(text) > 64:
        raise ProtocolViolation(f"{path}: not a usable number: {text[:40]!r}")
    return value


def positive(text: str, path: str) -> Decimal:
    """A finite Decimal above zero, which every price is."""
    try:
        value = Decimal(text)
        if _LEAST <= value < _BEYOND and len(text) <= 64:
            return value
    except InvalidOperation:
        pass  # no number, or NaN, which compares with nothing
    number(text, path)
    raise ProtocolViolation(f"{path}: must be above zero: {text[:40]!r}")


def number_or_none(text: str | None, path: str) -> Decimal | None:
    return None if text is None else number(text, path)


def side_from(letter: str, path: str) -> Side:
    """`B` buys, `A` sells."""
    if letter == "B":
        return Side.BUY
    if letter == "A":
        return Side.SELL
    raise ProtocolViolation(f"{path}: not a side: {letter[:40]!r}; allowed: A, B")


def is_perpetual(coin: str) -> bool:
    """Spot pairs are named `@107` or `PURR/USDC`; everything else is a perpetual."""
    return not coin.startswith("@") and "/" not in coin


_STATUSES: Final = {
    "open": OrderStatus.RESTING,
    "triggered": OrderStatus.RESTING,
    "resting": OrderStatus.RESTING,
    "waitingForFill": OrderStatus.WAITING,
    "waitingForTrigger": OrderStatus.WAITING,
    "filled": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "rejected": OrderStatus.REJECTED,
}


def order_status(word: str) -> OrderStatus:
    """Our status for the venue's word. The venue's list grows, so unknown words are told by their ending.

    >>> order_status("open"), order_status("iocCancelRejected"), order_status("scheduledCancel")
    (<OrderStatus.RESTING: 'resting'>, <OrderStatus.REJECTED: 'rejected'>, <OrderStatus.CANCELED: 'canceled'>)
    """
    known = _STATUSES.get(word)
    if known is not None:
        return known
    if word.endswith("Rejected"):
        return OrderStatus.REJECTED
    if word.endswith(("Canceled", "Cancel")):
        return OrderStatus.CANCELED
    return OrderStatus.UNKNOWN


def status_reason(word: str) -> str:
    """The venue's word is worth keeping where it says more than our status."""
    return "" if word in ("open", "filled", "canceled") else word


def cloid_from(text: str | None) -> Cloid | None:
    return None if text is None else Cloid(text.lower())
