"""Files that are only ever replaced as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from aml100.domain.errors import DataFileError


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
