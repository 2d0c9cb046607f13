"""The simulated venue as a server on loopback: POST /info, POST /exchange, GET /ws, as Hyperliquid speaks them.

Clients that know nothing of a simulation trade against it unchanged. All state belongs to one `Replay` and is touched
by one event loop without an await in between, so a request is atomic. What a request or a step of the market did is
durable (where there is a store) before its answer or its frames leave.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from decimal import Decimal
from types import TracebackType
from typing import Final

import msgspec
from aiohttp import WSMsgType, web

from aml100.domain.clock import Clock, SystemClock
from aml100.domain.errors import UsageError
from aml100.domain.units import HOUR_MS
from aml100.sim import answers, requests
from aml100.sim.answers import Json
from aml100.sim.exchange import Exchange
from aml100.sim.feed import Connection, Feed, encoded
from aml100.sim.gate import Agent, Envelope, Refused
from aml100.sim.info import LATEST_CANDLES, Info, UnknownRequest
from aml100.sim.pace import FreeRunning, LockStep
from aml100.sim.replay import Act, Replay
from aml100.sim.scenario import Tape
from aml100.sim.store import VenueStore
from aml100.venue.signing import Signer

MALFORMED: Final = "Failed to deserialize the JSON body into the target type"
_FOREVER_MS: Final = 2**62


def shifted_to_now(tape: Tape, warmup_bars: int, wall_ms: int) -> Tape:
    """The tape moved by whole hours so that its first bar after the warm-up is the nearest to wall time."""
    by = round((wall_ms - tape.time_of(warmup_bars)) / HOUR_MS) * HOUR_MS
    return tape.shifted(by)


class SimServer:
    """The venue, listening while the context lasts.

    `account_key` is the master account's key, `agent_key` that of an agent approved for it; the account is opened with
    `deposit` unless the exchange has it. `embedded` plays in step with its client and keeps the tape's times; else
    market time runs by the clock (the caller shifts the tape). `clock` counts wall time. Port 0 takes a free one.
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
    ) -> None:
        self.exchange, self.tape, self.host, self.port = exchange, tape, host, port
        self.account = Signer(account_key, "other").address
        self.agent = Signer(agent_key, "other").address
        if self.account not in exchange.accounts:
            exchange.add_account(self.account, deposit)
        self.clock: Clock = SystemClock() if clock is None else clock
        self.speed = speed
        self.replay = Replay(exchange, tape, warmup_bars, store)
        self.feed = Feed(self.replay)
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
        self.info = Info(self.feed, self._status, None if self._embedded else LATEST_CANDLES)
        app = web.Application()
        app.router.add_post("/info", self._on_info)
        app.router.add_post("/exchange", self._on_exchange)
        app.router.add_get("/ws", self._on_socket)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self.host, self.port)
            await site.start()
        except OSError as problem:
            await self._runner.cleanup()
            self.replay.stop()
            raise UsageError(
                f"--port {self.port}: in use on {self.host} ({problem.strerror}); allowed: a free one"
            ) from None
        self.port = self._runner.addresses[0][1]
        self._start(self.pace.run())
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

    def _start(self, work: object) -> None:
        assert asyncio.iscoroutine(work)
        task: asyncio.Task[None] = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _status(self) -> Mapping[str, Json]:
        return {
            "specialStatuses": None,
            "time": self.pace.market_ms(),
            "speed": self.speed,
            "ended": self.pace.ended,
        }

    # --- REST -------------------------------------------------------------------------------------------------

    async def _on_info(self, request: web.Request) -> web.Response:
        try:
            body = msgspec.json.decode(await request.read())
            if not isinstance(body, dict):
                raise UnknownRequest("body")
            return _answer(self.info.answer(body))
        except (UnknownRequest, msgspec.DecodeError):
            return web.Response(status=422, text=MALFORMED)

    async def _on_exchange(self, request: web.Request) -> web.Response:
        try:
            return _answer(self.act(requests.decode_envelope(await request.read())))
        except msgspec.DecodeError:
            return web.Response(status=422, text=MALFORMED)

    def act(self, envelope: Envelope) -> Json:
        """Admit a signed action, carry it out, publish what it did; the venue's answer.

        Raises:
            msgspec.ValidationError: the action is not one the venue knows; nothing was done.
        """
        action = requests.decode_action(envelope.action)
        now_ms = self.clock.now_ms()
        admitted = self.replay.gate.admit(envelope, self.exchange.accounts, now_ms)
        if isinstance(admitted, Refused):
            return {"status": "err", "response": admitted.text}
        self.info.used[admitted.account] = self.info.used.get(admitted.account, 0) + 1
        self.pace.note_request()
        if self.pace.may_open() and self.replay.opens_the_next(action):
            self.pace.open_next()
        kept = Act(admitted.signer, admitted.account, envelope.nonce, now_ms, dict(envelope.action))
        response, events = self.replay.act(kept, action)
        self.feed.publish_events(events)
        return response

    # --- websocket --------------------------------------------------------------------------------------------

    async def _on_socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        connection = Connection(socket)
        writer = asyncio.create_task(connection.write())
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._on_text(connection, message.data)
                if connection.gone.is_set():
                    break
        finally:
            self.feed.forget(connection)
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
        return socket

    def _on_text(self, connection: Connection, text: str) -> None:
        try:
            body = msgspec.json.decode(text)
        except msgspec.DecodeError:
            body = None
        match body:
            case {"method": "ping"}:
                connection.send('{"channel":"pong"}')
            case {"method": "subscribe", "subscription": dict(wanted)}:
                self.feed.subscribe(connection, wanted)
            case {"method": "unsubscribe", "subscription": dict(wanted)}:
                self.feed.unsubscribe(connection, wanted)
            case {"method": "post", "id": int(number), "request": {"type": str(kind), "payload": payload}}:
                self._on_post(connection, number, kind, payload, text)
            case {"method": "simAck", "step": int(step), "sent": int(sent)}:
                connection.acks.put_nowait((step, sent))
            case _:
                connection.send(_misread(text))

    def _on_post(self, connection: Connection, number: int, kind: str, payload: object, text: str) -> None:
        """/info and /exchange over the socket; what cannot be read gets the error channel, without its id."""
        response: Json
        try:
            if kind == "info" and isinstance(payload, dict):
                response = {"type": "info", "payload": {"type": payload.get("type"), "data": self.info.answer(payload)}}
            elif kind == "action":
                response = {"type": "action", "payload": self.act(requests.envelope_of(payload))}
            else:
                raise UnknownRequest(kind)
        except (UnknownRequest, msgspec.ValidationError):
            connection.send(_misread(text))
            return
        connection.send(encoded("post", {"id": number, "response": response}))


def _misread(text: str) -> str:
    return encoded("error", f"Error parsing JSON into valid websocket request: {text}")


def _answer(body: answers.Json) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
