"""Alerts: what an operator should know of, kept in `alerts.jsonl` beside state.db until it has been seen.

One line a change: an alert raised (or raised again), one that is over, a console that left (so that the next one can
say what was missed). The file is written by the engine, and by the sentinel when the engine cannot: that is why it is
a file of its own and not a table. A line that is damaged is skipped; the file is cut to its newest part at a start.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from aml100.control.protocol import AlertView

Level = Literal["warning", "alarm"]
KEPT: Final = 200
SHOWN: Final = 50
FILE_NAME: Final = "alerts.jsonl"

RUNBOOK: Final = {
    "halted": "Trading is halted: nothing but exits and stops goes out until a person resumes",
    "paused": "Entries are paused; positions stay managed",
    "manage_only": "Our books and the venue's differ: exits and stops only",
    "circuit_breaker": "The drawdown reached the circuit breaker: flat and paused",
    "hard_stop": "The drawdown reached the hard stop: flat and halted until a person resumes",
    "protection": "A position was without a stop at the venue",
    "reconcile": "Positions at the venue differ from the journal's",
    "shared_account": "Another program places orders on this account: two engines on it undo each other",
    "equity_unknown": "The equity the venue reports cannot be true",
    "exit_failed": "An order that should close a position was not taken by the venue",
    "leverage": "The venue did not take our leverage: no entries on that coin",
    "listing": "The venue's rules for a coin could not be read",
    "guard": "A guard tripped",
    "feed_stale": "A market data stream has fallen silent: no entries on that coin",
    "feed_down": "The market data connection is gone: no entries",
    "no_bars": "No bar has closed for too long: nothing is decided",
    "loop_lag": "The engine's event loop is late",
    "order_rejected": "The venue rejected an order",
    "order_unknown": "The outcome of an order is not known; it is being asked for by client id",
    "liquidated": "The venue liquidated a position",
    "journal_failing": "state.db cannot be written: no entries, exits go on",
    "training_failed": "A training failed; the last good model trades on",
    "budget_low": "The venue's allowance of requests is nearly used up",
    "unclean_restart": "The engine before this one ended without a goodbye",
    "engine_hung": "The engine's process lives and does not answer",
    "engine_dead": "The engine's process is gone without a goodbye",
}
"""What each code means; docs/operating.md says what to do."""


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the file. `key` tells alerts of one code apart, e.g. the coin; `seen` marks a console's leaving."""

    time_ms: int
    code: str = ""
    key: str = ""
    level: Level = "warning"
    text: str = ""
    over: bool = False
    seen: bool = False


_decoder = msgspec.json.Decoder(Change)


class AlertBook:
    """The alerts of one state.db, in memory and on disk.

    Args:
        path: of the file; None: in memory only.

    `on_alarm` is told the code and the words of every alert of level `alarm` that is news.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.on_alarm: Callable[[str, str], None] | None = None
        self._alerts: dict[tuple[str, str], AlertView] = {}
        self._next = 1
        self.seen_ms = 0
        """Wall time at which the last console left."""

    def load(self) -> None:
        """Fold what the file holds, and cut it to its newest part."""
        if self._path is None or not self._path.exists():
            return
        lines = self._path.read_bytes().splitlines()
        for change in _changes(lines):
            self._fold(change)
        if len(lines) > 4 * KEPT:
            fresh = self._path.with_name(self._path.name + ".new")
            fresh.write_bytes(b"\n".join(lines[-KEPT:]) + b"\n")
            os.replace(fresh, self._path)

    def raise_(self, code: str, text: str, now_ms: int, *, key: str = "", level: Level = "warning") -> bool:
        """Something is wrong; answers whether that is news. The same words count again after a minute only."""
        known = self._alerts.get((code, key))
        if known is not None and known.active and known.text == text and now_ms - known.last_ms < 60_000:
            return False
        news = known is None or not known.active
        self._note(Change(now_ms, code, key, level, text))
        if news and level == "alarm" and self.on_alarm is not None:
            self.on_alarm(code, text)
        return news

    def clear(self, code: str, now_ms: int, *, key: str = "") -> None:
        """It is over."""
        known = self._alerts.get((code, key))
        if known is not None and known.active:
            self._note(Change(now_ms, code, key, over=True))

    def clear_all(self, code: str, now_ms: int) -> None:
        """Every alert of a code is over."""
        for (other, key), known in list(self._alerts.items()):
            if other == code and known.active:
                self.clear(code, now_ms, key=key)

    def console_left(self, now_ms: int) -> None:
        """Whoever attaches next has missed what comes from now on."""
        self._note(Change(now_ms, seen=True))

    def views(self) -> tuple[AlertView, ...]:
        """The latest first, at most `SHOWN`."""
        return tuple(sorted(self._alerts.values(), key=lambda one: (one.last_ms, one.id), reverse=True)[:SHOWN])

    def active(self) -> tuple[AlertView, ...]:
        return tuple(one for one in self._alerts.values() if one.active)

    def _note(self, change: Change) -> None:
        self._fold(change)
        if self._path is not None:
            append(self._path, change)

    def _fold(self, change: Change) -> None:
        if change.seen:
            self.seen_ms = max(self.seen_ms, change.time_ms)
            return
        place = change.code, change.key
        known = self._alerts.get(place)
        if change.over:
            if known is not None:
                self._alerts[place] = msgspec.structs.replace(known, active=False, last_ms=change.time_ms)
            return
        if known is not None and known.active:
            self._alerts[place] = msgspec.structs.replace(
                known, text=change.text, level=change.level, last_ms=change.time_ms, count=known.count + 1
            )
            return
        self._alerts.pop(place, None)
        count = 1 if known is None else known.count + 1
        self._alerts[place] = AlertView(
            self._next, change.code, change.level, change.text, change.time_ms, change.time_ms, count
        )
        self._next += 1
        while len(self._alerts) > KEPT:
            del self._alerts[next(iter(self._alerts))]


def append(path: Path, change: Change) -> None:
    """One line, whole or not at all; a disk that is full loses the line and never the engine."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(change) + b"\n")
        finally:
            os.close(descriptor)


def _changes(lines: list[bytes]) -> Iterator[Change]:
    for text in lines:
        with contextlib.suppress(msgspec.MsgspecError):
            yield _decoder.decode(text)
