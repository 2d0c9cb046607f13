"""Who hears what the engine does: the JSON lines, the plain lines, the journal's events, the screen's log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from aml100.domain.events import Record


class Listener(Protocol):
    """Told in order, on the event loop; must not block."""

    def on_record(self, record: Record) -> None:
        """A record of the core, just journalled."""

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        """An event of the engine itself: started, bar, feed, cycle, phase, training, model, command, stopped."""


class Listeners:
    """Several listeners as one."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = list(listeners)

    def add(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def on_record(self, record: Record) -> None:
        for listener in self._listeners:
            listener.on_record(record)

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        for listener in self._listeners:
            listener.on_event(kind, fields)
