"""Textual by itself: seconds from the start of a process to one line of text on a pseudo-terminal of 120x40."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

from serve import serve

APP = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("the first line")
Bare().run(mouse=False)
"""


def measure():
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", APP],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    seen = b""
    while b"the first line" not in seen:
        ready, _, _ = select.select([master], [], [], 30.0)
        if not ready:
            raise TimeoutError("nothing drawn")
        seen += os.read(master, 65536)
    taken = time.perf_counter() - began
    child.kill()
    child.wait()
    os.close(master)
    return taken


measure()
serve(measure)
