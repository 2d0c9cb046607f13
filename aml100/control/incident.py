"""The incident bundle: what somebody else needs to understand an hour, without a secret in it (GUARANTEES B20).

A zip beside state.db: the frames of the flight recorder, alerts, the log's end, and a page that says what is inside.
Every line passes the same redaction as the log; the account's address is blackened as well.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aml100.control.alerts import FILE_NAME as ALERTS_FILE
from aml100.control.flight import FOLDER, FlightReader
from aml100.logs import redact

MINUTES: Final = 60
_LOG_BYTES: Final = 2 << 20
_ADDRESS: Final = re.compile(r"0[xX][0-9a-fA-F]{40}(?![0-9a-fA-F])")
_TOKEN: Final = re.compile(
    r"(?i)((?:token|secret|password|api[_-]?key|authorization|webhook)[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]+"
)


def clean(text: str) -> str:
    """A line fit for other eyes.

    >>> clean("agent 0x" + "ab" * 20 + " token=abc123")
    'agent [address] token=[redacted]'
    """
    return _TOKEN.sub(r"\1[redacted]", _ADDRESS.sub("[address]", redact(text)))


def write_bundle(state_path: Path, now_ms: int, minutes: int = MINUTES) -> Path:
    """Write `incident-TIME.zip` (mode 0600) beside state.db and return its path; OSError where that cannot be."""
    folder = state_path.parent
    target = folder / f"incident-{now_ms}.zip"
    reader = FlightReader(folder / FOLDER)
    frames = reader.lines(now_ms - minutes * 60_000, now_ms)
    parts: dict[str, Iterable[str]] = {
        "frames.jsonl": (frame.decode() for frame in frames),
        "alerts.jsonl": _end_of(folder / ALERTS_FILE),
        "engine.log": _end_of(folder / "engine.log"),
    }
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("README.txt", _readme(now_ms, minutes, len(frames)))
        for name, lines in parts.items():
            bundle.writestr(name, "".join(clean(line) + "\n" for line in lines))
    return target


def _end_of(path: Path) -> Iterable[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _LOG_BYTES, 0))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _readme(now_ms: int, minutes: int, frames: int) -> str:
    return (
        f"AML-100 incident bundle, written at {now_ms} (UTC, ms), the {minutes} minutes before.\n"
        f"frames.jsonl: {frames} snapshots of the console, one JSON object a line, as the operator protocol has them.\n"
        "alerts.jsonl: alerts raised and over. engine.log: its end.\n"
        "Keys, passwords, tokens and account addresses were blackened. Balances, positions and orders were not.\n"
    )
