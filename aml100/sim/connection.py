"""One client's websocket at the simulated venue: a queue of frames, written by a task of its own.

A connection that does not read is dropped when its queue is full, so a slow reader never holds the market up; one to
which nothing was sent for a minute is closed, as the venue does.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import WSCloseCode, web

from aml100.sim.faults import Fault, garbled
from aml100.sim.limits import Peer
from aml100.sim.topics import Topic

QUEUE_FRAMES: Final = 20_000
IDLE_S: Final = 60.0


class Connection:
    """A socket with its queue of frames and its topics; `peer` counts for the address it comes from."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.BaseTransport | None, peer: Peer) -> None:
        self.socket, self.peer = socket, peer
        self.topics: set[Topic] = set()
        self.acks: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.gone = asyncio.Event()
        self._transport = transport
        self._frames: asyncio.Queue[str] = asyncio.Queue(QUEUE_FRAMES)
        self._held: str | None = None

    def send(self, frame: str) -> None:
        """Queue a frame; the connection ends where there is no room for it."""
        try:
            self._frames.put_nowait(frame)
        except asyncio.QueueFull:
            self.cut()
        if self._held is not None:
            held, self._held = self._held, None
            self.send(held)

    def send_struck(self, frame: str, fault: Fault) -> None:
        """What a fault makes of a frame."""
        match fault.kind:
            case "drop":
                pass
            case "delay":
                asyncio.get_running_loop().call_later(fault.ms / 1000, self.send, frame)
            case "duplicate":
                self.send(frame)
                self.send(frame)
            case "reorder":
                before, self._held = self._held, None
                if before is not None:
                    self.send(before)
                self._held = frame
            case "garble":
                self.send(garbled(frame, fault.how))
            case _:
                self.cut()

    def cut(self) -> None:
        """End it at once and without a word."""
        self.gone.set()
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()

    async def write(self) -> None:
        """Write the queue out until the connection ends; run as a task beside the reader."""
        try:
            while not self.gone.is_set():
                while not self._frames.empty():
                    await self.socket.send_str(self._frames.get_nowait())
                await self.socket.send_str(await asyncio.wait_for(self._frames.get(), IDLE_S))
        except TimeoutError:
            self.gone.set()
            await self.socket.close(code=WSCloseCode.OK, message=b"Inactive")
        except ConnectionError:
            self.gone.set()
