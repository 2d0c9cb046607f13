"""Engines whose state lies in PostgreSQL, on a real server: two at once, one killed, the server killed under one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aml100.storage.address import NOTE
from aml100.storage.reader import StateReader
from aml100.storage.verifying import verify
from aml100.trading.ledger import apply_fill
from tests.postgres import Server

PATIENCE_S = 60


class Headless:
    """An engine in a process of its own; `events` as they come."""

    def __init__(self, server: Server, home: Path, seed: int, speed: int = 600) -> None:
        self.home = home
        self.events: list[dict[str, Any]] = []
        options = ["--state", server.url, "--home", str(home), "--policy", "random", "--speed", str(speed)]
        command = [sys.executable, "-m", "aml100", "run", "--no-tui", "--json", *options, "--seed", str(seed)]
        home.mkdir(exist_ok=True)
        self._log = (home / "stderr").open("ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.events.append(json.loads(line))

    def of(self, kind: str, since: int = 0) -> list[dict[str, Any]]:
        return [event for event in self.events[since:] if event["type"] == kind]

    def until(self, happened: Callable[[], object]) -> None:
        for _ in range(PATIENCE_S * 20):
            if happened():
                return
            assert self.process.poll() is None, (self.home / "stderr").read_text()[-2000:]
            time.sleep(0.05)
        raise AssertionError(f"not seen in {PATIENCE_S} s: {self.events[-3:]}")

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        code = self.process.wait(PATIENCE_S)
        self._listener.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        return code


@pytest.fixture
def engine(server: Server, tmp_path: Path) -> Iterator[Callable[..., Headless]]:
    started: list[Headless] = []

    def start(name: str, seed: int) -> Headless:
        started.append(Headless(server, tmp_path / name, seed))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def unsound(home: Path) -> list[str]:
    return [f"{check.name}: {check.detail}" for check in verify(home / NOTE, apply_fill) if not check.ok]


def decided(home: Path) -> list[int]:
    with StateReader.read(home / NOTE) as reader:
        return [decision.bar_ms for decision in reader.decisions()]


def is_whole(bars: list[int]) -> bool:
    return len(bars) > 0 and bars == list(range(bars[0], bars[-1] + 60_000, 60_000))


def test_b10_two_engines_share_a_database_and_one_is_killed(engine: Callable[..., Headless]) -> None:
    first, second = engine("first", 1), engine("second", 2)
    for one in (first, second):
        one.until(lambda one=one: len(one.of("decision")) >= 20 and one.of("fill"))
    before = len(second.events)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    assert unsound(first.home) == []
    told = [event["bar_ms"] for event in first.of("decision")]
    again = engine("first", 1)
    again.until(lambda: len(again.of("decision")) >= 20)
    second.until(lambda: len(second.of("decision", before)) >= 20)  # the neighbour noticed nothing
    for one in (again, second):
        assert one.end(signal.SIGTERM) == 0
        assert unsound(one.home) == []
        assert is_whole(decided(one.home))
    assert set(told) <= set(decided(again.home))
    with StateReader.read(again.home / NOTE) as ours, StateReader.read(second.home / NOTE) as theirs:
        assert (len(ours.runs()), len(theirs.runs())) == (2, 1)


def test_d3_the_server_is_killed_under_an_engine_and_comes_back(
    engine: Callable[..., Headless], server: Server
) -> None:
    one = engine("alone", 3)
    one.until(lambda: one.of("fill"))
    server.kill()
    try:
        at = len(one.events)
        one.until(lambda: "PAUSED" in status(one.home, server))
        paused = len(one.events)
        one.until(lambda: len(one.of("decision", paused)) >= 30)
        down = one.events[at:]
    finally:
        server.start()
    one.until(lambda: "TRADING" in status(one.home, server))
    up = len(one.events)
    one.until(lambda: [e for e in one.of("order", up) if e["kind"] == "entry" and e["status"] == "filled"])
    assert one.end(signal.SIGTERM) == 0
    assert [event["state"] for event in one.of("state")] == ["trading", "paused", "trading"]
    # While it was away: every bar decided, nothing opened (what was already on its way when the server died aside).
    entries = [e for e in one.events[paused : at + len(down)] if e["type"] == "order" and e["kind"] == "entry"]
    assert {e["status"] for e in entries} <= {"created", "rejected"}
    assert "journal cannot be written, entries stop" in (one.home / "stderr").read_text()
    assert "Traceback" not in (one.home / "stderr").read_text()
    # And afterwards nothing of that time is missing.
    assert unsound(one.home) == []
    assert is_whole(decided(one.home))
    assert {event["bar_ms"] for event in one.of("decision")} == set(decided(one.home))


def status(home: Path, server: Server) -> str:
    command = [sys.executable, "-m", "aml100", "status", "--state", server.url, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ)).stdout


@pytest.mark.parametrize("comes_back", [True, False])
def test_d3_an_engine_that_ends_while_the_server_is_away_waits_for_it_or_says_what_is_lost(
    engine: Callable[..., Headless], server: Server, comes_back: bool
) -> None:
    one = engine("ending", 4)
    one.until(lambda: one.of("fill"))
    server.kill()
    try:
        down = len(one.events)
        one.until(lambda: len(one.of("decision", down)) >= 20)
        one.process.send_signal(signal.SIGTERM)
        one.until(lambda: "the engine ends and journal: cannot be written" in (one.home / "stderr").read_text())
        if comes_back:
            server.start()
        code = one.end(signal.SIGTERM)  # told twice, it ends once
    finally:
        if not comes_back:
            server.start()
    (stopped,) = one.of("stopped")
    told = [event["bar_ms"] for event in one.of("decision")]
    last_line = (one.home / "stderr").read_text().strip().splitlines()[-1]
    assert "Traceback" not in (one.home / "stderr").read_text()
    if comes_back:
        assert (code, stopped["exit_code"], stopped["reason"]) == (0, 0, "SIGTERM")
        assert decided(one.home) == told
    else:
        assert (code, stopped["exit_code"]) == (1, 1)
        assert "steps could not be written to the journal and are lost (" in last_line
        assert "decisions): postgresql://" in last_line
        assert len(decided(one.home)) < len(told)
    again = engine("ending", 4)
    again.until(lambda: len(again.of("decision")) >= 20)  # at once: what was played meanwhile is history now
    assert again.end(signal.SIGTERM) == 0
    assert unsound(one.home) == []
    bars = decided(one.home)
    assert bars == sorted(set(bars))
    assert min(event["bar_ms"] for event in again.of("decision")) >= told[-1]
