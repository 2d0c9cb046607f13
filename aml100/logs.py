"""Log set-up: text or JSON lines on stderr (or a file), secrets redacted in one place.

Modules log with `logging.getLogger(__name__)`; structured values go into `extra={"fields": {...}}`. Whatever a line is
made of (message, fields, traceback, a library's own words), it passes `redact` once, as finished text, just before it
is written: a private key in any form, the values of secret variables, a password inside a URL.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, TextIO

import msgspec

LogFormat = Literal["text", "json"]
LEVELS: Final = ("debug", "info", "warning", "error")
REDACTED: Final = "[redacted]"

_SECRET_NAMES: Final = ("AML100_PRIVATE_KEY", "AML100_ALERT_WEBHOOK")
_KEY: Final = re.compile(r"0[xX][0-9a-fA-F]{64}(?![0-9a-fA-F])")
_URL_PASSWORD: Final = re.compile(r"(?<=://)([^\s/:@]*):([^\s/@]+)@")
_SHORTEST_SECRET: Final = 6

_secrets: set[str] = set()


def add_secret(value: str) -> None:
    """Have a value redacted from now on, with and without a leading 0x; whoever reads a key calls this first."""
    bare = value.strip().removeprefix("0x").removeprefix("0X")
    if len(bare) >= _SHORTEST_SECRET:
        _secrets.add(bare.lower())


def add_secrets_of(environ: Mapping[str, str]) -> None:
    """Register the values of the environment's secret variables."""
    for name in _SECRET_NAMES:
        add_secret(environ.get(name, ""))


def redact(text: str) -> str:
    """The text without secrets.

    >>> redact("signed with 0x" + "ab" * 32), redact("postgresql://me:pw@host/db")
    ('signed with [redacted]', 'postgresql://me:[redacted]@host/db')
    """
    text = _KEY.sub(REDACTED, text)
    text = _URL_PASSWORD.sub(rf"\1:{REDACTED}@", text)
    for secret in _secrets:
        if secret in text.lower():
            text = re.sub(rf"(0x)?{re.escape(secret)}", REDACTED, text, flags=re.IGNORECASE)
    return text


class LineFormatter(logging.Formatter):
    """One record, one line, redacted; times are UTC."""

    def __init__(self, log_format: LogFormat) -> None:
        super().__init__()
        self._is_json = log_format == "json"

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        fields = dict(fields) if isinstance(fields, Mapping) else {}
        trouble = self.formatException(record.exc_info) if record.exc_info else ""
        time_text = _utc_text(record.created)
        if self._is_json:
            document = {
                "time": time_text,
                "level": record.levelname.lower(),
                "logger": record.name,
                "text": record.getMessage(),
                **{str(key): _plain(value) for key, value in fields.items()},
            }
            if trouble:
                document["exception"] = trouble
            return redact(msgspec.json.encode(document).decode())
        pairs = "".join(f" {key}={value}" for key, value in fields.items())
        line = f"{time_text} {record.levelname:<7} {record.name}: {record.getMessage()}{pairs}"
        return redact(f"{line}\n{trouble}" if trouble else line)


def set_up(level: str, log_format: LogFormat, stream: TextIO | None = None, file: Path | None = None) -> None:
    """Send everything logged in this process to `stream` (default stderr), or to `file` instead, and nowhere else.

    Args:
        level: one of `LEVELS`.
        file: appended to; made with mode 0600.
    """
    handler: logging.Handler
    if file is not None:
        file.touch(mode=0o600, exist_ok=True)
        handler = logging.FileHandler(file, encoding="utf-8")
    else:
        handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(LineFormatter(log_format))
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, LineFormatter):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for chatty in ("asyncio", "websockets", "aiohttp", "numba", "urllib3"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A surprise ends the process, and even its traceback passes the redaction."""
    logging.getLogger("aml100").critical("uncaught error", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        _log_uncaught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)


def _utc_text(created_s: float) -> str:
    return datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
