"""D22: whoever dies or hangs is told of, by somebody who does not share the fate."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from aml100.control.alerts import FILE_NAME, AlertBook
from aml100.engine.sentinel import Alarm, Watch

BEAT = b'{"beat":1}'


def test_d22_silence_is_told_once_and_its_end_too() -> None:
    watch = Watch(0.0, silence_s=60.0)
    assert watch.on_line(BEAT, 10.0) == []
    assert watch.on_time(69.0) == []
    (alarm,) = watch.on_time(71.0)
    assert (alarm.code, alarm.is_own, alarm.is_over) == ("engine_hung", True, False)
    assert "61 s" in alarm.text
    assert watch.on_time(200.0) == []
    (alarm,) = watch.on_line(BEAT, 210.0)
    assert (alarm.code, alarm.is_over) == ("engine_hung", True)
    assert watch.on_time(220.0) == []


def test_an_end_with_a_farewell_is_no_alarm() -> None:
    watch = Watch(0.0)
    assert [alarm.code for alarm in watch.on_end()] == ["engine_dead"]
    watch.on_line(b'{"farewell":"r-1"}', 1.0)
    assert watch.on_end() == []


def test_the_engines_own_alarm_passes_through_and_noise_does_not() -> None:
    watch = Watch(0.0)
    line = b'{"alarm":"drawdown 4.6 %","code":"hard_stop"}'
    assert watch.on_line(line, 1.0) == [Alarm("hard_stop", "drawdown 4.6 %", is_own=False)]
    assert watch.on_line(b"\xff no json", 2.0) == []


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, object]]]]:
    told: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/secret-path", told
    server.shutdown()
    server.server_close()


def test_d22_a_killed_engine_is_told_of_journalled_and_posted(
    tmp_path: Path, webhook: tuple[str, list[dict[str, object]]]
) -> None:
    """The real engine, killed; its sentinel says so within seconds and keeps the webhook's URL to itself."""
    url, told = webhook
    state = tmp_path / "state.db"
    command = [
        sys.executable,
        "-m",
        "aml100",
        "--no-tui",
        "--json",
        "--policy",
        "flat",
        "--speed",
        "600",
        "--state",
        str(state),
    ]
    environ = {**os.environ, "AML100_ALERT_WEBHOOK": url}
    with (tmp_path / "err").open("wb") as err, (tmp_path / "out").open("wb") as out:
        engine = subprocess.Popen(command, stdout=out, stderr=err, env=environ)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and b'"decision"' not in (tmp_path / "out").read_bytes():
        time.sleep(0.05)
    os.kill(engine.pid, signal.SIGKILL)
    engine.wait()
    while time.monotonic() < deadline and not told:
        time.sleep(0.05)
    assert told[0]["code"] == "engine_dead"
    assert "gone" in str(told[0]["text"])
    said = (tmp_path / "err").read_text()
    assert "ALARM engine_dead" in said
    assert "secret-path" not in said + (tmp_path / "out").read_text()
    book = AlertBook(tmp_path / FILE_NAME)
    book.load()
    assert [one.code for one in book.active()] == ["engine_dead"]


def test_d22_a_tripped_guard_reaches_the_webhook(tmp_path: Path, webhook: tuple[str, list[dict[str, object]]]) -> None:
    """A halt by the file beside state.db, told by the engine itself."""
    url, told = webhook
    (tmp_path / "HALT").touch()
    command = [sys.executable, "-m", "aml100", "--no-tui", "--policy", "flat", "--speed", "600", "--duration", "6s"]
    environ = {**os.environ, "AML100_ALERT_WEBHOOK": url}
    done = subprocess.run(
        [*command, "--state", str(tmp_path / "state.db")], env=environ, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert [one["code"] for one in told] == ["halted"]


def test_a_clean_stop_is_no_alarm_and_systemd_is_told(tmp_path: Path) -> None:
    """READY when trading begins, WATCHDOG while it beats, STOPPING at the end; no alarm."""
    state = tmp_path / "state.db"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = tmp_path / "n"
        manager.bind(str(address))
        manager.settimeout(10)
        command = [sys.executable, "-m", "aml100", "--no-tui", "--policy", "flat", "--duration", "2s"]
        done = subprocess.run(
            [*command, "--state", str(state)],
            env={**os.environ, "NOTIFY_SOCKET": str(address)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        words = set()
        while "STOPPING=1" not in words:
            words.add(manager.recv(100).decode())
    assert done.returncode == 0
    assert "ALARM" not in done.stderr
    assert {"READY=1", "WATCHDOG=1", "STOPPING=1"} <= words
