"""The websocket around a `Session`: connects, reconnects for ever, and stamps what arrives.

Iterating is what keeps it alive: the iterator connects, yields what it hears and, when the line is lost, says so once,
waits with growing jittered pauses and connects again with the same subscriptions. It ends only when the stream is
closed. A slow consumer slows the socket down (its buffer is bounded), so nothing is dropped here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

import msgspec
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from aml100.domain.errors import ConfigError, VenueUnavailable
from aml100.venue.backoff import Backoff
from aml100.venue.session import Session, SessionEvent, Subscription

if TYPE_CHECKING:
    from aml100.domain.clock import Clock
    from aml100.venue.signing import Json

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""A snapshot of 2000 fills has about 1 MB; anything beyond this is no message of the venue's."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class StreamDown:
    """The line is lost or could not be had. Said once; `StreamUp` ends it."""

    reason: str


StreamEvent: TypeAlias = StreamDown | SessionEvent


@dataclass(frozen=True, slots=True)
class Received:
    """An event and the monotonic second at which its frame arrived."""

    event: StreamEvent
    received_s: float


class VenueStream:
    """One connection to the venue's streams.

    >>> async def watch(stream: VenueStream) -> None:
    ...     async with stream:
    ...         async for received in stream:
    ...             print(received.event)
    """

    def __init__(
        self,
        ws_url: str,
        subscriptions: Iterable[Subscription],
        clock: Clock,
        *,
        origin: str = "",
        seed: int = 0,
        connect_timeout_s: float = 10.0,
        min_pause_s: float = 0.25,
        max_pause_s: float = 30.0,
        ping_s: float = 30.0,
        idle_s: float = 50.0,
    ) -> None:
        """Nothing is connected yet.

        Args:
            ws_url: `wss://host/ws`.
            subscriptions: asked for anew at every connection.
            clock: stamps arrivals with its monotonic seconds.
            origin: what bars from here carry.
            seed: of the jitter in the pauses between attempts.
            connect_timeout_s: for one attempt, wall seconds.
            min_pause_s, max_pause_s: bounds of the first and of the longest pause between attempts.
            ping_s, idle_s: between pings; of silence after which the line is given up.

        Raises:
            ConfigError: the address is none of a websocket.
        """
        parts = urlsplit(ws_url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ConfigError(f"websocket address {ws_url!r} is not usable; allowed: ws://HOST[:PORT]/ws or wss://...")
        self._url = ws_url
        self._clock = clock
        self._session = Session(subscriptions, origin, ping_s=ping_s, idle_s=idle_s)
        self._backoff = Backoff(np.random.default_rng(seed), min_pause_s, max_pause_s)
        self._connect_timeout_s = connect_timeout_s
        self._is_local = parts.hostname in _LOOPBACK
        self._socket: ClientConnection | None = None
        self._closed = asyncio.Event()
        self._lost_because = ""
        self._sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def __aenter__(self) -> VenueStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the iteration, wherever it stands."""
        self._closed.set()
        if self._socket is not None:
            await self._socket.close()

    async def send_json(self, message: Mapping[str, Json]) -> None:
        """Send on the present connection; VenueUnavailable where there is none."""
        socket = self._socket
        if socket is None:
            raise VenueUnavailable("stream: not connected")
        try:
            await socket.send(msgspec.json.encode(message), text=True)
        except ConnectionClosed as problem:
            raise VenueUnavailable(f"stream: {problem}") from None

    async def __aiter__(self) -> AsyncIterator[Received]:
        clock, session = self._clock, self._session
        is_down = False
        while not self._closed.is_set():
            self._lost_because = ""
            try:
                async with self._connected() as socket:
                    while True:
                        data = await socket.recv(decode=False)
                        received_s = clock.monotonic_s()
                        for event in session.receive(data, received_s):
                            yield Received(event, received_s)
                        if is_down and session.is_up:
                            is_down = False
                            self._backoff.reset()
            except (OSError, TimeoutError, WebSocketException) as problem:
                reason = self._lost_because or str(problem) or type(problem).__name__
            if self._closed.is_set():
                return
            if not is_down:
                is_down = True
                yield Received(StreamDown(reason), clock.monotonic_s())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), self._backoff.next_s())

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientConnection]:
        """A connection on which the subscriptions were asked for and which is kept alive."""
        async with connect(
            self._url,
            max_size=MAX_MESSAGE_BYTES,
            compression=None if self._is_local else "deflate",
            proxy=None if self._is_local else True,
            open_timeout=self._connect_timeout_s,
            ping_interval=None,
            close_timeout=2.0,
        ) as socket:
            for frame in self._session.open(self._clock.monotonic_s()):
                await socket.send(frame, text=True)
            self._socket = socket
            keeper = asyncio.create_task(self._keep(socket))
            try:
                yield socket
            finally:
                self._socket = None
                keeper.cancel()

    async def _keep(self, socket: ClientConnection) -> None:
        """Ping by time; give up a line on which nothing comes."""
        with suppress(ConnectionClosed):
            while True:
                await self._sleep(1.0)
                due = self._session.due(self._clock.monotonic_s())
                if due.problem is not None:
                    self._lost_because = due.problem
                    await socket.close()
                    return
                for frame in due.frames:
                    await socket.send(frame, text=True)
