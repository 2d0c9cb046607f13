"""The engine as the console sees it: the newest snapshot, how old it is, and a way to send commands.

`EngineSource` keeps one connection to the engine's socket, again and again with a short pause; it never raises for a
missing engine, it says OFFLINE. `FakeSource` shows frozen snapshots and remembers what it was asked, for tests and
pictures. Ages are wall seconds since arrival here, so an engine that stops sending shows as STALE however its own
clock runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Protocol

from aml100.control.protocol import Answer, Hello, Snapshot, Welcome
from aml100.domain.clock import Clock
from aml100.domain.errors import AmlError
from aml100.tui.view import Link, LinkState

STARTS: Final = "the engine starts"
"""What is said of an engine's process before it has been heard of begins so."""
STALE_AFTER_S: Final = 3.0
RECONNECT_S: Final = 0.5


class NotDelivered(AmlError):
    """The engine did not answer: whether it took the command is not known."""


class SnapshotSource(Protocol):
    """What the console needs of an engine."""

    @property
    def latest(self) -> Snapshot | None:
        """The newest snapshot; older ones are forgotten."""

    @property
    def seen_ms(self) -> int:
        """Wall time at which the console before this one left; 0 where there was none."""

    def link(self) -> Link:
        """How the line is now."""

    async def run(self) -> None:
        """Keep the line up until cancelled."""

    async def request(self, command: str, arguments: Mapping[str, object], timeout_s: float) -> Answer:
        """Send a command; NotDelivered where no answer came in time."""

    def leave_halt_file(self) -> Path | None:
        """The way to halt an engine that does not listen: a file HALT where it looks; None where there is no place."""


class EngineConnection(Protocol):
    """An open connection, as `control.attach.OperatorClient` is one."""

    @property
    def welcome(self) -> Welcome: ...

    @property
    def goodbye(self) -> str:
        """Why the engine closed the line, where it said so."""

    def snapshots(self) -> AsyncIterator[Snapshot]:
        """Newest first served, older ones skipped; ends when the engine goes away."""

    async def request(self, command: str, arguments: dict[str, object], timeout_s: float) -> Answer: ...


Connect = Callable[[Path, Hello], AbstractAsyncContextManager[EngineConnection]]


class EngineSource:
    """One engine's socket.

    Args:
        connect: opens a connection, `OperatorClient.connect`; called again after each loss.
        state_path: the state.db whose engine this is.
        hello: how this console introduces itself.
        clock: for ages; wall seconds only.
        engine_trouble: says why the engine is not there, as its last line of log; None while nothing is wrong.
    """

    def __init__(
        self,
        connect: Connect,
        state_path: Path,
        hello: Hello,
        clock: Clock,
        engine_trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._connect = connect
        self._state_path = state_path
        self._hello = hello
        self._clock = clock
        self._engine_trouble = engine_trouble
        self._stale_after_s = max(STALE_AFTER_S, 3.0 / hello.fps)
        self._connection: EngineConnection | None = None
        self._connected_s = 0.0
        self._arrived_s: float | None = None
        self._controller = True
        self._detail = ""
        self._farewell = ""
        """What the engine said when it left; empty while it is there, and where it went without a word."""
        self._old_trouble: str | None = None
        """What was the matter with the engine before the one we talk to; nothing of this one."""
        self.latest: Snapshot | None = None
        self.seen_ms = 0

    def link(self) -> Link:
        """LIVE while snapshots come; STALE where the connection stands and none come; OFFLINE without one."""
        now_s = self._clock.monotonic_s()
        age_s = None if self._arrived_s is None else now_s - self._arrived_s
        if self._connection is not None:  # the engine says anew whenever the lease moves
            self._controller = self._connection.welcome.controller
        if self._connection is None:
            state = LinkState.CONNECTING if self.latest is None else LinkState.OFFLINE
            trouble = self._engine_trouble()
            if trouble == self._old_trouble or (self.latest is not None and trouble and trouble.startswith(STARTS)):
                trouble = None  # it is not dead yet, and this console has known it alive: it does not start, it ends
            detail = trouble or self._farewell or self._detail
            return Link(state, age_s, detail, self._controller)
        silent_s = now_s - max(self._connected_s, self._arrived_s or 0.0)
        if silent_s > self._stale_after_s:
            return Link(LinkState.STALE, silent_s if age_s is None else age_s, self._detail, self._controller)
        state = LinkState.CONNECTING if self.latest is None else LinkState.LIVE
        return Link(state, age_s, "", self._controller)

    async def run(self) -> None:
        """Connect, follow the snapshots, and once more from the start when the line drops."""
        while True:
            try:
                await self._follow()
                self._detail = "the engine closed the line"
            except (OSError, AmlError) as error:
                self._detail = str(error) or type(error).__name__
            finally:
                self._connection = None
            await asyncio.sleep(RECONNECT_S)

    async def _follow(self) -> None:
        async with self._connect(self._state_path, self._hello) as connection:
            self._old_trouble, self._farewell = self._engine_trouble(), ""
            if self._arrived_s is None:  # later it would name our own leaving
                self.seen_ms = connection.welcome.seen_ms
            self._connected_s = self._clock.monotonic_s()
            self._connection = connection
            async for snapshot in connection.snapshots():
                self.latest = snapshot
                self._arrived_s = self._clock.monotonic_s()
            self._farewell = connection.goodbye

    async def request(self, command: str, arguments: Mapping[str, object], timeout_s: float) -> Answer:
        """NotDelivered where there is no connection, it breaks, or the time runs out."""
        connection = self._connection
        if connection is None:
            raise NotDelivered(f"no engine to talk to: {self._detail or 'not connected'}")
        try:
            async with asyncio.timeout(timeout_s):
                answer = await connection.request(command, dict(arguments), timeout_s)
        except TimeoutError:
            raise NotDelivered(f"no answer within {timeout_s:.0f} s") from None
        except (OSError, AmlError) as error:
            raise NotDelivered(str(error) or type(error).__name__) from error
        return answer

    def leave_halt_file(self) -> Path | None:
        """Write HALT beside state.db, which the engine obeys as it does the key."""
        path = self._state_path.parent / "HALT"
        try:
            path.touch(mode=0o600)
        except OSError:
            return None
        return path


class FakeSource:
    """Frozen snapshots and a script of answers.

    `answers` by command; a command without one is answered ok. `asked` remembers what was sent.
    """

    def __init__(self, snapshot: Snapshot | None = None, *, halt_file: Path | None = None) -> None:
        self.latest = snapshot
        self.seen_ms = 0
        self.now = Link(LinkState.LIVE if snapshot is not None else LinkState.CONNECTING, 0.0)
        self.answers: dict[str, Answer | NotDelivered] = {}
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.halt_file = halt_file
        self.gate: asyncio.Event | None = None
        """Where set, answers wait for it."""

    def link(self) -> Link:
        return self.now

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def request(self, command: str, arguments: Mapping[str, object], timeout_s: float) -> Answer:
        self.asked.append((command, dict(arguments)))
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.get(command, Answer(id=1, ok=True, text=f"{command} done"))
        if isinstance(answer, NotDelivered):
            raise answer
        return answer

    def leave_halt_file(self) -> Path | None:
        if self.halt_file is not None:
            self.halt_file.touch()
        return self.halt_file
