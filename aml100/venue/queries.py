"""What the venue is asked, and its answers in our words.

Ranges are fetched in pages until they are complete. What proves the state of the account (positions, orders, fills)
may use the reserve of the budget, so that a halt can be read back whatever else was asked before.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from aml100.domain.errors import ProtocolViolation
from aml100.domain.events import FundingPaid, OrderChanged, RestingOrder
from aml100.domain.market import AssetContext, Bar, BookTop, FundingRate, Instrument
from aml100.domain.orders import Fill
from aml100.domain.units import Cloid, Coin, interval_name
from aml100.venue import codec, wire
from aml100.venue.budget import ActionBudget, Use
from aml100.venue.news import AccountState, Agent, ExchangeStatus, RateLimit
from aml100.venue.signing import Json
from aml100.venue.transport import Transport

_LIGHT: Final = 2
_HEAVY: Final = 20
_PAGE: Final = 500
"""The venue answers ranges of time with at most this many elements (2000 fills, 5000 candles)."""
_FILLS_PAGE: Final = 2_000


class Queries:
    """Every question of /info that an engine has."""

    def __init__(
        self, transport: Transport, action_budget: ActionBudget, origin: str = "", dexes: Sequence[str] = ()
    ) -> None:
        """`origin` is what bars from here carry, `dexes` the builders' exchanges traded beside the main one."""
        self.action_budget = action_budget
        self._transport = transport
        self._origin = origin
        self._dexes = ("", *dexes)
        self._instruments: dict[Coin, Instrument] = {}

    # --- the market ---------------------------------------------------------------------------------------------

    async def instruments(self) -> dict[Coin, Instrument]:
        """Rules of every listed perpetual, asked anew; also what orders are rounded by from now on."""
        found: dict[Coin, Instrument] = {}
        for dex in self._dexes:
            meta = await self._transport.fetch_info({"type": "meta", "dex": dex}, wire.Meta, _HEAVY)
            found |= codec.instruments_from(meta, await self._first_id(dex))
        self._instruments = found
        return found

    async def _first_id(self, dex: str) -> int:
        """Asset ids of the k-th builder's exchange begin at 110000 + 10000 k."""
        if not dex:
            return 0
        listed = await self._transport.fetch_info({"type": "perpDexs"}, list[wire.PerpDex | None], _HEAVY)
        names = [entry.name for entry in listed if entry is not None]
        if dex not in names:
            raise ProtocolViolation(f"perpDexs: no exchange {dex!r}; listed: {', '.join(names)[:200]}")
        return 110_000 + 10_000 * names.index(dex)

    async def contexts(self) -> dict[Coin, AssetContext]:
        """Mark, oracle and funding of every listed perpetual that has a mark price."""
        found: dict[Coin, AssetContext] = {}
        for dex in self._dexes:
            meta, contexts = await self._transport.fetch_info(
                {"type": "metaAndAssetCtxs", "dex": dex}, tuple[wire.Meta, list[wire.ContextWire]], _HEAVY
            )
            if len(contexts) != len(meta.universe):
                raise ProtocolViolation("metaAndAssetCtxs: the two lists differ in length")
            for entry, ctx in zip(meta.universe, contexts, strict=True):
                context = None if entry.isDelisted else codec.context_from(Coin(entry.name), ctx)
                if context is not None:
                    found[context.coin] = context
        return found

    async def all_mids(self) -> dict[Coin, Decimal]:
        """Middle of every perpetual's book; last trade where the book is empty."""
        return dict(codec.mids_from(await self._transport.fetch_info({"type": "allMids"}, dict[str, str], _LIGHT)))

    async def book_top(self, coin: Coin) -> BookTop:
        request: dict[str, Json] = {"type": "l2Book", "coin": coin}
        return codec.book_from(await self._transport.fetch_info(request, wire.BookWire, _LIGHT))

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
            weight = _HEAVY + min((end_ms - start_ms) // interval_ms, 5_000) // 60
            rows = await self._transport.fetch_info(
                {"type": "candleSnapshot", "req": span}, list[wire.CandleWire], weight
            )
            fresh = [codec.bar_from(row, self._origin) for row in rows if start_ms <= row.t < end_ms]
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
            rows = await self._transport.fetch_info(request, list[wire.FundingRateWire], _HEAVY + _PAGE // 20)
            rates += [codec.funding_rate_from(row) for row in rows]
            if len(rows) < _PAGE:
                break
            start_ms = rows[-1].time + 1
        return rates

    async def exchange_status(self) -> ExchangeStatus:
        answer = await self._transport.fetch_info({"type": "exchangeStatus"}, wire.ExchangeStatusWire, _LIGHT)
        speed = 1.0 if answer.speed is None else answer.speed
        return ExchangeStatus(answer.time, speed, answer.ended, answer.speed is not None)

    # --- the account --------------------------------------------------------------------------------------------

    async def account(self, address: str) -> AccountState:
        """Equity and positions, over all the exchanges traded.

        An equity that is unknown on the main one is unknown, whatever the others hold.
        """
        states = [
            codec.account_from(
                await self._transport.fetch_info(
                    {"type": "clearinghouseState", "user": address.lower(), "dex": dex},
                    wire.ClearinghouseState,
                    _LIGHT,
                    Use.PROTECTIVE,
                )
            )
            for dex in self._dexes
        ]
        main = states[0]
        if main.equity is None:
            equity = None
        else:
            equity = sum((state.equity for state in states[1:] if state.equity is not None), main.equity)
        return AccountState(equity, main.withdrawable, tuple(held for state in states for held in state.positions))

    async def resting_orders(self, address: str) -> tuple[RestingOrder, ...]:
        """Everything that rests, ours or not; children of a waiting parent are listed as orders of their own."""
        found: dict[int, RestingOrder] = {}
        for dex in self._dexes:
            request: dict[str, Json] = {"type": "frontendOpenOrders", "user": address.lower(), "dex": dex}
            rows = await self._transport.fetch_info(request, list[wire.FrontOrder], _HEAVY, Use.PROTECTIVE)
            for row in (order for parent in rows for order in (parent, *parent.children)):
                if codec.is_perpetual(row.coin):
                    found[row.oid] = codec.resting_from(row)
        return tuple(found.values())

    async def order_status(self, address: str, cloid: Cloid) -> OrderChanged | None:
        """What became of an order of ours; None where the venue does not know it."""
        request: dict[str, Json] = {"type": "orderStatus", "user": address.lower(), "oid": cloid}
        answer = await self._transport.fetch_info(request, wire.OrderStatusAnswer, _LIGHT, Use.PROTECTIVE)
        return codec.order_changed_from(cloid, answer)

    async def fills_since(self, address: str, start_ms: int) -> list[Fill]:
        """Fills from `start_ms` on, oldest first, each once."""
        found: dict[str, Fill] = {}
        while True:
            request: dict[str, Json] = {"type": "userFillsByTime", "user": address.lower(), "startTime": start_ms}
            rows = await self._transport.fetch_info(request, list[wire.FillWire], _HEAVY, Use.PROTECTIVE)
            for row in rows:
                if codec.is_perpetual(row.coin):
                    fill = codec.fill_from(row, address)
                    found[fill.fill_id] = fill
            if len(rows) < _FILLS_PAGE:
                return sorted(found.values(), key=lambda fill: fill.time_ms)
            last_ms = max(row.time for row in rows)
            start_ms = last_ms if last_ms > start_ms else start_ms + 1

    async def funding_since(self, address: str, start_ms: int) -> list[FundingPaid]:
        """Funding payments from `start_ms` on, oldest first, each once."""
        found: dict[tuple[Coin, int], FundingPaid] = {}
        while True:
            request: dict[str, Json] = {"type": "userFunding", "user": address.lower(), "startTime": start_ms}
            rows = await self._transport.fetch_info(request, list[wire.FundingEntry], _HEAVY + _PAGE // 20)
            for row in rows:
                paid = codec.funding_paid_from(codec.funding_entry(row))
                found[paid.coin, paid.time_ms] = paid
            if len(rows) < _PAGE:
                return sorted(found.values(), key=lambda paid: paid.time_ms)
            last_ms = max(row.time for row in rows)
            start_ms = last_ms if last_ms > start_ms else start_ms + 1

    async def user_rate_limit(self, address: str) -> RateLimit:
        """Actions used and allowed; the client's own count is set to it."""
        request: dict[str, Json] = {"type": "userRateLimit", "user": address.lower()}
        answer = await self._transport.fetch_info(request, wire.RateLimitWire, _HEAVY)
        self.action_budget.sync(answer.nRequestsUsed, answer.nRequestsCap)
        return RateLimit(answer.nRequestsUsed, answer.nRequestsCap, codec.number(answer.cumVlm, "cumVlm"))

    async def extra_agents(self, address: str) -> tuple[Agent, ...]:
        """Named keys that may trade for the account; the unnamed one is not listed by the venue."""
        request: dict[str, Json] = {"type": "extraAgents", "user": address.lower()}
        rows = await self._transport.fetch_info(request, list[wire.AgentWire], _HEAVY)
        return tuple(Agent(row.name, row.address.lower(), row.validUntil) for row in rows)
