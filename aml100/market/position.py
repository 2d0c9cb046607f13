"""The position's own state as the policy sees it: one definition for training, back-test and live.

Scale-free, roughly of unit size and bounded: a policy must never meet a position that no training could have shown it,
because what it does there is chance, and where chance says hold, it holds for good (docs/adr/0013). A flat position
has zeros in everything that needs an entry.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from aml100.market.compiled import compiled

POSITION_FEATURES: Final = (
    "side",
    "unrealised_return",
    "bars_held",
    "to_target",
    "to_stop",
    "drawdown",
    "wins_in_row",
    "holds_in_row",
)
POSITION_SIZE: Final = len(POSITION_FEATURES)
WINS_COUNTED: Final = 5.0
HOLDS_COUNTED: Final = 3.0
"""More in a row look the same."""
BARS_COUNTED: Final = 10_000.0
"""Held longer looks the same."""
DRAWDOWN_COUNTED: Final = 0.1
"""A deeper one looks the same."""
PERCENT_LIMIT: Final = 10.0
"""What a distance in percent never reaches, however large it is."""


@compiled(inline="always")
def _bounded_pct(frac: float) -> float:
    """The fraction in percent, squashed: about itself where it is small, half of it at PERCENT_LIMIT."""
    pct = frac * 100.0
    return pct / (1.0 + abs(pct) / PERCENT_LIMIT)


@compiled(inline="always")
def position_features(
    side: float,
    entry: float,
    close: float,
    bars_held: float,
    target: float,
    stop: float,
    drawdown_frac: float,
    wins: float,
    holds: float,
    out: npt.NDArray[np.float64],
) -> None:
    """Write the POSITION_SIZE features of one position into `out`.

    Args:
        side: +1 long, -1 short, 0 flat.
        entry, close, target, stop: prices; `target` or `stop` of 0 means that there is none.
        bars_held: closed bars from the entry bar on, the entry bar included.
        drawdown_frac: of the account, from its peak, >= 0.
        wins: closed trades in a row that made money.
        holds: decisions to HOLD in a row.
    """
    out[0] = side
    out[1] = 0.0
    out[2] = 0.0
    out[3] = 0.0
    out[4] = 0.0
    if side != 0.0:
        out[1] = _bounded_pct(side * (close / entry - 1.0))
        out[2] = math.log1p(min(bars_held, BARS_COUNTED)) / 7.0
        if target > 0.0:
            out[3] = _bounded_pct(side * (target / close - 1.0))
        if stop > 0.0:
            out[4] = _bounded_pct(side * (close / stop - 1.0))
    out[5] = min(drawdown_frac, DRAWDOWN_COUNTED) * 20.0
    out[6] = min(wins, WINS_COUNTED) / WINS_COUNTED
    out[7] = min(holds, HOLDS_COUNTED) / HOLDS_COUNTED
