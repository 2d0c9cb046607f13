"""Bars that a champion trades on although it was made from them: noticed, journalled, and known to the next run.

What is earned on them is no evidence (docs/adr/0018-seen-by-time.md).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from aml100.domain.market import Bar
from aml100.domain.units import iso_utc
from aml100.learning.bundle import Bundle
from aml100.storage.database import Database
from aml100.storage.entries import Entry, ModelEvent

log = logging.getLogger(__name__)


class InSample:
    """Of one ledger. `until_ms`: end of the last bar that a champion traded on and was made from; 0 where none was."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._model: str | None = None
        """Who trades on bars that it was made from, as the journal has it."""
        self.until_ms = 0

    def restore(self, last_end_ms: int) -> None:
        """What the journal knows, where the bars of before end at `last_end_ms`."""
        for event in self._database.model_events():
            if event.event == "in_sample":
                self._model = event.model
            elif event.event == "out_of_sample":
                self._model, self.until_ms = None, event.time_ms
        if self._model is not None:
            self.until_ms = last_end_ms

    def on_bars(self, champion: Bundle | None, bars: Sequence[Bar]) -> list[Entry]:
        """Bars that the champion has just decided on; answers what is journalled with them."""
        seen = None if champion is None else champion.record.seen
        if champion is None or seen is None or not any(map(seen.holds, bars)):
            return self._end()
        self.until_ms = max(bar.end_ms for bar in bars)
        if self._model == champion.id:
            return []
        self._model = champion.id
        reason = (
            f"made from the bars that it trades on, up to {iso_utc(seen.to_ms)}: what it earns there is no evidence"
        )
        log.warning("%s: %s", champion.id, reason)
        return [ModelEvent(self.until_ms, champion.id, "in_sample", reason)]

    def _end(self) -> list[Entry]:
        if self._model is None:
            return []
        model, self._model = self._model, None
        return [ModelEvent(self.until_ms, model, "out_of_sample", "the bars from here on are new to the model")]
