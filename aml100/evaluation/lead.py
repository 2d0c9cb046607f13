"""Is a lead more than luck: one-sided t over blocks of paired differences, looked at a few times.

Two models are priced on the same bars; their difference a bar is summed up over blocks long enough that positions held
across bars fall into one block, and the blocks' mean is tested against 0 with Student's t. Each look spends an equal
part of the level (Bonferroni), so that a challenger without a lead passes any of them with no more than the level's
probability, whatever the looks have to do with each other. Heavy tails make a t-test cautious, not bold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

LOOKS: Final = (1, 2, 4)
"""When a lead is looked at, in lengths of the first window."""
FUTILE: Final = 4.0
"""A lead that at its present size would need so many times the longest window to be told from luck is given up."""
_TERMS: Final = 300
_TINY: Final = 1e-300


@dataclass(frozen=True, slots=True)
class Lead:
    """`t` of the mean block, `chance` that luck alone brings as much; None with fewer than two blocks."""

    blocks: int
    t: float | None
    chance: float | None


def lead_of(blocks: Sequence[float]) -> Lead:
    """The lead shown by the differences of whole blocks."""
    count = len(blocks)
    if count < 2:
        return Lead(count, None, None)
    mean = math.fsum(blocks) / count
    variance = math.fsum((one - mean) ** 2 for one in blocks) / (count - 1)
    if variance <= 1e-24:
        return Lead(count, math.inf if mean > 1e-12 else 0.0, 0.0 if mean > 1e-12 else 1.0)
    t = mean / math.sqrt(variance / count)
    return Lead(count, t, student_t_tail(t, count - 1))


def windows_needed(lead: Lead, level: float) -> float | None:
    """Times the data so far until a lead that stays as it is would pass; None where it never would."""
    if lead.t is None or lead.t <= 0.0:
        return None
    wanted = NormalDist().inv_cdf(1.0 - min(level / len(LOOKS), 0.5))
    return max(1.0, (wanted / lead.t) ** 2)


def student_t_tail(t: float, freedom: int) -> float:
    """P(T > t) for Student's t.

    >>> [round(student_t_tail(t, n), 4) for t, n in ((1.7139, 23), (2.2622, 9), (0.0, 5), (-1.7139, 23))]
    [0.05, 0.025, 0.5, 0.95]
    """
    half = 0.5 * _incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
    return half if t >= 0.0 else 1.0 - half


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised I_x(a, b), by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _incomplete_beta(b, a, 1.0 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    value = d
    for m in range(1, _TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + term * d
            c = 1.0 + term / c
            d = 1.0 / (d if abs(d) > _TINY else _TINY)
            c = c if abs(c) > _TINY else _TINY
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return front * value / a
