"""The venue's requests as the engine knows them: what is asked, what is ordered.

Questions answer in domain words and may be asked at any time. What is ordered needs a signer; without one, as in
paper trading, every order is a `SafetyRefusal` (GUARANTEES D21). Refusals of the venue are values, an unknown outcome
is `VenueUnavailable`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final

import numpy as np

from aml100.domain.clock import wall_ms
from aml100.domain.errors import InvariantBroken, SafetyRefusal
from aml100.domain.events import Grouping, OrderChanged
from aml100.domain.market import Instrument
from aml100.domain.orders import Order, OrderStatus
from aml100.domain.units import Cloid, Coin
from aml100.venue import placing, wire
from aml100.venue.budget import ActionBudget, IpBudget, Use
from aml100.venue.placing import MarginMode
from aml100.venue.queries import Queries
from aml100.venue.refusals import Refusal, refusal_kind
from aml100.venue.signing import Json, Network, NonceSource, Signer
from aml100.venue.transport import Timeouts, Transport

if TYPE_CHECKING:
    from aml100.domain.clock import Clock

_SYNC_EVERY_S: Final = 60.0


class VenueRest(Queries):
    """Client of one venue for one account; `async with`.

    `refuse_risk` latches it: from then on only cancels and reduce-only orders pass, whoever asks (GUARANTEES D13).
    """

    def __init__(
        self,
        rest_url: str,
        network: Network,
        signer: Signer | None,
        account: str | None,
        clock: Clock,
        *,
        origin: str = "",
        dexes: Sequence[str] = (),
        ip_budget: IpBudget | None = None,
        action_budget: ActionBudget | None = None,
        timeouts: Timeouts | None = None,
        expires_after_ms: int | None = 15_000,
        wall: Callable[[], int] = wall_ms,
        seed: int = 0,
    ) -> None:
        """Nothing is connected yet.

        Args:
            rest_url: http(s)://HOST[:PORT].
            network: `mainnet`, or `other` for the test network and simulated venues.
            signer: None where nothing may ever be ordered.
            account: address traded for: the master's, not that of its agent.
            clock: its monotonic seconds pace the budgets.
            origin: what bars from here carry.
            dexes: builders' exchanges whose markets are traded too.
            ip_budget, action_budget: the venue's limits where not given.
            timeouts: see `Timeouts`.
            expires_after_ms: wall milliseconds after which the venue refuses an order that is still on its way;
                once they have passed, an order it does not know will never appear.
            wall: wall milliseconds, which nonces and expiry count in whatever runs the market.
            seed: of the jitter in pauses.

        Raises:
            SafetyRefusal: the signer signs for another network.
        """
        if signer is not None and signer.is_mainnet != (network == "mainnet"):
            raise SafetyRefusal(f"wrong network: the signer does not sign for {network}")
        self.account_address = account.lower() if account is not None else None
        self.ip_budget = ip_budget or IpBudget()
        self.refuses_risk_because: str | None = None
        self.nonce_refusals = 0
        """How often the venue refused a nonce of ours; our clock or another process with this key is the reason."""
        self._signer = signer
        self._clock = clock
        self._expires_after_ms = expires_after_ms
        self._wall = wall
        self._nonces = NonceSource(wall)
        self._synced_s: float | None = None
        transport = Transport(rest_url, clock, self.ip_budget, timeouts or Timeouts(), np.random.default_rng(seed))
        super().__init__(transport, action_budget or ActionBudget(), origin, dexes)

    async def __aenter__(self) -> VenueRest:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    # --- orders -------------------------------------------------------------------------------------------------

    def refuse_risk(self, because: str) -> None:
        """From now on only cancels and reduce-only orders leave."""
        self.refuses_risk_because = because

    def allow_risk(self) -> None:
        self.refuses_risk_because = None

    async def place(self, orders: Sequence[Order], grouping: Grouping = Grouping.NA) -> list[OrderChanged]:
        """Send orders in one request; what became of each, in their order.

        Prices and sizes are brought onto the venue's grid as the last line of defence: limits never tighter than
        asked, sizes never larger. Orders that the budgets do not admit are rejected here, unsent.

        Raises:
            SafetyRefusal: no signer, or risk is refused and one of them adds it.
            InvariantBroken: a number that cannot be meant, or a coin that is not listed; nothing was sent.
            VenueUnavailable: whether they were placed is unknown.
        """
        self._require_signer()
        if not orders:
            return []
        protective = all(order.reduce_only for order in orders)
        if self.refuses_risk_because is not None and not protective:
            raise SafetyRefusal(f"only cancels and reduce-only orders: {self.refuses_risk_because}")
        if not self._instruments:
            await self.instruments()
        fitted = [self._fitted(order) for order in orders]
        wires = [placing.order_to_wire(order, self._instrument(order.coin).asset_id) for order in fitted]
        use = Use.PROTECTIVE if protective else Use.ROUTINE
        if (refusal := await self._budget_refusal(len(orders), use)) is not None:
            return [OrderChanged(order.cloid, OrderStatus.REJECTED, None, refusal) for order in orders]
        answer = await self._act(placing.order_action(wires, grouping), len(orders), self._expiry())
        return placing.place_results(fitted, answer)

    async def cancel(self, orders: Sequence[tuple[Coin, Cloid]]) -> list[str | None]:
        """Cancel by client id: for each None, or the venue's text."""
        self._require_signer()
        if not orders:
            return []
        targets = [(await self._asset_id(coin), cloid) for coin, cloid in orders]
        answer = await self._act(placing.cancel_by_cloid_action(targets), len(orders))
        return placing.cancel_results(len(orders), answer)

    async def cancel_oids(self, orders: Sequence[tuple[Coin, int]]) -> list[str | None]:
        """Cancel by the venue's ids: for each None, or the venue's text."""
        self._require_signer()
        if not orders:
            return []
        targets = [(await self._asset_id(coin), oid) for coin, oid in orders]
        answer = await self._act(placing.cancel_action(targets), len(orders))
        return placing.cancel_results(len(orders), answer)

    async def update_leverage(self, coin: Coin, leverage: int, mode: MarginMode = MarginMode.CROSS) -> str | None:
        """None, or the venue's text."""
        self._require_signer()
        action = placing.leverage_action(await self._asset_id(coin), leverage, mode)
        return placing.refusal_of(await self._act(action, 1))

    async def noop(self) -> str | None:
        """Sign for nothing: None, or the venue's text, which tells of a stranger's key or a nonce out of bounds."""
        return placing.refusal_of(await self._act(placing.noop_action(), 1))

    def _expiry(self) -> int | None:
        return None if self._expires_after_ms is None else self._wall() + self._expires_after_ms

    def _require_signer(self) -> Signer:
        if self._signer is None:
            raise SafetyRefusal("no signer: nothing can be ordered here")
        return self._signer

    async def _asset_id(self, coin: Coin) -> int:
        if not self._instruments:
            await self.instruments()
        return self._instrument(coin).asset_id

    def _instrument(self, coin: Coin) -> Instrument:
        instrument = self._instruments.get(coin)
        if instrument is None:
            raise InvariantBroken(f"{coin} is not listed at the venue; nothing was sent")
        return instrument

    def _fitted(self, order: Order) -> Order:
        """The order on the venue's grid; one that stands on it already is unchanged."""
        placing.require_meant(order)
        instrument = self._instrument(order.coin)
        trigger = order.trigger_price
        return replace(
            order,
            size=instrument.round_size(order.size),
            price=instrument.limit_price(order.price, order.side),
            trigger_price=None if trigger is None else instrument.round_price(trigger),
        )

    async def _budget_refusal(self, actions: int, use: Use) -> str | None:
        """Why so many actions are not admitted now; the venue's own count is asked for once a minute at most."""
        if self.ip_budget.wait_s(self._clock.monotonic_s(), 1, use) > 0:
            return "request budget: this minute's weight is used up but for the reserve"
        if self.action_budget.admits(actions, use):
            return None
        now_s = self._clock.monotonic_s()
        if self.account_address is not None and (self._synced_s is None or now_s - self._synced_s >= _SYNC_EVERY_S):
            self._synced_s = now_s
            await self.user_rate_limit(self.account_address)
            if self.action_budget.admits(actions, use):
                return None
        return "request budget: the account's actions are used up but for the reserve"

    async def _act(
        self, action: dict[str, Json], actions: int, expires_after: int | None = None
    ) -> wire.ExchangeAnswer:
        """Sign and send, once."""
        nonce = self._nonces.next()
        signature = self._require_signer().sign(action, nonce, None, expires_after)
        self.action_budget.take(actions)
        body: dict[str, Json] = {
            "action": action,
            "nonce": nonce,
            "signature": dict(signature),
            "vaultAddress": None,
            "expiresAfter": expires_after,
        }
        answer = await self._transport.send_action(body, 1 + actions // 40)
        if isinstance(answer.response, str) and refusal_kind(answer.response) is Refusal.NONCE:
            self.nonce_refusals += 1
        return answer
