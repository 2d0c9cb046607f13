"""A small venue on loopback whose every answer a test decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer


class FakeVenue:
    """Answers /info by the question's type and /exchange by the action's, remembers what it was asked.

    An answer is the JSON body, a `web.Response`, `ConnectionResetError` to cut the line with, or a function of the
    request's body, plain or coroutine, that gives one of these.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []
        self.actions: list[dict[str, Any]] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.heard: list[list[dict[str, Any]]] = []
        self.acknowledges = True
        self.connected = asyncio.Event()
        app = web.Application(client_max_size=1 << 24)
        app.add_routes(
            [web.post("/info", self._info), web.post("/exchange", self._exchange), web.get("/ws", self._socket)]
        )
        self.server = TestServer(app)

    async def __aenter__(self) -> FakeVenue:
        await self.server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        for socket in self.sockets:
            await socket.close()
        await self.server.close()

    @property
    def url(self) -> str:
        return str(self.server.make_url("")).rstrip("/")

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/ws"

    async def _info(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        return await self._answer(request, body["type"], body)

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.actions.append(body)
        return await self._answer(request, body["action"]["type"], body)

    async def _answer(self, request: web.Request, kind: str, body: dict[str, Any]) -> web.StreamResponse:
        answer = self.answers[kind]
        if callable(answer) and answer is not ConnectionResetError:
            answer = answer(body)
            if isinstance(answer, Awaitable):
                answer = await answer
        if answer is ConnectionResetError:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if isinstance(answer, web.Response):
            return web.Response(status=answer.status, text=answer.text)
        return web.json_response(answer)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self.sockets.append(socket)
        heard: list[dict[str, Any]] = []
        self.heard.append(heard)
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            said = json.loads(message.data)
            heard.append(said)
            if said["method"] == "subscribe" and self.acknowledges:
                await socket.send_json({"channel": "subscriptionResponse", "data": said})
            if said["method"] == "ping":
                await socket.send_str('{"channel":"pong"}')
            self.connected.set()
        return socket


def text(status: int, body: str) -> web.Response:
    return web.Response(status=status, text=body)
