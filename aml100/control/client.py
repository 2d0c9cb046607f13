"""The operator socket, the client's side: a console that stays connected, and one-shot commands without an event loop.

A console keeps only the newest snapshot. Every failure is one line for the operator; a line that breaks while a
command is under way does not say whether the engine took it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from aml100.control.place import socket_path
from aml100.control.protocol import (
    Answer,
    ClientFrame,
    EngineFrame,
    Goodbye,
    Hello,
    Request,
    Snapshot,
    Welcome,
    decode_engine_frame,
    encode_frame,
)
from aml100.domain.errors import AmlError

LARGEST_FRAME: Final = 4 << 20
HELLO_TIMEOUT_S: Final = 5.0


def _no_engine(state_path: Path) -> AmlError:
    return AmlError(f"no engine runs on {state_path}")


class OperatorClient:
    """A connected console. Made by `connect` only.

    `welcome` is the engine's latest word on who we are (its `controller` changes with the lease); `latest` the newest
    snapshot.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, welcome: Welcome) -> None:
        self.welcome = welcome
        self.latest: Snapshot | None = None
        self.goodbye = ""
        """Why the engine closed the line, where it said so."""
        self._reader, self._writer = reader, writer
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._fresh = asyncio.Event()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether the engine has gone away."""
        return self._closed

    @classmethod
    @asynccontextmanager
    async def connect(cls, state_path: Path, hello: Hello) -> AsyncIterator[OperatorClient]:
        """Open a connection; AmlError where no engine listens, it does not greet in time, or it refuses us."""
        try:
            reader, writer = await asyncio.open_unix_connection(socket_path(state_path), limit=LARGEST_FRAME)
        except OSError:
            raise _no_engine(state_path) from None
        try:
            client = cls(reader, writer, await _greeting(reader, writer, hello))
            listener = asyncio.create_task(client._listen())
            try:
                yield client
            finally:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
        finally:
            writer.close()

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                match decode_engine_frame(line):
                    case Snapshot() as snapshot:
                        self.latest = snapshot
                        self._fresh.set()
                    case Answer() as answer:
                        waiting = self._waiting.get(answer.id)
                        if waiting is not None and not waiting.done():
                            waiting.set_result(answer)
                    case Welcome() as welcome:
                        self.welcome = welcome
                    case Goodbye(reason):
                        self.goodbye = reason
                        break
        except (OSError, ValueError, msgspec.MsgspecError) as problem:
            self.goodbye = f"the line broke: {problem}"
        finally:
            self._closed = True
            self._fresh.set()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(self._gone())

    def _gone(self) -> AmlError:
        return AmlError(
            f"the engine closed the line ({self.goodbye})" if self.goodbye else "the engine closed the line"
        )

    async def snapshots(self) -> AsyncIterator[Snapshot]:
        """The newest ones as they come, older ones skipped; ends when the engine goes away."""
        while not self._closed:
            await self._fresh.wait()
            self._fresh.clear()
            if self.latest is not None and not self._closed:
                yield self.latest

    async def request(self, command: str, arguments: dict[str, Any], timeout_s: float) -> Answer:
        """Send a command; AmlError where the line breaks, TimeoutError where no answer comes."""
        if self._closed:
            raise self._gone()
        number = next(self._ids)
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            self._writer.write(encode_frame(Request(number, command, arguments)))
            async with asyncio.timeout(timeout_s):
                await self._writer.drain()
                return await waiting
        except OSError as problem:
            if isinstance(problem, TimeoutError):
                raise
            raise self._gone() from None
        finally:
            del self._waiting[number]
            if waiting.done() and not waiting.cancelled():
                waiting.exception()


async def _greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello) -> Welcome:
    try:
        writer.write(encode_frame(hello))
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            line = await reader.readline()
    except TimeoutError:
        raise AmlError(f"the engine does not answer within {HELLO_TIMEOUT_S:g} s") from None
    except (OSError, ValueError) as problem:
        raise AmlError(f"the engine closed the line ({problem})") from None
    return _welcomed(line)


def _welcomed(line: bytes) -> Welcome:
    if not line:
        raise AmlError("the engine closed the line without a greeting")
    frame = _decoded(line)
    if not isinstance(frame, Welcome):
        raise AmlError(f"the engine refused us: {getattr(frame, 'reason', 'no welcome')}")
    return frame


def _decoded(line: bytes) -> EngineFrame:
    try:
        return decode_engine_frame(line)
    except msgspec.MsgspecError as problem:
        raise AmlError(f"the engine speaks another protocol: {problem}") from None


@contextlib.contextmanager
def _plain_line(state_path: Path, timeout_s: float, *frames: ClientFrame) -> Iterator[BinaryIO]:
    """A blocking connection that has sent `frames`, as a file of lines; its errors are one line each."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as line:
        line.settimeout(timeout_s)
        try:
            line.connect(str(socket_path(state_path)))
        except (BlockingIOError, TimeoutError):
            raise AmlError(f"the engine on {state_path} does not answer") from None
        except OSError:
            raise _no_engine(state_path) from None
        try:
            line.sendall(b"".join(map(encode_frame, frames)))
            with line.makefile("rb") as lines:
                yield lines
        except TimeoutError:
            raise AmlError(f"no answer from the engine within {timeout_s:g} s") from None
        except OSError as problem:
            raise AmlError(f"the engine closed the line ({problem.strerror or problem})") from None


def request_once(
    state_path: Path, who: str, command: str, arguments: dict[str, Any], timeout_s: float = 10.0
) -> Answer:
    """One command to the engine of a state.db, without an event loop; AmlError where none answers."""
    hello = Hello(who=who, want_snapshots=False)
    with _plain_line(state_path, timeout_s, hello, Request(1, command, arguments)) as lines:
        for line in lines:
            match _decoded(line):
                case Answer() as answer:
                    return answer
                case Goodbye(reason):
                    raise AmlError(f"the engine refused us: {reason}")
    raise AmlError("the engine closed the line without an answer")


def greet(state_path: Path, who: str, timeout_s: float = 5.0) -> Welcome:
    """What the engine of a state.db says of itself; AmlError where none answers."""
    with _plain_line(state_path, timeout_s, Hello(who=who, read_only=True, want_snapshots=False)) as lines:
        return _welcomed(lines.readline())
