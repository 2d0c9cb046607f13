"""The smallest words of the simulated venue's answers: decimals as text with a point in it, sides as letters.

Ids and times leave as integers, addresses in lower case. Amounts that come from a division (average entry, return on
equity, liquidation price) are cut to ten decimals; prices and sizes of fills never are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeAlias

from aml100.domain.orders import Side
from aml100.domain.units import decimal_text

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Object: TypeAlias = dict[str, Json]

ZERO_HASH: Final = "0x" + 64 * "0"
_ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}")
_TENTH: Final = Decimal("1e-10")


def address_of(value: object) -> str | None:
    """An account as this venue names it, in lower case; None for what is no address."""
    name = value.lower() if isinstance(value, str) else ""
    return name if _ADDRESS.fullmatch(name) else None


def text(value: Decimal) -> str:
    """A decimal as the venue writes it.

    >>> text(Decimal("65000")), text(Decimal("0.50"))
    ('65000.0', '0.5')
    """
    plain = decimal_text(value)
    return plain if "." in plain else plain + ".0"


def rough(value: Decimal) -> str:
    """A derived amount, cut to ten decimals."""
    return text(value.quantize(_TENTH))


def side_letter(side: Side) -> str:
    return "B" if side is Side.BUY else "A"
