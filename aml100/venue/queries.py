"""What the venue is asked about its market, and its answers in our words.

Ranges are fetched in pages until they are complete. Questions about an account are in `account_queries`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from aml100.domain.errors import ProtocolViolation
from aml100.domain.market import Bar, FundingRate, Instrument
from aml100.domain.units import Coin, interval_name
from aml100.venue import codec, wire
from aml100.venue.account_queries import HEAVY, LIGHT, AccountQueries
from aml100.venue.budget import ActionBudget
from aml100.venue.news import ExchangeStatus
from aml100.venue.signing import Json
from aml100.venue.transport import Transport

_PAGE: Final = 500
"""The venue answers ranges of time with at most this many elements (5000 candles)."""


class Queries(AccountQueries):
    """Every question of /info that an engine has."""

    def __init__(
        self, transport: Transport, action_budget: ActionBudget, origin: str = "", dexes: Sequence[str] = ()
    ) -> None:
        """`origin` (it may change) is what bars from here carry; `dexes` are the builders' exchanges traded too."""
        super().__init__(transport, action_budget, dexes)
        self.origin = origin
        self._instruments: dict[Coin, Instrument] = {}

    # --- the market ---------------------------------------------------------------------------------------------

    async def instruments(self) -> dict[Coin, Instrument]:
        """Rules of every listed perpetual, asked anew; also what orders are rounded by from now on."""
        found: dict[Coin, Instrument] = {}
        for dex in self._dexes:
            meta = await self._transport.fetch_info({"type": "meta", "dex": dex}, wire.Meta, HEAVY)
            found |= codec.instruments_from(meta, await self._first_id(dex))
        self._instruments = found
        return found

    async def _first_id(self, dex: str) -> int:
        """Asset ids of an exchange begin at 100000 + 10000 times its place in the list; the main one stands first."""
        if not dex:
            return 0
        listed = await self._transport.fetch_info({"type": "perpDexs"}, list[wire.PerpDex | None], HEAVY)
        names = ["" if entry is None else entry.name for entry in listed]
        if dex not in names:
            raise ProtocolViolation(f"perpDexs: no exchange {dex!r}; listed: {', '.join(filter(None, names))[:200]}")
        return 100_000 + 10_000 * names.index(dex)

    async def all_mids(self) -> dict[Coin, Decimal]:
        """Middle of every perpetual's book; last trade where the book is empty."""
        return dict(codec.mids_from(await self._transport.fetch_info({"type": "allMids"}, dict[str, str], LIGHT)))

    async def candles(
        self, coin: Coin, interval_ms: int, start_ms: int, end_ms: int, closed_by_ms: int | None = None
    ) -> list[Bar]:
        """Bars that open within [start_ms, end_ms), as far back as the venue still has them (the latest 5000).

        Args:
            coin, interval_ms: which series.
            start_ms, end_ms: UTC milliseconds.
            closed_by_ms: leaves out bars that end after this moment, for those are still forming.
        """
        bars: list[Bar] = []
        name = interval_name(interval_ms)
        while start_ms < end_ms:
            span: dict[str, Json] = {"coin": coin, "interval": name, "startTime": start_ms, "endTime": end_ms - 1}
            weight = HEAVY + min((end_ms - start_ms) // interval_ms, 5_000) // 60
            rows = await self._transport.fetch_info(
                {"type": "candleSnapshot", "req": span}, list[wire.CandleWire], weight
            )
            fresh = [codec.bar_from(row, self.origin) for row in rows if start_ms <= row.t < end_ms]
            bars += fresh
            if not fresh or len(rows) < _PAGE:
                break
            start_ms = fresh[-1].end_ms
        return [bar for bar in bars if closed_by_ms is None or bar.end_ms <= closed_by_ms]

    async def funding_history(self, coin: Coin, start_ms: int, end_ms: int) -> list[FundingRate]:
        """Hourly rates settled within [start_ms, end_ms)."""
        rates: list[FundingRate] = []
        while start_ms < end_ms:
            request: dict[str, Json] = {
                "type": "fundingHistory", "coin": coin, "startTime": start_ms, "endTime": end_ms - 1
            }  # fmt: skip
            rows = await self._transport.fetch_info(request, list[wire.FundingRateWire], HEAVY + _PAGE // 20)
            rates += [codec.funding_rate_from(row) for row in rows]
            if len(rows) < _PAGE:
                break
            start_ms = rows[-1].time + 1
        return rates

    async def exchange_status(self) -> ExchangeStatus:
        answer = await self._transport.fetch_info({"type": "exchangeStatus"}, wire.ExchangeStatusWire, LIGHT)
        speed = 1.0 if answer.speed is None else answer.speed
        return ExchangeStatus(answer.time, speed, answer.ended, answer.speed is not None)
