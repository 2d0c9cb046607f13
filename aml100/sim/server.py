"""The simulated venue as a server on loopback, as Hyperliquid speaks: its life, and how an action is carried out.

Clients that know nothing of a simulation trade against it unchanged. All state belongs to one `Replay` and is touched
by one event loop without an await in between, so a request is atomic. What a request or a step of the market did is
durable (where there is a store) before its answer or its frames leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Final

from aiohttp import web

from aml100.domain.clock import Clock, SystemClock
from aml100.domain.errors import UsageError
from aml100.domain.units import HOUR_MS
from aml100.sim import requests
from aml100.sim.accounts import OrderTags
from aml100.sim.admin import Admin
from aml100.sim.exchange import Exchange
from aml100.sim.faults import Fault, Faults
from aml100.sim.feed import Feed
from aml100.sim.freerun import FREE_PRINTS, FreeRunning
from aml100.sim.gate import Agent, Envelope, Refused
from aml100.sim.info import LATEST_CANDLES, Info
from aml100.sim.limits import EXPIRED_COUNTS, Addresses, Peers
from aml100.sim.lockstep import STEP_PRINTS, LockStep
from aml100.sim.replay import Act, Replay
from aml100.sim.routes import MALFORMED, MAX_BODY, Routes
from aml100.sim.scenario import Tape
from aml100.sim.store import VenueStore
from aml100.sim.views import Views
from aml100.sim.words import Json
from aml100.venue.signing import Signer

__all__ = ["MALFORMED", "SimServer", "shifted_to_now"]

_FOREVER_MS: Final = 2**62


def shifted_to_now(tape: Tape, warmup_bars: int, wall_ms: int) -> Tape:
    """The tape moved by whole hours so that its first bar after the warm-up is the nearest to wall time."""
    by = round((wall_ms - tape.time_of(warmup_bars)) / HOUR_MS) * HOUR_MS
    return tape.shifted(by)


class SimServer:
    """The venue, listening while the context lasts.

    `account_key` is the master account's key, `agent_key` that of an agent approved for it; the account is opened with
    `deposit` unless the exchange has it. `embedded` plays in step with its client and keeps the tape's times, without
    rate limits; else market time runs by the clock (the caller shifts the tape). `clock` counts wall time. Port 0
    takes a free one. `faults` strike from the start, `seed` draws their chances.
    """

    def __init__(
        self,
        exchange: Exchange,
        tape: Tape,
        *,
        account_key: str,
        agent_key: str,
        deposit: Decimal = Decimal(10_000),
        host: str = "127.0.0.1",
        port: int = 0,
        embedded: bool = True,
        speed: float = 1.0,
        warmup_bars: int = 0,
        store: VenueStore | None = None,
        clock: Clock | None = None,
        faults: Sequence[Fault] = (),
        seed: int = 0,
        limited: bool | None = None,
    ) -> None:
        self.exchange, self.tape, self.host, self.port = exchange, tape, host, port
        self.account = Signer(account_key, "other").address
        self.agent = Signer(agent_key, "other").address
        if self.account not in exchange.accounts:
            exchange.now_ms = exchange.now_ms or tape.time_of(warmup_bars)
            exchange.add_account(self.account, deposit)
        self.clock: Clock = SystemClock() if clock is None else clock
        self.speed = speed
        self.replay = Replay(exchange, tape, warmup_bars, store)
        self.faults = Faults(faults, seed)
        self.faults.market_s = lambda: (exchange.now_ms - tape.time_of(warmup_bars)) / 1000
        is_limited = (not embedded) if limited is None else limited
        self.addresses, self.peers = Addresses(is_limited), Peers(is_limited)
        views = Views(self.replay, self.faults, STEP_PRINTS if embedded else FREE_PRINTS)
        self.feed = Feed(views, self.faults, is_limited=is_limited)
        self._embedded = embedded
        self._runner: web.AppRunner | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        """What moves the market; it ends by itself where a market of its own clock ends."""

    @property
    def rest_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self.port}/ws"

    async def __aenter__(self) -> SimServer:
        """Go on from the store and listen.

        Raises:
            UsageError: the port is in use, or the store belongs to another market.
        """
        self.replay.start()
        self.replay.gate.agents.setdefault(self.agent, Agent(self.account, "", _FOREVER_MS))
        pace = LockStep if self._embedded else FreeRunning
        self.pace: LockStep | FreeRunning = pace(self.feed, self.clock, self.speed)
        limit = None if self._embedded else LATEST_CANDLES
        self.info = Info(self.feed, self.addresses, self._status, self.now_ms, limit)
        app = web.Application(client_max_size=MAX_BODY)
        Routes(self.info, self.feed, self.faults, self.peers, self.act, self.pace).add_routes(app)
        Admin(self.feed, self.faults, self.tape.origin).add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self.host, self.port)
            await site.start()
        except OSError as problem:
            await self._runner.cleanup()
            self.replay.stop()
            if problem.errno == errno.EADDRINUSE:
                words = f"--port {self.port}: in use on {self.host} ({problem.strerror}); allowed: a free one"
            else:
                place = f"--host {self.host}, --port {self.port}"
                words = f"{place}: cannot listen there ({problem.strerror}); allowed: an address of this machine"
            raise UsageError(words) from None
        self.port = self._runner.addresses[0][1]
        task = asyncio.create_task(self.pace.run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in list(self.tasks):
            task.cancel()
        for task in list(self.tasks):
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._runner is not None:
            await self._runner.cleanup()
        self.replay.stop()

    def now_ms(self) -> int:
        """The venue's own clock: wall time, and what a fault adds to it."""
        return self.clock.now_ms() + self.faults.skew_ms()

    def _status(self) -> Mapping[str, Json]:
        return {
            "specialStatuses": None,
            "time": self.pace.market_ms() + self.faults.skew_ms(),
            "speed": self.speed,
            "ended": self.pace.ended,
        }

    def act(self, envelope: Envelope) -> Json:
        """Admit a signed action, carry it out, publish what it did; the venue's answer.

        Raises:
            msgspec.ValidationError: the action is not one the venue knows; nothing was done.
        """
        action = requests.decode_action(envelope.action)
        if isinstance(action, requests.UnservedAction):
            return {"status": "err", "response": f"{action.kind} is not served by the simulated venue"}
        now_ms = self.now_ms()
        self.pace.catch_up()
        admitted = self.replay.gate.admit(envelope, self.exchange.accounts, now_ms)
        if isinstance(admitted, Refused):
            if admitted.is_expired:
                self._charge(admitted.account, EXPIRED_COUNTS, is_cancel=True)
            return {"status": "err", "response": admitted.text}
        is_cancel = isinstance(action, requests.CancelAction | requests.CancelByCloidAction)
        refusal = self._charge(admitted.account, requests.actions_in(action), is_cancel=is_cancel)
        if refusal is not None:
            return {"status": "err", "response": refusal}
        self.pace.note_request()
        if self.pace.may_open() and self.replay.opens_the_next(action):
            self.pace.open_next()
        kept = Act(
            admitted.signer, admitted.account, envelope.nonce, now_ms, dict(envelope.action), self._twists(action)
        )
        response, events = self.replay.act(kept, action)
        self.feed.publish_events(events)
        if isinstance(action, requests.UsdSendAction) and isinstance(response, dict) and response["status"] == "ok":
            for user in (admitted.account, action.destination.lower()):
                self.feed.publish_transfer(user, self.exchange.accounts[user].transfers[-1])
        return response

    def _charge(self, account: str, count: int, *, is_cancel: bool) -> str | None:
        volume = self.exchange.accounts[account].volume
        return self.addresses.charge(account, count, volume, is_cancel=is_cancel, now_s=self.clock.monotonic_s())

    def _twists(self, action: requests.Action) -> list[OrderTags]:
        """What the faults of the moment make of the orders in an action."""
        coins = self.replay.coin_of
        if not isinstance(action, requests.OrderAction) or any(one.a not in coins for one in action.orders):
            return []
        orders = [requests.order_of(one, coins[one.a], 0) for one in action.orders]
        return self.faults.twists(orders, [requests.tags_of(one) for one in action.orders])
