"""Runs a program on a pseudo-terminal of 120x40, for the peers of the console."""

import contextlib
import fcntl
import os
import pty
import resource
import select
import struct
import subprocess
import termios
import time

PATIENCE_S = 60.0


def run(command, until=None):
    """What it wrote until it ended, or until `until` was written: (bytes, wall seconds, processor seconds)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
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
    seen = b""
    with contextlib.suppress(OSError):
        while until is None or until not in seen:
            if not select.select([master], [], [], PATIENCE_S)[0]:
                raise TimeoutError(f"nothing drawn for {PATIENCE_S:.0f} s; last {seen[-200:]!r}")
            more = os.read(master, 65536)
            if not more:
                break
            seen += more
    passed = time.perf_counter() - began
    child.kill()
    child.wait()
    os.close(master)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seen, passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
