"""The trainer as its parent sees it: a child process that is started, listened to and stopped. Free of torch.

    async with TrainingProcess(spec) as training:
        async for message in training.messages():
            ...                                   Progress..., then one Done, Stopped or Failed

Whatever the child does (crash, be killed, speak nonsense), the stream ends with a final message, and leaving the
block leaves no child behind. The child's log lies in `training.log` in the job's folder.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from aml100.learning.threads import WAITING
from aml100.training.messages import Failed, Message, Progress, TrainingSpec, decode_message, encode_line

LOG_FILE: Final = "training.log"
WORKER: Final = (sys.executable, "-m", "aml100.training.worker")
STOP_GRACE_S: Final = 30.0


class TrainingProcess:
    """One training in a child process.

    Args:
        spec: the job; its folder is made if absent.
        command: what to run instead of the worker, for tests.
    """

    def __init__(self, spec: TrainingSpec, command: Sequence[str] = WORKER) -> None:
        self._spec = spec
        self._command = tuple(command)
        self._process: asyncio.subprocess.Process | None = None
        self._cancelled = False

    @property
    def pid(self) -> int | None:
        """The child's process id, None before it was started."""
        return self._process.pid if self._process is not None else None

    @property
    def log_path(self) -> Path:
        """Where the child's log goes."""
        return Path(self._spec.folder) / LOG_FILE

    async def __aenter__(self) -> Self:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        threads = str(self._spec.settings.threads)
        environment = WAITING | os.environ | {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(encode_line(self._spec))
            await self._process.stdin.drain()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()
        assert process.stdin is not None
        process.stdin.close()

    async def messages(self) -> AsyncIterator[Message]:
        """The child's messages; the last one is final, made up here where the child died without one."""
        process = self._process
        assert process is not None, "start the process first: async with TrainingProcess(...)"
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                message = decode_message(line)
            except msgspec.MsgspecError as error:
                yield Failed(f"the trainer said something that is no message: {error}")
                return
            yield message
            if not isinstance(message, Progress):
                return
        code = await process.wait()
        yield Failed(self._reason(code), "died" if code < 0 else "refused")

    async def cancel(self, grace_s: float = STOP_GRACE_S) -> None:
        """Ask the child to write its checkpoint and leave; after `grace_s` wall seconds it is killed.

        Its messages may be read meanwhile or afterwards.
        """
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._cancelled = True
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), grace_s)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _reason(self, code: int) -> str:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if self._cancelled:
            how += " after it was told to stop"
        last = _last_line(self.log_path)
        return f"the trainer {how}" + (f": {last}" if last else "")


def _last_line(path: Path) -> str:
    """The last line of the child's log that may say why, empty where there is none."""
    try:
        lines = path.read_text(errors="replace").rstrip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines and " INFO " not in lines[-1] else ""
