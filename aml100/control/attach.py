"""The operator socket: the engine's server and its clients, one JSON object a line (frames in control/protocol).

One client holds the controller's lease and may command; others watch until they take over. One-shot commands need no
lease. Halt, status and why are open to every client that is not read-only (halt) or to all (status, why). A slow
reader costs nothing: the next snapshot is made when the last one has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from aml100.control.protocol import (
    Answer,
    ClientFrame,
    EngineFrame,
    Goodbye,
    Hello,
    Request,
    Snapshot,
    Welcome,
    decode_client_frame,
    decode_engine_frame,
    encode_frame,
)
from aml100.domain.errors import AmlError, UsageError

LONGEST_PATH: Final = 100
"""Bytes of a socket's path that every system takes."""
LARGEST_FRAME: Final = 4 << 20
HELLO_TIMEOUT_S: Final = 5.0
OPEN_TO_VIEWERS: Final = frozenset({"status", "why"})
OPEN_WITHOUT_LEASE: Final = frozenset({"status", "why", "halt", "take_over"})


def socket_path(state_path: Path) -> Path:
    """Where the engine of a state.db listens: `<state>.sock`, or a private folder where that path is too long."""
    path = Path(os.path.abspath(state_path))
    near = path.with_name(path.name + ".sock")
    if len(os.fsencode(near)) <= LONGEST_PATH:
        return near
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return base / f"aml100-{os.getuid()}" / f"{digest}.sock"


def engine_is_running(state_path: Path) -> bool:
    """Whether somebody answers on the state's socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        probe.connect(str(socket_path(state_path)))
        return True
    return False


def _no_engine(state_path: Path) -> AmlError:
    return AmlError(f"no engine runs on {state_path}")


# --- server -----------------------------------------------------------------------------------------------------


class _Client:
    """One connection of the server."""

    def __init__(self, number: int, hello: Hello, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.hello = hello
        self.writer = writer

    def send(self, frame: EngineFrame) -> None:
        if not self.writer.is_closing():
            self.writer.write(encode_frame(frame))


class OperatorServer:
    """Listens while the context lasts.

    Args:
        path: of the socket; made with mode 0600.
        snapshot: the engine as it stands.
        handle: carries out a request of somebody (`who` for the journal).
        welcome: the greeting for a client that does (or does not) hold the lease.
    """

    def __init__(
        self,
        path: Path,
        snapshot: Callable[[], Snapshot],
        handle: Callable[[Request, str], Awaitable[Answer]],
        welcome: Callable[[bool], Welcome],
    ) -> None:
        self.path = path
        self._snapshot = snapshot
        self._handle = handle
        self._welcome = welcome
        self._server: asyncio.Server | None = None
        self._numbers = itertools.count(1)
        self._clients: dict[int, _Client] = {}
        self._controller: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> OperatorServer:
        """Listen; UsageError where a living engine has the socket already."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.exists():
            if _answers(self.path):
                raise UsageError(f"{self.path}: another engine runs here")
            self.path.unlink()
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self.path, limit=LARGEST_FRAME)
        except OSError as problem:
            raise UsageError(f"{self.path}: cannot listen ({problem.strerror or problem})") from None
        finally:
            os.umask(before)
        self.path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close()
        for client in list(self._clients.values()):
            client.send(Goodbye("the engine stops"))
            client.writer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client: _Client | None = None
        pusher: asyncio.Task[None] | None = None
        try:
            hello = await asyncio.wait_for(_read_frame(reader), HELLO_TIMEOUT_S)
            if not isinstance(hello, Hello):
                raise msgspec.ValidationError("the first frame must be hello")
            client = _Client(next(self._numbers), hello, writer)
            self._clients[client.number] = client
            client.send(self._welcome(self._lease(client)))
            if hello.want_snapshots:
                pusher = asyncio.create_task(self._push(client))
            while (frame := await _read_frame(reader)) is not None:
                if isinstance(frame, Request):
                    self._spawn(self._answer(client, frame))
        except (msgspec.MsgspecError, ValueError, TimeoutError) as problem:
            with contextlib.suppress(OSError):
                writer.write(encode_frame(Goodbye(f"frame refused: {problem}")))
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            if pusher is not None:
                pusher.cancel()
            if client is not None:
                self._clients.pop(client.number, None)
                if self._controller == client.number:
                    self._controller = None
            writer.close()
            self._tasks.discard(task)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _lease(self, client: _Client) -> bool:
        """The first console that may command gets the lease; one-shot commands need none."""
        if client.hello.read_only or not client.hello.want_snapshots:
            return not client.hello.read_only
        if self._controller is None:
            self._controller = client.number
        return self._controller == client.number

    async def _push(self, client: _Client) -> None:
        """Snapshots at the client's rate; made only when the last one has left, so the newest always wins."""
        pause_s = 1 / min(max(client.hello.fps, 0.1), 30.0)
        with contextlib.suppress(OSError):
            while True:
                client.send(self._snapshot())
                await client.writer.drain()
                await asyncio.sleep(pause_s)

    async def _answer(self, client: _Client, request: Request) -> None:
        refusal = self._refusal(client, request.command)
        if refusal:
            answer = Answer(request.id, False, refusal, 3)
        elif request.command == "take_over":
            self._controller = client.number
            answer = Answer(request.id, True, "this console commands now")
        else:
            answer = msgspec.structs.replace(await self._handle(request, client.hello.who), id=request.id)
        with contextlib.suppress(OSError):
            client.send(answer)
            await client.writer.drain()

    def _refusal(self, client: _Client, command: str) -> str:
        if client.hello.read_only and command not in OPEN_TO_VIEWERS:
            return f"{command}: this connection is read-only"
        leased = not client.hello.want_snapshots or self._controller in (None, client.number)
        if not leased and command not in OPEN_WITHOUT_LEASE:
            return f"{command}: another console commands; take over first"
        return ""


async def _read_frame(reader: asyncio.StreamReader) -> ClientFrame | None:
    """The next frame; None at the end. ValueError for a line that is too long."""
    line = await reader.readline()
    return decode_client_frame(line) if line else None


def _answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        probe.connect(str(path))
        return True
    return False


# --- clients ----------------------------------------------------------------------------------------------------


class OperatorClient:
    """A connected console. Made by `connect` only."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, welcome: Welcome) -> None:
        self.welcome = welcome
        self.latest: Snapshot | None = None
        self._reader, self._writer = reader, writer
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._fresh = asyncio.Event()
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def connect(cls, state_path: Path, hello: Hello) -> AsyncIterator[OperatorClient]:
        """Open a connection; AmlError where no engine listens or it refuses us."""
        try:
            reader, writer = await asyncio.open_unix_connection(socket_path(state_path), limit=LARGEST_FRAME)
        except OSError:
            raise _no_engine(state_path) from None
        try:
            writer.write(encode_frame(hello))
            welcome = decode_engine_frame(await reader.readline())
            if not isinstance(welcome, Welcome):
                raise AmlError(f"the engine refused us: {getattr(welcome, 'reason', 'no welcome')}")
            client = cls(reader, writer, welcome)
            listener = asyncio.create_task(client._listen())
            try:
                yield client
            finally:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
        except msgspec.MsgspecError as problem:
            raise AmlError(f"the engine speaks another protocol: {problem}") from None
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
                        waiting = self._waiting.pop(answer.id, None)
                        if waiting is not None and not waiting.done():
                            waiting.set_result(answer)
                    case Goodbye():
                        break
                    case _:
                        pass
        except (OSError, ValueError, msgspec.MsgspecError):
            pass
        finally:
            self._closed = True
            self._fresh.set()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(AmlError("the engine closed the line"))

    async def snapshots(self) -> AsyncIterator[Snapshot]:
        """The newest ones as they come; ends when the engine goes away."""
        while not self._closed:
            await self._fresh.wait()
            self._fresh.clear()
            if self.latest is not None and not self._closed:
                yield self.latest

    async def request(self, command: str, arguments: dict[str, Any], timeout_s: float) -> Answer:
        """Send a command; AmlError where the line breaks, TimeoutError where no answer comes."""
        if self._closed:
            raise AmlError("the engine closed the line")
        number = next(self._ids)
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        self._writer.write(encode_frame(Request(number, command, arguments)))
        await self._writer.drain()
        return await asyncio.wait_for(waiting, timeout_s)


def request_once(
    state_path: Path, who: str, command: str, arguments: dict[str, Any], timeout_s: float = 10.0
) -> Answer:
    """One command to the engine of a state.db, without an event loop; AmlError where none answers."""
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(timeout_s)
    try:
        line.connect(str(socket_path(state_path)))
        line.sendall(encode_frame(Hello(who=who, want_snapshots=False)) + encode_frame(Request(1, command, arguments)))
        with line.makefile("rb") as frames:
            for frame in frames:
                match decode_engine_frame(frame):
                    case Answer() as answer:
                        return answer
                    case Goodbye(reason):
                        raise AmlError(f"the engine refused us: {reason}")
                    case _:
                        continue
    except TimeoutError:
        raise AmlError(f"{command}: no answer from the engine within {timeout_s:g} s") from None
    except OSError:
        raise _no_engine(state_path) from None
    except msgspec.MsgspecError as problem:
        raise AmlError(f"the engine speaks another protocol: {problem}") from None
    finally:
        line.close()
    raise AmlError("the engine closed the line without an answer")


def greet(state_path: Path, who: str, timeout_s: float = 5.0) -> Welcome:
    """What the engine of a state.db says of itself; AmlError where none answers."""
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(timeout_s)
    try:
        line.connect(str(socket_path(state_path)))
        line.sendall(encode_frame(Hello(who=who, read_only=True, want_snapshots=False)))
        with line.makefile("rb") as frames:
            welcome = decode_engine_frame(frames.readline())
    except (OSError, msgspec.MsgspecError):
        raise _no_engine(state_path) from None
    finally:
        line.close()
    if not isinstance(welcome, Welcome):
        raise AmlError("the engine refused us")
    return welcome
