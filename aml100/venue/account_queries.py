"""What the venue is asked about an account, and its answers in our words.

What proves the state of the account (positions, orders, fills) may use the reserve of the budget, so that a halt can be
read back whatever else was asked before. The address is always the master's (or the sub-account's): an agent's gives
empty answers, which look like a wiped account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aml100.domain.events import FundingPaid, OrderChanged, RestingOrder
from aml100.domain.orders import Fill
from aml100.domain.units import Cloid, Coin
from aml100.venue import codec, wire
from aml100.venue.budget import ActionBudget, Use
from aml100.venue.news import AccountState, Agent, CoinLeverage, MoneyMoved, RateLimit, Role
from aml100.venue.signing import Json
from aml100.venue.transport import Transport
from aml100.venue.words import is_perpetual, number

LIGHT: Final = 2
HEAVY: Final = 20
ROLE: Final = 60
_PAGE: Final = 500
"""The venue answers ranges of time with at most this many elements."""
_FILLS_PAGE: Final = 2_000


class AccountQueries:
    """Questions about positions, orders, fills, money and keys of an account."""

    def __init__(self, transport: Transport, action_budget: ActionBudget, dexes: Sequence[str] = ()) -> None:
        """`dexes` are the builders' exchanges traded beside the main one."""
        self.action_budget = action_budget
        self._transport = transport
        self._dexes = ("", *dexes)

    async def account(self, address: str) -> AccountState:
        """Equity and positions, over all the exchanges traded.

        An equity that is unknown on the main one is unknown, whatever the others hold.
        """
        states = [
            codec.account_from(
                await self._transport.fetch_info(
                    {"type": "clearinghouseState", "user": address.lower(), "dex": dex},
                    wire.ClearinghouseState,
                    LIGHT,
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
            rows = await self._transport.fetch_info(request, list[wire.FrontOrder], HEAVY, Use.PROTECTIVE)
            for row in (order for parent in rows for order in (parent, *parent.children)):
                if is_perpetual(row.coin):
                    found[row.oid] = codec.resting_from(row)
        return tuple(found.values())

    async def order_status(self, address: str, cloid: Cloid) -> OrderChanged | None:
        """What became of an order of ours; None where the venue does not know it."""
        request: dict[str, Json] = {"type": "orderStatus", "user": address.lower(), "oid": cloid}
        answer = await self._transport.fetch_info(request, wire.OrderStatusAnswer, LIGHT, Use.PROTECTIVE)
        return codec.order_changed_from(cloid, answer)

    async def fills_since(self, address: str, start_ms: int) -> list[Fill]:
        """Fills from `start_ms` on, oldest first, each once."""
        found: dict[str, Fill] = {}
        while True:
            request: dict[str, Json] = {"type": "userFillsByTime", "user": address.lower(), "startTime": start_ms}
            rows = await self._transport.fetch_info(request, list[wire.FillWire], HEAVY, Use.PROTECTIVE)
            for row in rows:
                if is_perpetual(row.coin):
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
            rows = await self._transport.fetch_info(request, list[wire.FundingEntry], HEAVY + _PAGE // 20)
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
        answer = await self._transport.fetch_info(request, wire.RateLimitWire, HEAVY)
        self.action_budget.sync(answer.nRequestsUsed, answer.nRequestsCap)
        return RateLimit(answer.nRequestsUsed, answer.nRequestsCap, number(answer.cumVlm, "cumVlm"))

    async def extra_agents(self, address: str) -> tuple[Agent, ...]:
        """Named keys that may trade for the account; the unnamed one is not listed by the venue."""
        request: dict[str, Json] = {"type": "extraAgents", "user": address.lower()}
        rows = await self._transport.fetch_info(request, list[wire.AgentWire], HEAVY)
        return tuple(Agent(row.name, row.address.lower(), row.validUntil) for row in rows)

    async def leverage_of(self, address: str, coin: Coin) -> CoinLeverage:
        """Leverage and margin mode that the venue has for this coin now, with or without a position."""
        request: dict[str, Json] = {"type": "activeAssetData", "user": address.lower(), "coin": coin}
        answer = await self._transport.fetch_info(request, wire.ActiveAssetWire, HEAVY)
        return CoinLeverage(answer.leverage.value, answer.leverage.type == "cross")

    async def role(self, address: str) -> Role:
        """What an address is to the venue; for an agent, whose."""
        request: dict[str, Json] = {"type": "userRole", "user": address.lower()}
        answer = await self._transport.fetch_info(request, wire.RoleWire, ROLE)
        master = None if answer.data is None or answer.data.user is None else answer.data.user.lower()
        return Role(answer.role, master)

    async def money_moved_since(self, address: str, start_ms: int) -> list[MoneyMoved]:
        """Deposits (> 0) and withdrawals (< 0) from `start_ms` on, oldest first."""
        request: dict[str, Json] = {
            "type": "userNonFundingLedgerUpdates", "user": address.lower(), "startTime": start_ms
        }  # fmt: skip
        rows = await self._transport.fetch_info(request, list[wire.LedgerUpdate], HEAVY)
        moved = (codec.money_moved_from(row, address) for row in rows)
        return sorted((one for one in moved if one is not None), key=lambda one: one.time_ms)
