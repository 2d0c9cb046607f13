"""No secret leaves through a log line, whatever carries it."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aml100 import logs
from tests.unit.untouched import untouched_logging

KEY = "0x" + "c0ffee12" * 8


@pytest.fixture(autouse=True)
def _untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logs, "_secrets", set())
    with untouched_logging():
        yield


def logged(log_format: logs.LogFormat, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(level, log_format, stream)
    return stream


def test_a_json_line_holds_time_level_logger_text_and_fields() -> None:
    stream = logged("json")
    logging.getLogger("aml100.engine").warning("feed %s", "stale", extra={"fields": {"coin": "BTC", "age_ms": 31000}})
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "aml100.engine",
        "text": "feed stale",
        "coin": "BTC",
        "age_ms": 31000,
    }


def test_a_text_line_holds_the_same() -> None:
    stream = logged("text")
    logging.getLogger("aml100.engine").info("started", extra={"fields": {"pid": 7}})
    assert stream.getvalue().rstrip().endswith("INFO    aml100.engine: started pid=7")


def test_lines_under_the_level_are_left_out() -> None:
    stream = logged("text", "warning")
    logging.getLogger("aml100").info("quiet")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_private_key_is_redacted_in_message_fields_and_traceback(log_format: logs.LogFormat) -> None:
    stream = logged(log_format)
    log = logging.getLogger("some.library")
    log.info("key %s", KEY)
    log.info("in a field", extra={"fields": {"key": KEY}})
    try:
        raise ValueError(f"bad key {KEY.upper().replace('0X', '0x')}")
    except ValueError:
        log.exception("failed")
    written = stream.getvalue()
    assert "c0ffee12" not in written.lower()
    assert written.count(logs.REDACTED) >= 3


def test_the_value_of_a_secret_variable_is_redacted_in_any_form() -> None:
    logs.add_secrets_of({"AML100_PRIVATE_KEY": KEY})
    for form in (KEY, KEY[2:], KEY[2:].upper(), f"x{KEY[2:]}y"):
        assert "c0ffee12" not in logs.redact(form).lower()


def test_a_short_or_empty_secret_does_not_eat_the_log() -> None:
    logs.add_secrets_of({"AML100_PRIVATE_KEY": ""})
    logs.add_secret("0x1")
    assert logs.redact("take 1 at 0x1") == "take 1 at 0x1"


def test_an_address_and_an_order_id_stay_readable() -> None:
    text = f"order 0x{'ab' * 16} of 0x{'cd' * 20}"
    assert logs.redact(text) == text


def test_a_surprise_that_ends_the_process_is_logged_redacted() -> None:
    stream = logged("text")
    error = RuntimeError(f"with {KEY}")
    sys.excepthook(RuntimeError, error, None)
    assert "uncaught error" in stream.getvalue()
    assert "c0ffee12" not in stream.getvalue()


def test_a_log_file_is_the_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    logs.set_up("info", "text", file=file)
    logging.getLogger("aml100").info("hello")
    assert file.stat().st_mode & 0o777 == 0o600
    assert "hello" in file.read_text()


def test_setting_up_twice_writes_each_line_once() -> None:
    logged("text")
    stream = logged("text")
    logging.getLogger("aml100").info("once")
    assert stream.getvalue().count("once") == 1
