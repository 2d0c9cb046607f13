"""Values of options: text in, a checked value out; ValueError says what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from aml100.domain.units import INTERVALS, parse_decimal, parse_duration_s, parse_time_ms
from aml100.storage.address import DatabaseUrl, parse_database_url

_COIN = re.compile(r"(?:[A-Za-z0-9]{1,12}:)?[A-Za-z0-9][A-Za-z0-9._-]{0,23}")
_URL = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]*[A-Za-z0-9\]]/?")
_HEX_KEY = re.compile(r"(?:0x)?[0-9a-fA-F]{64}")
_YEAR_1_MS, _YEAR_10000_MS = -62_135_596_800_000, 253_402_300_800_000
_MOST_DAYS = 36_500
_MOST_USD = 1_000_000_000_000


@dataclass(frozen=True, slots=True)
class VenueChoice:
    """Which venue: the embedded one (`sim`), a network, or one of the same protocol at a URL."""

    kind: Literal["sim", "testnet", "mainnet", "url"]
    rest_url: str | None = None
    """Of `url` only; without a slash at the end."""

    def __str__(self) -> str:
        return self.rest_url or self.kind

    @property
    def ws_url(self) -> str | None:
        """Of `url` only: the same host's `/ws`."""
        return None if self.rest_url is None else f"ws{self.rest_url.removeprefix('http')}/ws"


def parse_venue(text: str) -> VenueChoice:
    match text:
        case "sim" | "testnet" | "mainnet":
            return VenueChoice(text)
        case _ if _URL.fullmatch(text):
            return VenueChoice("url", text.rstrip("/"))
    raise ValueError(f"{text!r} is no venue; allowed: sim, testnet, mainnet or http://HOST:PORT")


def parse_coin(text: str) -> str:
    if _COIN.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no coin; allowed: a name such as BTC, kPEPE or xyz:XYZ100")
    return text


def parse_interval(text: str) -> str:
    if text not in INTERVALS:
        raise ValueError(f"{text!r} is no interval; allowed: {', '.join(INTERVALS)}")
    return text


def parse_wait_s(text: str) -> float:
    seconds = parse_duration_s(text)
    if seconds <= 0:
        raise ValueError(f"{text!r} is no time to wait; allowed: more than 0, as 10m")
    return seconds


def parse_moment_ms(text: str) -> int:
    """A time that a calendar has: microseconds, or a digit too many, would lie ages from any bar."""
    moment_ms = parse_time_ms(text)
    if not _YEAR_1_MS <= moment_ms < _YEAR_10000_MS:
        raise ValueError(f"{text!r} is refused; allowed: ISO 8601 or milliseconds, before the year 10000")
    return moment_ms


def parse_days(text: str) -> float:
    value = _number(text)
    if not 0 < value <= _MOST_DAYS:
        raise ValueError(f"{text} is refused; allowed: a number above 0 to {_MOST_DAYS}")
    return value


def parse_path(text: str) -> Path:
    if not text:
        raise ValueError("an empty path; allowed: a path")
    return Path(text).expanduser()


def parse_state(text: str) -> Path | DatabaseUrl:
    """A file, or a database; the text of a URL is not repeated, for it may hold a password."""
    if "://" in text:
        return parse_database_url(text)
    path = parse_path(text)
    if path.name in ("", ".."):
        raise ValueError(f"{text} is a folder; allowed: the path of a state.db")
    return path


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no number; allowed: a finite number")
    return value


def parse_positive(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise ValueError(f"{text} is refused; allowed: a number above 0")
    return value


def number_from(low: float, high: float) -> Callable[[str], float]:
    """A parser of numbers from `low` to `high`."""

    def parse(text: str) -> float:
        value = _number(text)
        if not low <= value <= high:
            raise ValueError(f"{text} is refused; allowed: a number from {low:g} to {high:g}")
        return value

    return parse


def parse_whole(text: str) -> int:
    """A whole number of at least 0."""
    if re.fullmatch(r"\d{1,18}", text, re.ASCII) is None:
        allowed = "of at most 18 digits" if re.fullmatch(r"\d+", text, re.ASCII) else "of at least 0"
        raise ValueError(f"{text!r} is refused; allowed: a whole number {allowed}")
    return int(text)


def parse_count(text: str) -> int:
    value = parse_whole(text) if text.isdigit() else 0
    if value < 1:
        raise ValueError(f"{text!r} is refused; allowed: a whole number of at least 1")
    return value


def parse_port(text: str) -> int:
    value = parse_whole(text) if text.isdigit() else -1
    if not 0 <= value <= 65535:
        raise ValueError(f"{text!r} is no port; allowed: 0 to 65535")
    return value


def parse_positive_usd(text: str) -> Decimal:
    value = parse_decimal(text)
    if not 0 < value <= _MOST_USD:
        raise ValueError(f"{text} is refused; allowed: USD above 0 to {_MOST_USD}")
    return value


def parse_hex_key(text: str) -> str:
    """A private key; the text is never repeated in an error."""
    if _HEX_KEY.fullmatch(text) is None:
        raise ValueError("no private key; allowed: 64 hex digits, with or without 0x")
    return text if text.startswith("0x") else f"0x{text}"
