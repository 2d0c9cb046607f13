"""Prices and amounts as the venue rounds them, compiled: `domain.units` in float64, held to it by tests."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from aml100.market.compiled import compiled

_UNIT: Final = 300
_TENS: Final = np.array([10.0**power for power in range(-_UNIT, 309)])
"""Powers of ten, from a table: raising to a power is most of what rounding a price costs."""


@compiled(error_model="numpy", inline="always")
def _ticks(price: float, px_decimals: int) -> float:
    """Ticks in one unit of a price of this size: five significant figures, `px_decimals` decimals at most."""
    exponent = math.floor(math.log10(price))
    if _TENS[_UNIT + exponent] > price:
        exponent -= 1
    elif _TENS[_UNIT + exponent + 1] <= price:
        exponent += 1
    decimals = 4 - exponent
    if px_decimals >= 0 and decimals > px_decimals:
        decimals = px_decimals
    scale: float = _TENS[_UNIT + max(decimals, 0)]
    return scale


@compiled(error_model="numpy")
def round_to_tick(price: float, px_decimals: int) -> float:
    """The nearest price the venue accepts, as domain.units.round_price; a tie is what lies within 1e-8 of one."""
    scale = _ticks(price, px_decimals)
    scaled = price * scale
    below = float(math.floor(scaled))
    left = scaled - below
    if left > 0.5 + 1e-8 or (left > 0.5 - 1e-8 and below % 2.0 == 1.0):
        below += 1.0
    return below / scale


@compiled(error_model="numpy")
def passive_price(price: float, side: int, px_decimals: int) -> float:
    """The nearest price the venue accepts that is no worse for this side than asked: down for a buy, up for a sell."""
    scale = _ticks(price, px_decimals)
    scaled = price * scale
    tick = math.floor(scaled + 1e-8) if side > 0 else math.ceil(scaled - 1e-8)
    return tick / scale


@compiled(error_model="numpy")
def truncate(amount: float) -> float:
    """Toward zero to 6 decimals; the 1e-7 of a step undoes binary rounding of amounts that are exact in decimals."""
    return math.copysign(math.floor(abs(amount) * 1e6 + 1e-7) / 1e6, amount)
