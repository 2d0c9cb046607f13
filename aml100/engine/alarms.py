"""The engine's line to its sentinel: a beat a second from the consumer, and the alarms that a person must hear."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from aml100.domain.errors import SafetyRefusal, UsageError
from aml100.domain.events import Record
from aml100.engine.sentinel import notify_systemd

if TYPE_CHECKING:
    from aml100.engine.runtime import Engine

log = logging.getLogger(__name__)

BEAT_S: Final = 1.0
FAREWELL_S: Final = 5.0


class SentinelLine:
    """A listener with the sentinel's process behind it; `async with` around the run.

    Args:
        state: the engine's state.db, named in every alarm.
        run_id: likewise.
    """

    def __init__(self, state: Path, run_id: str) -> None:
        self._state = state
        self._run_id = run_id
        self._process: asyncio.subprocess.Process | None = None
        self._beats: asyncio.Task[None] | None = None

    async def __aenter__(self) -> SentinelLine:
        await self._launch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say farewell where the run ended as it should; a crash leaves the pipe closed without a word.

        A run that was refused has not died: another engine may well be at work on this state.
        """
        if self._beats is not None:
            self._beats.cancel()
            await asyncio.gather(self._beats, return_exceptions=True)
        if error is None or isinstance(error, UsageError | SafetyRefusal):
            notify_systemd("STOPPING=1")
            self._send({"farewell": self._run_id})
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), FAREWELL_S)

    def follow(self, engine: Engine) -> None:
        """Beat from now on, once a second, through the engine's own queue."""
        self._beats = asyncio.create_task(self._beat(engine), name="sentinel beats")

    def on_record(self, record: Record) -> None:
        """Records speak through the alerts."""

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        """The service manager hears when the engine is up."""
        if kind == "started":
            notify_systemd("READY=1")

    def alarm(self, code: str, text: str) -> None:
        """Hand an alarm over; never waits."""
        self._send({"alarm": text, "code": code})

    async def _launch(self) -> None:
        command = [sys.executable, "-m", "aml100.engine.sentinel", str(self._state), self._run_id]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, start_new_session=True
        )

    async def _beat(self, engine: Engine) -> None:
        while True:
            if engine.is_consuming:  # while history loads, a loop that turns is all there is to prove
                await engine.on_consumer(_nothing)
            if self._process is not None and self._process.returncode is not None:
                log.error("the sentinel ended with %s; another one is started", self._process.returncode)
                await self._launch()
            self._send({"beat": 1})
            await asyncio.sleep(BEAT_S)

    def _send(self, word: Mapping[str, object]) -> None:
        pipe = None if self._process is None else self._process.stdin
        if pipe is not None and not pipe.is_closing():
            with contextlib.suppress(ConnectionError, RuntimeError):
                pipe.write(json.dumps(word).encode() + b"\n")


_nothing: Callable[[], None] = lambda: None  # noqa: E731 -- a beat only proves that the consumer came to it
