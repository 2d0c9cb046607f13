"""Settled funding rates on their way to the core: from the tape that the embedded venue plays, or from the venue.

A rate is a feature of the bars that open from its settlement on, and of none before. So history is told in between
the bars of the warm-up, and news before the first bar that may know it; what the core has been told already is asked
from the core, which keeps it across a restart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Protocol

from aml100.domain.events import SettledFunding
from aml100.domain.units import HOUR_MS, Coin
from aml100.market.features import FUNDING_FRESH_MS
from aml100.sim.scenario import Tape
from aml100.trading.core import TradingCore
from aml100.venue.queries import Queries

ASK_AGAIN_S: Final = 5.0


class FundingSource(Protocol):
    """Where settled rates come from."""

    async def settled(self, coin: Coin, from_ms: int, to_ms: int) -> Sequence[SettledFunding]:
        """Those settled within [from_ms, to_ms), oldest first."""


class TapeFunding:
    """What the embedded venue's tape says; without a funding history on it, nothing is known."""

    def __init__(self, tape: Tape) -> None:
        self._by_coin = {coin: tape.settlements(coin) for coin in tape.coins}
        self._times = {coin: [one.time_ms for one in ones] for coin, ones in self._by_coin.items()}

    async def settled(self, coin: Coin, from_ms: int, to_ms: int) -> Sequence[SettledFunding]:
        times = self._times[coin]
        return self._by_coin[coin][bisect_left(times, from_ms) : bisect_left(times, to_ms)]


class VenueFunding:
    """What the venue settled, an hour at a time."""

    def __init__(self, venue: Queries) -> None:
        self._venue = venue

    async def settled(self, coin: Coin, from_ms: int, to_ms: int) -> Sequence[SettledFunding]:
        rates = await self._venue.funding_history(coin, from_ms, to_ms)
        return [
            SettledFunding(coin, one.time_ms, float(one.rate), None if one.premium is None else float(one.premium))
            for one in rates
        ]


class FundingWatch:
    """Tells one engine's core what has been settled since it was last told."""

    def __init__(self, source: FundingSource, core: TradingCore) -> None:
        self._source = source
        self._core = core
        self._asked_s: dict[Coin, float] = {}

    async def history(self, coin: Coin, from_ms: int, to_ms: int) -> list[SettledFunding]:
        """All that bars which open in [from_ms, to_ms) may know, for a warm-up."""
        return list(await self._source.settled(coin, from_ms - FUNDING_FRESH_MS, to_ms))

    async def news(self, coin: Coin, open_ms: int) -> list[SettledFunding]:
        """What the core does not know yet and a bar that opens at `open_ms` may know."""
        known_ms = max((time_ms for time_ms, _, _ in self._core.coin(coin).fundings), default=0)
        from_ms = max(known_ms + 1, open_ms - FUNDING_FRESH_MS)
        return list(await self._source.settled(coin, from_ms, open_ms + 1)) if from_ms <= open_ms else []

    def is_due(self, coin: Coin, now_ms: int, now_s: float) -> bool:
        """A full hour has begun whose rate the core does not know, and it was not asked for just now."""
        hour_ms = now_ms // HOUR_MS * HOUR_MS
        fundings = self._core.coin(coin).fundings
        if (fundings and fundings[-1][0] >= hour_ms) or now_s - self._asked_s.get(coin, -ASK_AGAIN_S) < ASK_AGAIN_S:
            return False
        self._asked_s[coin] = now_s
        return True
