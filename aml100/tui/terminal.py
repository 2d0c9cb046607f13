"""The terminal may go away at any time; the console must go with it, within five seconds, and the engine must not.

Textual takes no notice of SIGHUP and SIGTERM and spins on an input that was closed. So the signals are caught here,
the terminal is looked at every second, and a last resort ends the process should the orderly way get stuck on writing
to a terminal that is no more.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import Callable

from aml100.domain.errors import UsageError

LAST_RESORT_S = 3.0
HANGUP_CODE = 0


def require_terminal() -> None:
    """UsageError unless there is a terminal that can show a screen (GUARANTEES C6)."""
    instead = "use --no-tui for plain lines, or `status` for one"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(f"the console needs a terminal on stdin and stdout; {instead}")
    term = os.environ.get("TERM", "")
    if term in ("dumb", "unknown", ""):
        raise UsageError(f"the console cannot draw on TERM={term or '(unset)'}; {instead}")


def forget_size() -> None:
    """A size that a shell exported is that of another moment: ask the terminal itself, and follow it."""
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)


def terminal_is_gone(descriptor: int = 0) -> bool:
    """Whether the terminal hung up or its descriptor was closed."""
    poller = select.poll()
    poller.register(descriptor, 0)
    try:
        events = poller.poll(0)
    except OSError:
        return True
    gone = select.POLLHUP | select.POLLERR | select.POLLNVAL
    return any(flags & gone for _, flags in events)


def end_anyway() -> None:
    """End the process in `LAST_RESORT_S`, whatever it is stuck in."""
    timer = threading.Timer(LAST_RESORT_S, os._exit, (HANGUP_CODE,))
    timer.daemon = True
    timer.start()


def on_signals(leave: Callable[[], None], interrupt: Callable[[], None]) -> None:
    """SIGHUP and SIGTERM leave; SIGINT only asks, so that Ctrl-C kills nothing (GUARANTEES C21)."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGHUP, signal.SIGTERM):
        loop.add_signal_handler(number, leave)
    loop.add_signal_handler(signal.SIGINT, interrupt)
