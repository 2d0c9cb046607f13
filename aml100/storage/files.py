"""Files that are only ever replaced as a whole."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from aml100.domain.errors import DataFileError

PATIENCE_S: Final = 10.0
"""How long one writer waits for another. One that was stopped in the middle must not hold an engine for good."""


def replace_file(path: Path, write: Callable[[Any], None]) -> None:
    """Write beside, sync, rename, sync the folder: the old file or the new one, whatever happens.

    DataFileError where it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):  # where a part of the path is no folder, there is none
            part.unlink(missing_ok=True)
        raise DataFileError(f"{path}: cannot be written ({error})") from None


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Hold a folder from reading one of its files to replacing it, so that of two processes neither loses a change.

    The lock is on the folder and leaves nothing behind. DataFileError where it cannot be had.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise DataFileError(f"{folder}: cannot be written ({error.strerror or error})") from None
    try:
        _lock(held, folder)
        yield
    finally:
        os.close(held)


def _lock(held: int, folder: Path) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until_s:
                words = f"another process has been writing there for {PATIENCE_S:g} s; try again when it is done"
                raise DataFileError(f"{folder}: {words}") from None
            time.sleep(0.02)
        except OSError:  # a file system without locks: one writer at a time is for its users to see to
            return


def read_only_uri(path: Path) -> str:
    """How SQLite is told to open a file that it must not change, whatever characters the path has.

    Where nobody can write and no log lies beside the file it is opened as immutable: SQLite could not lay its index of
    the log there.
    """
    path = path.resolve()
    closed = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
    return f"{path.as_uri()}?mode=ro{'&immutable=1' if closed else ''}"
