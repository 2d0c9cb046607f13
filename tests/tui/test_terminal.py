"""A terminal that goes away, and one that never was: a real console on a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from aml100.domain.errors import UsageError
from aml100.tui.terminal import require_terminal, terminal_is_gone

CONSOLE = """
import sys
sys.path.insert(0, sys.argv[1])
from desk import SNAPSHOT
from aml100.tui.app import ConsoleApp
from aml100.tui.source import FakeSource
raise SystemExit(ConsoleApp(FakeSource(SNAPSHOT)).run(mouse=False) or 0)
"""
FRAME_S = 20.0
LEAVE_S = 5.0


class Terminal:
    """A console on a pseudo-terminal of 80x24, in a session of its own."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.child = subprocess.Popen(
            [sys.executable, "-c", CONSOLE, str(Path(__file__).parent)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
            cwd=Path(__file__).resolve().parents[2],
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.seen = b""

    def wait_for(self, wanted: bytes) -> None:
        """Read until it was drawn."""
        while wanted not in self.seen:
            ready, _, _ = select.select([self.master], [], [], FRAME_S)
            assert ready, f"nothing drawn; so far {self.seen[-2000:]!r}"
            self.seen += os.read(self.master, 65536)

    def drain(self) -> None:
        """Read to the end, so that the child is not stuck on a full terminal."""
        while True:
            ready, _, _ = select.select([self.master], [], [], 0.05)
            if not ready and self.child.poll() is not None:
                return
            if ready:
                try:
                    data = os.read(self.master, 65536)
                except OSError:
                    return
                if not data:
                    return
                self.seen += data


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    if opened.child.poll() is None:
        opened.child.kill()
        opened.child.wait()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_signal_ends_the_console_and_restores_the_screen(terminal: Terminal, number: signal.Signals) -> None:
    """C28, C35."""
    terminal.wait_for(b"10,123.46")
    os.kill(terminal.child.pid, number)
    terminal.drain()
    assert terminal.child.wait(LEAVE_S) == 0
    assert b"\x1b[?1049l" in terminal.seen
    assert b"\x1b[?25h" in terminal.seen


def test_closed_terminal_ends_the_console(terminal: Terminal) -> None:
    """C28: gone within five seconds, no orphan."""
    terminal.wait_for(b"10,123.46")
    os.close(terminal.master)
    assert terminal.child.wait(LEAVE_S) == 0, "it left by itself, in time"


def test_interrupt_only_asks(terminal: Terminal) -> None:
    """C21: neither the signal nor the key ends anything."""
    terminal.wait_for(b"10,123.46")
    os.kill(terminal.child.pid, signal.SIGINT)
    terminal.wait_for(b"Leave the console?")
    assert terminal.child.poll() is None
    os.write(terminal.master, b"d")
    terminal.drain()
    assert terminal.child.wait(LEAVE_S) == 0


def test_closed_pipe_is_a_gone_terminal() -> None:
    reading, writing = os.pipe()
    assert not terminal_is_gone(reading)
    os.close(writing)
    assert terminal_is_gone(reading)
    os.close(reading)
    assert terminal_is_gone(reading)


class Tty:
    def isatty(self) -> bool:
        return True


def test_no_terminal_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """C6."""
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    with pytest.raises(UsageError, match="needs a terminal"):
        require_terminal()


@pytest.mark.parametrize("term", ["dumb", ""])
def test_terminal_that_cannot_draw_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    """C6."""
    monkeypatch.setattr(sys, "stdin", Tty())
    monkeypatch.setattr(sys, "stdout", Tty())
    monkeypatch.setenv("TERM", term)
    with pytest.raises(UsageError, match="TERM="):
        require_terminal()
