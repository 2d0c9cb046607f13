"""The garbage collector of a process that trades: what was there when trading began it does not walk again.

Modules, models and history are a few hundred thousand objects, and stay to the end. A walk of them takes a tenth of a
second, in which no message is read and no order leaves; it would come again and again, whenever enough was allocated.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aml100.domain.events import Record, StateChanged, TradingState


def spare_what_is_here() -> None:
    """From now on the collector looks at what is made later."""
    gc.collect()
    gc.freeze()


@contextmanager
def start_spared() -> Iterator[None]:
    """The same while the block runs, for a process that goes on to other things."""
    spare_what_is_here()
    try:
        yield
    finally:
        gc.unfreeze()


class SparesTheStart:
    """A listener that does so once, when trading begins; for the one engine of a process."""

    def __init__(self) -> None:
        self._has_begun = False

    def on_record(self, record: Record) -> None:
        if not self._has_begun and isinstance(record, StateChanged) and record.state is TradingState.TRADING:
            self._has_begun = True
            spare_what_is_here()

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        """Engine events say nothing of it."""
