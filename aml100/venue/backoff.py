"""How long to wait before trying again: exponential, with full jitter so that many clients do not come back at once."""

from __future__ import annotations

import numpy as np


class Backoff:
    """Draws waits between nothing and a bound that doubles with every failure in a row."""

    def __init__(self, rng: np.random.Generator, first_s: float = 0.25, most_s: float = 30.0) -> None:
        self._rng = rng
        self._first_s = first_s
        self._most_s = most_s
        self.failures = 0

    def next_s(self) -> float:
        """Seconds to wait after one more failure."""
        bound = min(self._first_s * 2.0 ** min(self.failures, 30), self._most_s)
        self.failures += 1
        return float(self._rng.uniform(bound / 10, bound))

    def reset(self) -> None:
        """Something worked: the next failure is the first again."""
        self.failures = 0
