"""What waits for the engine's one consumer, in order, and what becomes of it when the consumer falls behind.

Nothing is left out until `limit` items wait. Then of market data the newest counts: an older book, context or state of
the same forming bar says nothing that the newer one does not. Account events, commands, the states of different bars
and whatever else cannot be had again stay, every one and in order (STYLE section 7).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from aml100.domain.events import ConcernChanged, Tick
from aml100.domain.market import AssetContext, BookTop
from aml100.venue.news import CandleUpdate, DepthSeen, MidsSeen, TradesSeen

T = TypeVar("T")

LIMIT: Final = 4_096
"""Items that wait before market data is thinned: far more than any step of a simulated venue brings."""
CALM_S: Final = 5.0
"""Wall seconds without anything left out after which an overload is over."""
_BEHIND: Final = "market data came faster than it was taken in: the newest was kept, what was older left out"


def superseded_by(item: object) -> Hashable | None:
    """What a later item of the same key makes pointless; None for what is never left out.

    Prints are told by the frame: of those left out, a paper fill that they would have brought is lost, never one of
    the venue's.
    """
    match item:
        case BookTop() | AssetContext() | DepthSeen():
            return type(item).__name__, item.coin
        case CandleUpdate():
            return "candle", item.bar.coin, item.bar.open_ms
        case TradesSeen():
            return "trades", frozenset(trade.coin for trade in item.trades)
        case MidsSeen() | Tick():
            return type(item).__name__
        case _:
            return None


class Inbox(Generic[T]):
    """A queue for one consumer on one loop. `left_out` counts what was dropped for something newer."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.left_out = 0
        self._items: deque[T] = deque()
        self._limit = self._full_at = limit
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Queue an item; never refuses and never waits."""
        self._items.append(item)
        if len(self._items) >= self._full_at:
            self._make_room()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> T:
        """The next item, once there is one. Cancelling the wait loses nothing."""
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()

    def get_nowait(self) -> T:
        """The next item of some that are there."""
        return self._items.popleft()

    def _make_room(self) -> None:
        """Keep the newest of each key, at its own place; the next look comes when as much again has gathered."""
        kept: deque[T] = deque()
        known: set[Hashable] = set()
        for item in reversed(self._items):
            key = superseded_by(item)
            if key is None or key not in known:
                kept.appendleft(item)
                known.add(key)
        self.left_out += len(self._items) - len(kept)
        self._items = kept
        self._full_at = max(self._limit, 2 * len(kept))


class Overload:
    """Turns the inbox's count into a concern: while market data is left out there are no entries."""

    def __init__(self, calm_s: float = CALM_S) -> None:
        self._calm_s = calm_s
        self._known = 0
        self._since_s: float | None = None

    def check(self, left_out: int, now_s: float) -> ConcernChanged | None:
        """Look at the count now and then; a change of the concern, if there is one."""
        began = self._since_s is None
        if left_out != self._known:
            self._known, self._since_s = left_out, now_s
            return ConcernChanged("overload", _BEHIND) if began else None
        if self._since_s is not None and now_s - self._since_s >= self._calm_s:
            self._since_s = None
            return ConcernChanged("overload", "")
        return None
