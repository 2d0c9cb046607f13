"""Where the operator socket of a state.db lies, how it is taken and left, and that one engine alone has the state.

It lies beside state.db. Where that path is too long for the system, it lies in a private folder under the runtime
directory, under a name made from the state's path; since engine and operator may be told different runtime
directories (a service has none), a client looks wherever an engine of the same user may have put it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from aml100.domain.errors import UsageError

LONGEST_PATH: Final = 100
"""Bytes of a socket's path that every system takes."""
LEAVING_S: Final = 10.0
"""For so long a new engine waits for one that is leaving, or not yet to be asked."""
_PROBE_S: Final = 1.0


def socket_path(state_path: Path) -> Path:
    """Where the engine of a state.db listens: `<state>.sock`, or a private folder where that path is too long."""
    near = _beside(state_path, ".sock")
    if _fits(near):
        return near
    digest = hashlib.sha256(os.fsencode(near.with_suffix(""))).hexdigest()[:16]
    folder = f"aml100-{os.getuid()}"
    places = [base / folder / f"{digest}.sock" for base in _runtime_folders()]
    fitting = [place for place in places if _fits(place)]
    return next((place for place in fitting if place.exists()), fitting[0])


def engine_is_running(state_path: Path) -> bool:
    """Whether somebody answers on the state's socket."""
    return answers(socket_path(state_path))


def answers(path: Path) -> bool:
    """Whether a process listens on this socket; a full queue of one that hangs counts as listening."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except (BlockingIOError, TimeoutError):
            return True
        except OSError:
            return False
    return True


def prepare_folder(path: Path) -> None:
    """Make the socket's folder, private if it is ours alone.

    Raises:
        UsageError: it cannot be made, or a private one belongs to somebody else or is open to others.
    """
    folder = path.parent
    is_private = folder.name == f"aml100-{os.getuid()}"
    try:
        if not is_private:
            folder.mkdir(parents=True, exist_ok=True)
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror})") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise UsageError(f"{folder}: is not a folder of yours alone; allowed: your own, with mode 0700")


@contextmanager
def taking(path: Path) -> Iterator[None]:
    """Hold the place while a socket is bound or removed there, so that of two engines only one gets it.

    What a dead engine left is removed. The lock is on the folder and leaves nothing behind.

    Raises:
        UsageError: a living engine listens there, or something that is no socket lies there.
    """
    prepare_folder(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists() or path.is_symlink():
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise UsageError(f"{path}: is no socket; allowed: nothing, or what an engine left there")
            if answers(path):
                raise UsageError(f"{path}: another engine runs here; allowed: one engine on a state.db")
            path.unlink()
        yield
    finally:
        os.close(folder)


@asynccontextmanager
async def only_engine(state_path: Path) -> AsyncIterator[None]:
    """Be the one engine of a state from before it is opened until it is closed, which the socket alone cannot tell.

    The lock is on `<state>.lock`, which goes with the engine. Where the system gives none, nobody is refused here: the
    socket has one owner, and who opens a state in a folder that is closed to him is told so.

    Raises:
        UsageError: another engine has it.
    """
    lock = _beside(state_path, ".lock")
    held: int | None = None
    with contextlib.suppress(OSError):
        until_s = time.monotonic() + LEAVING_S
        while (held := _lock(lock)) is None:
            if engine_is_running(state_path) or time.monotonic() > until_s:
                words = "another engine starts or runs on it; allowed: attach, or another --state"
                raise UsageError(f"{state_path}: {words}")
            await asyncio.sleep(0.1)
    try:
        yield
    finally:
        if held is not None:
            lock.unlink(missing_ok=True)
            os.close(held)


def _lock(path: Path) -> int | None:
    """The lock's descriptor, which no child inherits; None while somebody else has it."""
    held = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(held).st_ino == path.stat().st_ino:  # else its last owner has removed it meanwhile
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(held)
        raise
    os.close(held)
    return None


def remove_own(path: Path, inode: int) -> None:
    """Take our socket away, unless another engine has put its own there since."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def _beside(state_path: Path, suffix: str) -> Path:
    path = Path(os.path.abspath(state_path))
    return path.with_name(path.name + suffix)


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= LONGEST_PATH


def _runtime_folders() -> list[Path]:
    named = os.environ.get("XDG_RUNTIME_DIR")
    usual = Path("/run/user") / str(os.getuid())
    folders = [Path(named)] if named else []
    if usual.is_dir() and os.access(usual, os.W_OK):
        folders.append(usual)
    return [*folders, Path(tempfile.gettempdir()), Path("/tmp")]
