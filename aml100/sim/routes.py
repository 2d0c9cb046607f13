"""The doors of the simulated venue: POST /info, POST /exchange, GET /ws, with their limits and their faults.

What a request means is decided behind them (`info`, `actions`); here it is weighed, let through or refused as the
venue does: 422 for what cannot be understood, 429 with the body `null` for too much, and whatever a fault asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from aiohttp import WSMsgType, web

from aml100.sim import requests
from aml100.sim.connection import Connection
from aml100.sim.faults import Fault, Faults
from aml100.sim.feed import Feed, encoded, misread
from aml100.sim.freerun import FreeRunning
from aml100.sim.gate import Envelope
from aml100.sim.info import Info
from aml100.sim.limits import Peers, answer_weight, info_weight
from aml100.sim.lockstep import LockStep
from aml100.sim.questions import UnknownRequest
from aml100.sim.words import Json

MALFORMED: Final = "Failed to deserialize the JSON body into the target type"
MAX_BODY: Final = 4 << 20


class Routes:
    """Request handlers. `act` carries out a signed action; `pace` moves the market."""

    def __init__(
        self,
        info: Info,
        feed: Feed,
        faults: Faults,
        peers: Peers,
        act: Callable[[Envelope], Json],
        pace: FreeRunning | LockStep,
    ) -> None:
        self.info, self.feed, self.faults, self.peers, self.pace = info, feed, faults, peers, pace
        self._act = act
        self._wall_s = pace.clock.monotonic_s

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/info", self._on_info)
        app.router.add_post("/exchange", self._on_exchange)
        app.router.add_get("/ws", self._on_socket)

    # --- REST -------------------------------------------------------------------------------------------------

    async def _on_info(self, request: web.Request) -> web.Response:
        try:
            body = requests.decoded(await request.read())
        except msgspec.DecodeError:
            body = None
        if not isinstance(body, dict):
            return _malformed()
        peer, now_s = request.remote or "", self._wall_s()
        if not self.peers.admits_weight(peer, info_weight(body), now_s):
            return _too_much()
        fault = self.faults.request("info", str(body.get("type")))
        if fault is not None and fault.kind == "http":
            return web.Response(status=fault.status, text="null" if fault.status == 429 else "")
        self.pace.catch_up()
        try:
            answer = self.info.answer(body)
        except UnknownRequest:
            return _malformed()
        self.peers.add_weight(peer, answer_weight(body, answer), now_s)
        return await _after(request, answer, fault)

    async def _on_exchange(self, request: web.Request) -> web.Response:
        try:
            envelope = requests.decode_envelope(await request.read())
            action = requests.decode_action(envelope.action)
        except msgspec.DecodeError:
            return _malformed()
        weight = 1 + requests.actions_in(action) // 40
        if not self.peers.admits_weight(request.remote or "", weight, self._wall_s()):
            return _too_much()
        fault = self.faults.request("exchange", str(envelope.action.get("type")))
        if fault is not None and fault.kind == "http":
            return web.Response(status=fault.status, text="null" if fault.status == 429 else "")
        return await _after(request, self._act(envelope), fault)

    # --- websocket --------------------------------------------------------------------------------------------

    async def _on_socket(self, request: web.Request) -> web.StreamResponse:
        address = request.remote or ""
        if not self.peers.admits_connection(address):
            return _too_much()
        peer = self.peers.of(address)
        socket = web.WebSocketResponse(compress=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        connection = Connection(socket, request.transport, peer)
        peer.connections += 1
        writer = asyncio.create_task(connection.write())
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    if not self.peers.admits_message(address, self._wall_s()):
                        break
                    self._on_text(connection, address, message.data)
                if connection.gone.is_set():
                    break
        finally:
            peer.connections -= 1
            self.feed.forget(connection)
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
        return socket

    def _on_text(self, connection: Connection, address: str, text: str) -> None:
        try:
            body = requests.decoded(text)
        except msgspec.DecodeError:
            body = None
        match body:
            case {"method": "ping"}:
                connection.send('{"channel":"pong"}')
            case {"method": "subscribe", "subscription": dict(wanted)}:
                self.feed.subscribe(connection, wanted)
            case {"method": "unsubscribe", "subscription": dict(wanted)}:
                self.feed.unsubscribe(connection, wanted)
            case {"method": "post", "id": int(number), "request": {"type": str(kind), "payload": dict(payload)}}:
                self._on_post(connection, address, number, kind, payload, text)
            case {"method": "simAck", "step": int(step), "sent": int(sent)}:
                connection.acks.put_nowait((step, sent))
            case _:
                connection.send(misread(text))

    def _on_post(
        self,
        connection: Connection,
        address: str,
        number: int,
        kind: str,
        payload: Mapping[str, object],
        text: str,
    ) -> None:
        """/info and /exchange over the socket; what cannot be read gets the error channel, without its id."""
        fault = self.faults.request("info" if kind == "info" else "exchange", _type_of(kind, payload))
        if fault is not None and fault.kind == "http":
            error: Json = {"type": "error", "payload": f"{fault.status}"}
            connection.send(encoded("post", {"id": number, "response": error}))
            return
        try:
            response = self._posted(address, kind, payload)
        except (UnknownRequest, msgspec.ValidationError):
            connection.send(misread(text))
            return
        frame = encoded("post", {"id": number, "response": response})
        if fault is None:
            connection.send(frame)
        elif fault.kind == "delay":
            asyncio.get_running_loop().call_later(fault.ms / 1000, connection.send, frame)

    def _posted(self, address: str, kind: str, payload: Mapping[str, object]) -> Json:
        now_s = self._wall_s()
        if kind == "info":
            if not self.peers.admits_weight(address, info_weight(payload), now_s):
                return {"type": "error", "payload": "429"}
            self.pace.catch_up()
            data = self.info.answer(payload)
            self.peers.add_weight(address, answer_weight(payload, data), now_s)
            return {"type": "info", "payload": {"type": str(payload.get("type")), "data": data}}
        if kind != "action":
            raise UnknownRequest(kind)
        envelope = requests.envelope_of(payload)
        weight = 1 + requests.actions_in(requests.decode_action(envelope.action)) // 40
        if not self.peers.admits_weight(address, weight, now_s):
            return {"type": "error", "payload": "429"}
        return {"type": "action", "payload": self._act(envelope)}


def _type_of(kind: str, payload: Mapping[str, object]) -> str:
    inner = payload.get("action") if kind == "action" else payload
    return str(inner.get("type")) if isinstance(inner, dict) else ""


async def _after(request: web.Request, answer: Json, fault: Fault | None) -> web.Response:
    """The answer to what was done, late or not at all where a fault says so."""
    if fault is not None and fault.kind == "delay":
        await asyncio.sleep(fault.ms / 1000)
    if fault is not None and fault.kind == "no_answer" and request.transport is not None:
        request.transport.abort()
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _malformed() -> web.Response:
    return web.Response(status=422, text=MALFORMED)


def _too_much() -> web.Response:
    return web.Response(status=429, text="null", content_type="application/json")
