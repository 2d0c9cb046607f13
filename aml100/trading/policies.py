"""What decides: the protocol that a trained model and the baselines share, and the baselines.

A policy sees one row of features a bar and the position's own state; it answers with an action. It holds no money, no
order and no clock; what state it has can be saved and restored, so that a restart goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from aml100.domain.orders import Action
from aml100.market.features import FEATURES


class PolicyAnswer(msgspec.Struct, frozen=True):
    """`q` is (hold, buy, sell), None for a policy without Q values; `confidence` 0 to 1; `note` says why it holds."""

    action: Action
    q: tuple[float, float, float] | None = None
    confidence: float = 1.0
    note: str = ""


_SURE: Final = (PolicyAnswer(Action.HOLD), PolicyAnswer(Action.BUY), PolicyAnswer(Action.SELL))
_HOLD, _BUY, _SELL = _SURE


class Policy(Protocol):
    """One instance a coin."""

    name: str

    def observe(self, row: npt.NDArray[np.float64]) -> None:
        """Take in the features of a closed bar, shape [F]; called once a bar, decision or not."""

    def decide(self, position: npt.NDArray[np.float64], bar_ms: int) -> PolicyAnswer:
        """Answer for the bar last observed, which opened at `bar_ms`; `position` has shape [POSITION_SIZE]."""

    def reset(self) -> None:
        """A new contiguous series begins."""

    def export_state(self) -> bytes:
        """Everything needed to go on after a restart."""

    def restore(self, state: bytes) -> None:
        """Go on from `export_state`."""


class _Stateless:
    """A baseline that remembers nothing beyond the row last observed."""

    name = ""

    def __init__(self) -> None:
        self._row: npt.NDArray[np.float64] = np.zeros(len(FEATURES))

    def observe(self, row: npt.NDArray[np.float64]) -> None:
        self._row = row

    def reset(self) -> None:
        self._row = np.zeros(len(FEATURES))

    def export_state(self) -> bytes:
        return b""

    def restore(self, state: bytes) -> None:
        """Nothing to restore: the next row brings all there is."""


class Flat(_Stateless):
    """Never trades."""

    name = "flat"

    def decide(self, position: npt.NDArray[np.float64], bar_ms: int) -> PolicyAnswer:
        return _HOLD


class AwaitingModel(_Stateless):
    """Stands in until the first model is trained: holds, and says so."""

    name = "awaiting-model"

    def decide(self, position: npt.NDArray[np.float64], bar_ms: int) -> PolicyAnswer:
        return PolicyAnswer(Action.HOLD, confidence=0.0, note="no model yet: the first one is not trained")


class Random(_Stateless):
    """Acts at random, one bar in 20: a function of seed and bar alone, so any restart and any path agree."""

    name = "random"
    every: Final = 20

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def decide(self, position: npt.NDArray[np.float64], bar_ms: int) -> PolicyAnswer:
        digest = hashlib.blake2b(f"{self._seed}:{bar_ms}".encode(), digest_size=8).digest()
        draw = int.from_bytes(digest, "big")
        if draw % self.every:
            return _HOLD
        return _BUY if draw >> 32 & 1 else _SELL


class BuyAndHold(_Stateless):
    """Buys at its first decision and keeps; obeys neither TP, SL, time exit nor section 9."""

    name = "buy-and-hold"

    def decide(self, position: npt.NDArray[np.float64], bar_ms: int) -> PolicyAnswer:
        return _BUY


class Momentum(_Stateless):
    """Goes with the last hour's move (60 bars) where it exceeds two of its usual standard deviations."""

    name = "momentum"
    _ret = FEATURES.index("ret_60")
    _vol = FEATURES.index("vol_60")

    def decide(self, position: npt.NDArray[np.float64], bar_ms: int) -> PolicyAnswer:
        move, sd = self._row.item(self._ret), self._row.item(self._vol) * 60**0.5
        if move > 2 * sd:
            return _BUY
        if move < -2 * sd:
            return _SELL
        return _HOLD


class MeanReversion(_Stateless):
    """Goes against a close more than two standard deviations from its 20-bar mean."""

    name = "mean-reversion"
    _z = FEATURES.index("bollinger_z")

    def decide(self, position: npt.NDArray[np.float64], bar_ms: int) -> PolicyAnswer:
        z = self._row.item(self._z)
        if z < -2:
            return _BUY
        if z > 2:
            return _SELL
        return _HOLD


class Scheduled(_Stateless):
    """Plays actions fixed beforehand by bar: the hindsight oracle, and parity tests.

    At the bars in `only_leaves` an action closes what is held against it and never opens anything.
    """

    def __init__(self, name: str, actions: Mapping[int, Action], only_leaves: Collection[int] = frozenset()) -> None:
        super().__init__()
        self.name = name
        self._actions = actions
        self._only_leaves = only_leaves

    def decide(self, position: npt.NDArray[np.float64], bar_ms: int) -> PolicyAnswer:
        if bar_ms in self._only_leaves and position[0] == 0.0:
            return _HOLD
        action = self._actions.get(bar_ms)
        return _HOLD if action is None else _SURE[action]


BASELINES: Final[Mapping[str, Callable[[int], Policy]]] = {
    "flat": lambda seed: Flat(),
    "random": Random,
    "buy-and-hold": lambda seed: BuyAndHold(),
    "momentum": lambda seed: Momentum(),
    "mean-reversion": lambda seed: MeanReversion(),
}
"""By name; each takes the seed of the run."""
