"""P16 and P17: what the console costs while it runs, and how long it takes to its first frame.

All of it is the real thing: `aml100-console attach` on a pseudo-terminal of 120x40, on an engine that sends a made-up
day over the operator socket. The peer of the first frame is a Textual application of one line of text, timed the same
way: what the console takes on top of the library it is built with. Both are compiled, as an installed package is,
whatever the environment says of writing bytecode. Bytes are those the terminal is sent. A full redraw changes
everything on the dashboard at once; its peer is a dashboard of the same matter made of textual-plot, a DataTable and
texts.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aml100.bench.frame import Figure, Goal, Peer, Readings, Sample, Trial

if TYPE_CHECKING:
    from aml100.control.protocol import Snapshot

ROWS, COLUMNS = 40, 120
WATCHED_S: Final = 8.0
SETTLED_S: Final = 2.0
PATIENCE_S: Final = 30.0
NOON_MS: Final = 1_751_284_925_000


@contextmanager
def first_frame(folder: Path) -> Iterator[Sample]:
    """Wall and processor seconds from the start of the process to the first panel on the terminal."""
    import psutil

    with _engine(folder / "state.db"):

        def measure() -> Readings:
            with _console(folder / "state.db") as console:
                passed_s = console.wait_for(b"equity")
                spent = psutil.Process(console.child.pid).cpu_times()
                return {"wall": passed_s, "processor": spent.user + spent.system}

        measure()
        yield measure


@contextmanager
def full_redraw(folder: Path) -> Iterator[Sample]:
    """Processor milliseconds of a redraw in which everything is new."""
    answer = folder / "answer"
    command = [sys.executable, "-m", "aml100.bench.console_redraw", str(answer)]

    def measure() -> float:
        answer.unlink(missing_ok=True)
        with on_terminal(command) as console:
            console.read_to_end()
        return float(answer.read_text())

    measure()
    yield measure


@contextmanager
def at_rest(folder: Path, options: tuple[str, ...] = ()) -> Iterator[Sample]:
    """Share of a core in percent, bytes a second and resident megabytes, with a market at real speed."""
    import psutil

    with _engine(folder / "state.db"):

        def measure() -> Readings:
            with _console(folder / "state.db", *options) as console:
                console.wait_for(b"10,123")
                console.read_for(SETTLED_S)
                process = psutil.Process(console.child.pid)
                before, began_s = process.cpu_times(), time.perf_counter()
                sent = console.read_for(WATCHED_S)
                passed_s, after = time.perf_counter() - began_s, process.cpu_times()
                spent_s = after.user + after.system - before.user - before.system
                return {
                    "core": 100 * spent_s / passed_s,
                    "bytes": sent / passed_s,
                    "memory": process.memory_info().rss / 1e6,
                }

        yield measure


# --- the console on a terminal ----------------------------------------------------------------------------------


@dataclass
class _Terminal:
    """A child on a pseudo-terminal."""

    child: subprocess.Popen[bytes]
    master: int
    began_s: float

    def wait_for(self, wanted: bytes) -> float:
        """Seconds since the start until it was drawn."""
        seen = b""
        while wanted not in seen:
            ready, _, _ = select.select([self.master], [], [], PATIENCE_S)
            if not ready:
                raise TimeoutError(f"the console never showed {wanted!r}")
            seen += os.read(self.master, 65536)
        return time.perf_counter() - self.began_s

    def read_to_end(self) -> None:
        """Until the child leaves; TimeoutError where it does nothing for long."""
        with contextlib.suppress(OSError):  # how a pseudo-terminal says that its other side was closed
            while True:
                if not select.select([self.master], [], [], PATIENCE_S)[0]:
                    raise TimeoutError("the console stands still")
                if not os.read(self.master, 65536):
                    return

    def read_for(self, seconds: float) -> int:
        """Bytes that come in that time."""
        count, until_s = 0, time.perf_counter() + seconds
        while (left_s := until_s - time.perf_counter()) > 0:
            ready, _, _ = select.select([self.master], [], [], left_s)
            count += len(os.read(self.master, 65536)) if ready else 0
        return count


@contextmanager
def on_terminal(command: list[str]) -> Iterator[_Terminal]:
    """A program on a pseudo-terminal of its own, killed at the end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began_s = time.perf_counter()
    child = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    try:
        yield _Terminal(child, master, began_s)
    finally:
        child.kill()
        child.wait()
        os.close(master)


def _console(state: Path, *options: str) -> AbstractContextManager[_Terminal]:
    return on_terminal([sys.executable, "-m", "aml100", "attach", "--state", str(state), *options])


# --- an engine that only sends ----------------------------------------------------------------------------------


@contextmanager
def _engine(state: Path) -> Iterator[None]:
    """Serves the made-up day in a thread, its clock running."""
    ready, ended = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(state, ready, ended)), daemon=True)
    thread.start()
    ready.wait(PATIENCE_S)
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def _serve(state: Path, ready: threading.Event, ended: threading.Event) -> None:
    import msgspec

    from aml100.control.attach import OperatorServer, socket_path
    from aml100.control.protocol import Answer, FeedView, Request, Welcome

    day, began_s = made_up_day(), time.monotonic()

    def snapshot() -> Snapshot:
        passed_ms = round((time.monotonic() - began_s) * 1000)
        feeds = tuple(
            FeedView("BTC", name, "LIVE", (passed_ms + at * 300) % 900) for at, name in enumerate(("candle", "bbo"))
        )
        return msgspec.structs.replace(
            day, time_ms=NOON_MS + passed_ms, wall_ms=NOON_MS + passed_ms, uptime_s=passed_ms / 1000, feeds=feeds
        )

    async def handle(request: Request, who: str) -> Answer:
        return Answer(request.id, True, who)

    async with OperatorServer(socket_path(state), snapshot, handle, lambda controller: Welcome(1, "r", controller, {})):
        ready.set()
        while not ended.is_set():  # noqa: ASYNC110 -- set from the measuring thread
            await asyncio.sleep(0.05)


def made_up_day() -> Snapshot:
    """A full dashboard: curves of 240 points, 50 trades, 50 decisions with gates, 200 lines of log."""
    import math

    from aml100.control import protocol as p

    def wave(base: float, swing: float) -> tuple[tuple[int, float], ...]:
        return tuple((NOON_MS - (240 - at) * 60_000, base + swing * math.sin(at / 17)) for at in range(240))

    gates = tuple(p.GateView(name, True, "") for name in ("halt", "feed", "leverage", "daily_loss", "rejects"))
    return p.Snapshot(
        seq=1,
        time_ms=NOON_MS,
        wall_ms=NOON_MS,
        state="trading",
        state_reason="",
        mode="SIM",
        venue="sim",
        execution="venue",
        origin="synthetic:bench",
        speed=1.0,
        run_id="r-bench",
        pid=1,
        uptime_s=0.0,
        phase=p.PhaseView(
            "Foundation", 1, 1, 3, tuple(p.ObjectiveView(f"objective_{at}", 1.0, 0.5, True, "PASS") for at in range(6))
        ),
        equity="10123.45",
        balance="10100",
        initial_equity="10000",
        drawdown_pct=0.4,
        equity_curve=wave(10_000, 40),
        price_curve=wave(65_000, 300),
        price_coin="BTC",
        action_curve=tuple(p.ActionCount(NOON_MS, 10, 3, 2) for _ in range(60)),
        positions=(
            p.PositionView(
                "BTC", "0.0123", "65000.5", "65100", "12.34", "64610.5", "66170.5", 7, True, 2.1, 12, NOON_MS - 600_000
            ),
        ),
        trades=tuple(
            p.TradeView(
                "BTC", "buy", NOON_MS - at * 240_000, NOON_MS - at * 200_000, "64900", "65000", "0.01", "3.5", "signal"
            )
            for at in range(50)
        ),
        decisions=tuple(
            p.DecisionView(
                "BTC", NOON_MS - at * 60_000, "HOLD", (0.01, 0.0, -0.01), 0.4, "range", "none", "no edge", gates
            )
            for at in range(50)
        ),
        why_histogram=(("policy", 900), ("order", 30)),
        log=tuple(p.LogLine(NOON_MS - at * 1000, "info", f"line {at} of the log") for at in range(200)),
    )


BARE: Final = "bare Textual, one line of text"
PLOTTED: Final = "textual-plot with DataTable"
TRIALS: Final = (
    Trial(
        "P17",
        first_frame,
        figures=(
            Figure(
                "console, first frame",
                "s",
                (Goal(1 / 1.3, BARE), Goal(1, limit=1.0)),
                "wall",
                less_is_better=True,
            ),
            Figure("console, first frame, processor", "s", (Goal(1 / 1.3, BARE),), "processor", less_is_better=True),
        ),
        peers=(Peer(BARE, "console_bare.py"),),
        repetitions=9,
    ),
    Trial(
        "P16",
        full_redraw,
        figures=(Figure("console, full redraw, processor", "ms", (Goal(2, PLOTTED),), less_is_better=True),),
        peers=(Peer(PLOTTED, "console_textual_plot.py", "textual-plot"),),
    ),
    Trial(
        "P16",
        at_rest,
        figures=(
            Figure("console at rest, share of a core", "%", (Goal(1, limit=5.0),), "core", less_is_better=True),
            Figure(
                "console at rest, sent to the terminal", "B/s", (Goal(1, limit=2000.0),), "bytes", less_is_better=True
            ),
            Figure("console, resident memory", "MB", (), "memory", less_is_better=True),
        ),
        repetitions=3,
    ),
    Trial(
        "P16",
        partial(at_rest, options=("--low-bandwidth",)),
        figures=(
            Figure("console, --low-bandwidth, sent", "B/s", (Goal(1, limit=500.0),), "bytes", less_is_better=True),
        ),
        repetitions=3,
    ),
)
