"""The back door of the simulated venue, open to its own machine only: faults, deposits, and what is there.

`GET /admin` says what runs; `GET`, `POST` and `DELETE /admin/faults` show, add and clear faults; `POST
/admin/deposit` with `{"user": "0x...", "usd": "1000"}` pays into an account and opens it where it does not exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from ipaddress import ip_address
from typing import TypeAlias

import msgspec
from aiohttp import web

from aml100.domain.errors import UsageError
from aml100.sim.faults import Faults, parse_faults
from aml100.sim.feed import Feed
from aml100.sim.words import address_of, text

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.Response]]


class _Deposit(msgspec.Struct, forbid_unknown_fields=True):
    user: str
    usd: Decimal


class Admin:
    """Handlers for the operator of the venue. `label` says what market it plays."""

    def __init__(self, feed: Feed, faults: Faults, label: str) -> None:
        self.feed, self.faults, self.label = feed, faults, label

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/admin", _guarded(self._about))
        app.router.add_get("/admin/faults", _guarded(self._show))
        app.router.add_post("/admin/faults", _guarded(self._add))
        app.router.add_delete("/admin/faults", _guarded(self._clear))
        app.router.add_post("/admin/deposit", _guarded(self._deposit))

    async def _about(self, _: web.Request) -> web.Response:
        exchange = self.feed.replay.exchange
        accounts = {
            address: {
                "balance": text(one.balance),
                "open_orders": len(one.open_oids),
                "positions": {coin: text(held.size) for coin, held in one.holdings.items()},
            }
            for address, one in exchange.accounts.items()
        }
        coins = {coin: one.asset_id for coin, one in exchange.instruments.items()}
        about = {"market": self.label, "coins": coins, "market_ms": exchange.now_ms, "accounts": accounts}
        return _json(about | {"faults": self.faults.report()})

    async def _show(self, _: web.Request) -> web.Response:
        return _json(self.faults.report())

    async def _add(self, request: web.Request) -> web.Response:
        try:
            self.faults.add(parse_faults(await request.read(), "body"))
        except UsageError as problem:
            return _json({"error": str(problem)}, 422)
        return _json(self.faults.report())

    async def _clear(self, _: web.Request) -> web.Response:
        self.faults.clear()
        return _json([])

    async def _deposit(self, request: web.Request) -> web.Response:
        try:
            wanted = msgspec.json.decode(await request.read(), type=_Deposit)
        except msgspec.DecodeError as problem:
            return _json({"error": f"deposit: {problem}; allowed: user and usd"}, 422)
        user = address_of(wanted.user)
        if user is None or not wanted.usd.is_finite() or wanted.usd <= 0:
            return _json({"error": "deposit: allowed: an address as user, an amount above 0 as usd"}, 422)
        transfer = self.feed.replay.deposit(user, wanted.usd)
        self.feed.publish_transfer(user, transfer)
        return _json({"user": user, "balance": text(self.feed.replay.exchange.accounts[user].balance)})


def _guarded(handler: Handler) -> Handler:
    """Only for requests from this machine."""

    async def guarded(request: web.Request) -> web.Response:
        if request.remote is None or not ip_address(request.remote).is_loopback:
            return _json({"error": "only from the venue's own machine"}, 403)
        return await handler(request)

    return guarded


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
