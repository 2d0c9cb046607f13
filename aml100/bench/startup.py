"""P17: how soon the console's first frame is there, against a bare Textual application.

Both are started as a person starts them, on a pseudo-terminal of 120 by 40, and timed from the process's start until a
word of the first frame has been written to it. The console attaches to an engine that runs already; what it shows first
it shows before it has heard from it or not.
"""

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
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from aml100.bench.frame import Figure, Goal, Peer, Sample, Trial

PATIENCE_S = 60.0
FIRST_WORD = b"equity"
"""Stands on the dashboard at every size, and in the bare application."""


def first_paint_s(command: Sequence[str], folder: Path, word: bytes = FIRST_WORD) -> float:
    """Wall seconds from the start of `command` until it has written `word` to its terminal; it is ended then.

    Raises TimeoutError where the word does not come within a minute or the command ends before.
    """
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=environ, start_new_session=True
        )
        try:
            written = b""
            while word not in written:
                left_s = PATIENCE_S - (time.perf_counter() - started)
                if left_s <= 0 or process.poll() is not None:
                    raise TimeoutError(f"{' '.join(command[1:4])}: no {word.decode()!r} on its terminal")
                if select.select([master], [], [], min(left_s, 0.5))[0]:
                    written += os.read(master, 65_536)
            return time.perf_counter() - started
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(master)
        os.close(slave)


@contextmanager
def console(folder: Path) -> Iterator[Sample]:
    """Seconds to the first frame of `attach`."""
    state = str(folder / "state.db")
    engine = [sys.executable, "-m", "aml100", "run", "--no-tui", "--json", "--state", state, "--policy", "flat"]
    with (folder / "engine.log").open("w") as log:
        running = subprocess.Popen(engine, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder)
    with running:
        try:
            assert running.stdout is not None
            if "started" not in running.stdout.readline():
                raise TimeoutError("the engine did not start")
            attach = [sys.executable, "-m", "aml100", "attach", "--state", state]
            measure = partial(first_paint_s, attach, folder)
            measure()
            yield measure
        finally:
            running.send_signal(signal.SIGKILL)


TRIALS = (
    Trial(
        "P17",
        console,
        figures=(Figure("first frame of the console", "s", (Goal(1 / 1.3, "bare Textual"),), less_is_better=True),),
        peers=(Peer("bare Textual", "startup_textual.py"),),
        repetitions=7,
    ),
)
