"""The operator socket, the engine's side: one JSON object a line (frames in `protocol`, clients in `client`).

One console holds the lease and may command; others watch until they take over. One-shot commands need no lease. Halt
is open to everybody who is not read-only; status, why and prices to all. A client learns with a `Welcome` whether it
holds the lease, and with another one whenever that changes.

A slow reader costs nothing: its next snapshot is made when the last one has left. A client that sends what is no
frame, or more than it may, is told why and cut off; the engine goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from aml100.control.client import HELLO_TIMEOUT_S, OperatorClient, greet, request_once
from aml100.control.place import engine_is_running, remove_own, socket_path, taking
from aml100.control.protocol import (
    PROTOCOL_VERSION,
    Answer,
    ClientFrame,
    EngineFrame,
    Goodbye,
    Hello,
    Request,
    Snapshot,
    Welcome,
    decode_client_frame,
    encode_frame,
)
from aml100.domain.errors import UsageError

LARGEST_REQUEST: Final = 64 << 10
REQUESTS_AT_ONCE: Final = 32
OPEN_TO_VIEWERS: Final = frozenset({"status", "why", "prices"})
OPEN_WITHOUT_LEASE: Final = frozenset({*OPEN_TO_VIEWERS, "halt", "take_over"})


class _Client:
    """One connection of the server."""

    def __init__(self, hello: Hello, writer: asyncio.StreamWriter) -> None:
        self.hello = hello
        self.writer = writer
        self.pending = 0
        """Requests taken and not yet answered."""
        self.may_command = False
        """What its latest `Welcome` said."""

    @property
    def is_console(self) -> bool:
        """Whether it competes for the lease; one-shot commands and viewers do not."""
        return self.hello.want_snapshots and not self.hello.read_only

    def send(self, frame: EngineFrame) -> None:
        if not self.writer.is_closing():
            self.writer.write(encode_frame(frame))


class OperatorServer:
    """Listens while the context lasts.

    Args:
        path: of the socket; made with mode 0600.
        snapshot: the engine as it stands.
        handle: carries out a request of somebody (`who` for the journal).
        welcome: the greeting for a client that may (or may not) command.
        left: told when a client that watched has gone.
    """

    def __init__(
        self,
        path: Path,
        snapshot: Callable[[], Snapshot],
        handle: Callable[[Request, str], Awaitable[Answer]],
        welcome: Callable[[bool], Welcome],
        left: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._snapshot = snapshot
        self._handle = handle
        self._welcome = welcome
        self._left = left
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._clients: list[_Client] = []
        self._controller: _Client | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> OperatorServer:
        """Listen; UsageError where a living engine has the socket already, or it cannot be made."""
        before = os.umask(0o077)
        try:
            with taking(self.path):
                self._server = await asyncio.start_unix_server(self._serve, self.path, limit=LARGEST_REQUEST)
                self.path.chmod(stat.S_IRUSR | stat.S_IWUSR)
                self._inode = self.path.lstat().st_ino
        except OSError as problem:
            raise UsageError(f"{self.path}: cannot listen ({problem.strerror or problem})") from None
        finally:
            os.umask(before)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.send(Goodbye("the engine has stopped"))
            client.writer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        remove_own(self.path, self._inode)

    # --- one connection ---

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client: _Client | None = None
        pusher: asyncio.Task[None] | None = None
        try:
            hello = await asyncio.wait_for(_read_frame(reader), HELLO_TIMEOUT_S)
            if hello is None:
                return
            client = self._admit(hello, writer)
            if client.hello.want_snapshots:
                pusher = asyncio.create_task(self._push(client))
            while (frame := await _read_frame(reader)) is not None:
                if isinstance(frame, Request):
                    self._take(client, frame)
        except (msgspec.MsgspecError, ValueError, TimeoutError) as problem:
            writer.write(encode_frame(Goodbye(f"refused: {problem or 'no hello in time'}")))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            if pusher is not None:
                pusher.cancel()
            if client is not None:
                self._leave(client)
            writer.close()
            self._tasks.discard(task)

    def _admit(self, hello: ClientFrame, writer: asyncio.StreamWriter) -> _Client:
        """Greet a client, with the lease where it is free. ValueError for one that we cannot talk to."""
        if not isinstance(hello, Hello):
            raise ValueError("the first frame must be hello")
        if hello.version != PROTOCOL_VERSION:
            raise ValueError(f"protocol version {hello.version}; this engine speaks {PROTOCOL_VERSION}")
        client = _Client(hello, writer)
        self._clients.append(client)
        if client.is_console and self._controller is None:
            self._controller = client
        client.may_command = self._controller is client if client.is_console else not hello.read_only
        client.send(self._welcome(client.may_command))
        self._tell_consoles()
        return client

    def _leave(self, client: _Client) -> None:
        """A lease that falls free goes to nobody until somebody commands; every console is told that it may."""
        self._clients.remove(client)
        if client.hello.want_snapshots:
            self._left()
        if self._controller is client:
            self._controller = None
            self._tell_consoles()

    def _tell_consoles(self) -> None:
        """A new welcome for each console that may command now and could not before, or the other way round."""
        for client in self._clients:
            may_command = self._controller in (None, client)
            if client.is_console and may_command is not client.may_command:
                client.may_command = may_command
                client.send(self._welcome(may_command))

    async def _push(self, client: _Client) -> None:
        """Snapshots at the client's rate; made only when the last one has left, so the newest always wins."""
        pause_s = 1 / min(max(client.hello.fps, 0.1), 30.0)
        with contextlib.suppress(OSError):
            while True:
                client.send(self._snapshot())
                await client.writer.drain()
                await asyncio.sleep(pause_s)

    # --- requests ---

    def _take(self, client: _Client, request: Request) -> None:
        """Begin to answer. The work goes on when the client leaves: a halt is carried out whoever watches."""
        if client.pending >= REQUESTS_AT_ONCE:
            raise ValueError(f"more than {REQUESTS_AT_ONCE} requests at once")
        client.pending += 1
        task = asyncio.create_task(self._answer(client, request))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._answered(client, request, done))

    def _answered(self, client: _Client, request: Request, task: asyncio.Task[None]) -> None:
        client.pending -= 1
        self._tasks.discard(task)
        problem = None if task.cancelled() else task.exception()
        if problem is not None:
            what = f"{request.command}: failed inside the engine ({type(problem).__name__}: {problem})"
            client.send(Answer(request.id, False, what, 1))
            context = {"message": what, "exception": problem, "task": task}
            asyncio.get_running_loop().call_exception_handler(context)

    async def _answer(self, client: _Client, request: Request) -> None:
        refusal = self._refusal(client, request.command)
        if refusal:
            answer = Answer(request.id, False, refusal, 3)
        elif request.command == "take_over":
            self._give_lease(client)
            answer = msgspec.structs.replace(await self._handle(request, client.hello.who), id=request.id)
        else:
            if client.is_console and self._controller is None and request.command not in OPEN_WITHOUT_LEASE:
                self._give_lease(client)
            answer = msgspec.structs.replace(await self._handle(request, client.hello.who), id=request.id)
        client.send(answer)
        with contextlib.suppress(OSError):
            await client.writer.drain()

    def _refusal(self, client: _Client, command: str) -> str:
        if client.hello.read_only and command not in OPEN_TO_VIEWERS:
            return f"{command}: this connection is read-only"
        if command == "take_over" and not client.is_console:
            return "take_over: only a console can hold the lease"
        if client.is_console and self._controller not in (None, client) and command not in OPEN_WITHOUT_LEASE:
            return f"{command}: another console commands; take over first"
        return ""

    def _give_lease(self, client: _Client) -> None:
        """Move the lease and tell whom it concerns."""
        self._controller = client
        self._tell_consoles()


async def _read_frame(reader: asyncio.StreamReader) -> ClientFrame | None:
    """The next frame; None at the end. ValueError for a line that is too long."""
    line = await reader.readline()
    return decode_client_frame(line) if line else None


__all__ = ["OperatorClient", "OperatorServer", "engine_is_running", "greet", "request_once", "socket_path"]
