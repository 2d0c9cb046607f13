"""How much may still be asked of the venue, counted here so that it never has to refuse a close.

Two meters run. An IP address may spend a weight of 1200 in any 60 seconds; an account may send as many actions as its
lifetime volume has earned. Of both a reserve is kept back that only protective use may touch: cancels, closes, stops
and the reads that prove a halt (GUARANTEES B8, D18). Protective use is never held back here, not even beyond the
reserve: the venue decides then. Times are monotonic wall seconds.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import Final

WINDOW_S: Final = 60.0
_FIRST_PAUSE_S: Final = 2.0


class Use(Enum):
    ROUTINE = "routine"
    PROTECTIVE = "protective"


class IpBudget:
    """Weight spent within a sliding window."""

    def __init__(self, weight_per_minute: int = 1200, reserve: int = 240) -> None:
        self.limit = weight_per_minute
        self.reserve = reserve
        self._spent: deque[tuple[float, int]] = deque()
        self._sum = 0
        self._refusals = 0
        self._pause_until_s = -math.inf

    def used(self, now_s: float) -> int:
        """Weight spent within the last minute."""
        while self._spent and self._spent[0][0] <= now_s - WINDOW_S:
            self._sum -= self._spent.popleft()[1]
        return self._sum

    def wait_s(self, now_s: float, weight: int, use: Use) -> float:
        """Seconds until a request of `weight` may go; 0 for now.

        One that is larger than the whole allowance may go when nothing else was spent.
        """
        if use is Use.PROTECTIVE:
            return 0.0
        over = self.used(now_s) + weight - (self.limit - self.reserve)
        wait_s = self._pause_until_s - now_s
        for spent_s, spent in self._spent:
            if over <= 0:
                break
            over -= spent
            wait_s = max(wait_s, spent_s + WINDOW_S - now_s)
        return max(wait_s, 0.0)

    def take(self, now_s: float, weight: int) -> None:
        """A request goes out."""
        self._spent.append((now_s, weight))
        self._sum += weight

    def note_refusal(self, now_s: float) -> None:
        """The venue says (429) that too much was asked, more than is known here: others may share this address.

        Routine use pauses, longer with every refusal in a row.
        """
        self._refusals += 1
        self._pause_until_s = now_s + min(_FIRST_PAUSE_S * 2.0 ** (self._refusals - 1), WINDOW_S)

    def note_answer(self) -> None:
        """A request was served: the next refusal is the first again."""
        self._refusals = 0


class ActionBudget:
    """Actions of an account: used and allowed over its life, as the venue last said plus what was sent since."""

    def __init__(self, cap: int = 10_000, used: int = 0, reserve: int = 1_000) -> None:
        self.cap = cap
        self.used = used
        self._reserve = reserve

    @property
    def reserve(self) -> int:
        """Kept back for protective use: as configured, at most a tenth of the allowance."""
        return min(self._reserve, self.cap // 10)

    @property
    def remaining(self) -> int:
        return max(self.cap - self.used, 0)

    def admits(self, actions: int, use: Use) -> bool:
        return use is Use.PROTECTIVE or self.remaining - actions >= self.reserve

    def take(self, actions: int) -> None:
        self.used += actions

    def sync(self, used: int, cap: int) -> None:
        """Take over the venue's own count; its allowance grows with the volume traded."""
        self.used, self.cap = used, cap
