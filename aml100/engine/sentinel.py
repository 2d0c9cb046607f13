"""A small process beside the engine that notices when it is gone or hangs, and tells somebody (GUARANTEES D22).

The one idea: what watches must not share the fate of what it watches. The engine writes a line a second into a pipe,
from its own consumer, so a beat proves that events are still being handled. No beat for `SILENCE_S`, or the end of the
pipe without a farewell, is an alarm: a line in the log, an alert beside state.db (`engine_hung`, `engine_dead`)
and, where `AML100_ALERT_WEBHOOK` names a URL, an HTTP POST of one JSON object `{text, code, run_id, state, time_ms}`.
Alarms of the engine itself go to the same URL through here, so that no request for one ever waits on the trading loop.

Under systemd the beats are passed on as its watchdog's (`sd_notify`): a hung engine is restarted.

This module runs as `python -m aml100.engine.sentinel STATE RUN_ID` and imports only what it needs.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aml100.control.alerts import FILE_NAME, Change, append
from aml100.domain.clock import wall_ms

WEBHOOK_VARIABLE: Final = "AML100_ALERT_WEBHOOK"
SILENCE_S: Final = 60.0
POST_TIMEOUT_S: Final = 10.0
POST_ATTEMPTS: Final = 3
_LONGEST_LINE: Final = 65_536


def notify_systemd(message: str) -> bool:
    """`READY=1`, `WATCHDOG=1`, `STOPPING=1` to the service manager that started us; false where there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.sendto(message.encode(), address)
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Alarm:
    """`is_own`: found here, so it is kept here; `is_over`: what was raised before is past."""

    code: str
    text: str
    is_own: bool = True
    is_over: bool = False


@dataclass(slots=True)
class Watch:
    """What is known of the engine; fed with the pipe's lines and the time. Seconds are monotonic."""

    started_s: float
    silence_s: float = SILENCE_S
    pid: int = 0
    heard_s: float = field(init=False)
    is_silent: bool = False
    said_farewell: bool = False

    def __post_init__(self) -> None:
        self.heard_s = self.started_s

    def on_line(self, line: bytes, now_s: float) -> list[Alarm]:
        """Alarms that a line from the engine brings."""
        try:
            word = json.loads(line)
        except ValueError:
            return []
        found: list[Alarm] = []
        if self.is_silent:
            self.is_silent = False
            text = f"the engine answers again after {now_s - self.heard_s:.0f} s"
            found.append(Alarm("engine_hung", text, is_over=True))
        self.heard_s = now_s
        match word:
            case {"farewell": _}:
                self.said_farewell = True
            case {"alarm": str(text), "code": str(code)}:
                found.append(Alarm(code, text, is_own=False))
            case _:
                pass
        return found

    def on_time(self, now_s: float) -> list[Alarm]:
        """An alarm once, when the engine has been silent for too long."""
        silent_s = now_s - self.heard_s
        if self.is_silent or silent_s < self.silence_s:
            return []
        self.is_silent = True
        pid = f" (pid {self.pid})" if self.pid else ""
        return [Alarm("engine_hung", f"the engine{pid} handles no events since {silent_s:.0f} s; it may hang")]

    def on_end(self) -> list[Alarm]:
        """The pipe is closed: an alarm unless the engine had said that it stops."""
        return [] if self.said_farewell else [Alarm("engine_dead", "the engine is gone without a word")]


def post(url: str, document: dict[str, object]) -> str | None:
    """Deliver one alarm; None, or why it could not be delivered. Tried three times."""
    request = urllib.request.Request(
        url, json.dumps(document).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    problem = ""
    for attempt in range(POST_ATTEMPTS):
        if attempt:
            time.sleep(2.0**attempt)
        try:
            with urllib.request.urlopen(request, timeout=POST_TIMEOUT_S):
                return None
        except (urllib.error.URLError, TimeoutError, ValueError, OSError) as error:
            problem = str(error)
    return problem


def raise_alarm(state: Path, run_id: str, alarm: Alarm, now_ms: int) -> None:
    """Say it wherever it can be heard: stderr (the engine's log), the alerts' file, the webhook where one is set."""
    sys.stderr.write(f"ALARM {alarm.code}: {alarm.text} ({state}, run {run_id})\n")
    sys.stderr.flush()
    if alarm.is_own:
        change = Change(now_ms, alarm.code, level="alarm", text=alarm.text, over=alarm.is_over)
        append(state.parent / FILE_NAME, change)
    url = os.environ.get(WEBHOOK_VARIABLE, "").strip()
    if not url:
        return
    document: dict[str, object] = {
        "text": f"AML-100 {alarm.code}: {alarm.text}",
        "code": alarm.code,
        "run_id": run_id,
        "state": str(state),
        "time_ms": now_ms,
    }
    problem = post(url, document)
    if problem is not None:
        sys.stderr.write(f"ALARM not delivered to the webhook: {problem}\n")
        sys.stderr.flush()


def watch(state: Path, run_id: str) -> int:
    """Read beats from stdin until the engine ends; 0 after a farewell, 1 after an alarm for its end."""
    seen = Watch(time.monotonic(), pid=os.getppid())
    rest = b""
    while True:
        ready, _, _ = select.select([0], [], [], 1.0)
        alarms: list[Alarm] = []
        ended = False
        if ready:
            data = os.read(0, _LONGEST_LINE)
            ended = not data
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                alarms += seen.on_line(line, time.monotonic())
        if not seen.is_silent and not ended:
            notify_systemd("WATCHDOG=1")
        alarms += seen.on_end() if ended else seen.on_time(time.monotonic())
        for alarm in alarms:
            raise_alarm(state, run_id, alarm, wall_ms())
        if ended:
            return 0 if seen.said_farewell else 1


if __name__ == "__main__":
    raise SystemExit(watch(Path(sys.argv[1]), sys.argv[2]))
