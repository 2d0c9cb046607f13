"""What the core said: journalled first, then told and done.

Records and the core's whole state go to the journal in one transaction; whatever acts at the venue waits for its
commit, and so does a venue that keeps step with us. While the journal cannot be written there is no new entry, and the
position stays managed (GUARANTEES D3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from aml100.domain.clock import Clock
from aml100.domain.errors import AmlError
from aml100.domain.events import (
    BY_ENGINE,
    AskOrders,
    CancelForeign,
    CancelOrders,
    Command,
    CommandName,
    CoreEvent,
    Effect,
    PlaceOrders,
    StateChanged,
    TradingState,
)
from aml100.engine.execution import AccountVenue, Executor
from aml100.engine.listener import Listeners
from aml100.storage.database import Database
from aml100.storage.entries import Entry
from aml100.storage.rows import Fact
from aml100.trading.core import TradingCore

log = logging.getLogger(__name__)

ACTIONS: Final = (PlaceOrders, CancelOrders, CancelForeign, AskOrders)
JOURNAL_FAILING: Final = "engine, journal failing"


class Outbox:
    """Carries out the effects of one core.

    Args:
        core: whose state is saved with its records.
        executor: acts at the venue; its transport is closed to new risk by a halt.
        venue: where the account is held.
        post: queues an event for the core.
        in_step: the venue goes on only from what is on disk, so every step is waited for.
    """

    def __init__(
        self,
        core: TradingCore,
        database: Database,
        executor: Executor,
        venue: AccountVenue,
        listeners: Listeners,
        post: Callable[[CoreEvent], None],
        clock: Clock,
        *,
        in_step: bool,
    ) -> None:
        self._core = core
        self._database = database
        self._executor = executor
        self._venue = venue
        self._listeners = listeners
        self._post = post
        self._clock = clock
        self._in_step = in_step
        self._is_failing = False
        self._has_resumed = False
        """The pause that the journal caused is over, and the core has not heard it yet."""
        self.durable: Future[None] | None = None
        """Resolves when the latest step that somebody waits for is on disk."""

    def send(self, effects: Sequence[Effect], facts: Sequence[Entry] = ()) -> None:
        """Records and state go to disk in one transaction; only what acts at the venue waits for it."""
        if not effects and not facts:
            return
        records = [effect for effect in effects if not isinstance(effect, ACTIONS)]
        actions = [effect for effect in effects if isinstance(effect, ACTIONS)]
        kept: list[Fact] = [*records, *facts]
        state, marks = self._core.export_state(), self._core.ledger.book.marks
        if actions or self._in_step:
            self.durable = self._database.journal(kept, state, marks=marks)
        else:  # nobody waits for it
            self._database.note(kept, state, marks)
        for record in records:
            if isinstance(record, StateChanged):
                self._on_state(record.state)
            self._listeners.on_record(record)
        if actions and self.durable is not None:
            self._executor.start(actions, asyncio.wrap_future(self.durable))

    def _on_state(self, state: TradingState) -> None:
        """A halt closes the transport to everything that adds risk; a resume opens it again."""
        halted = state is TradingState.HALTED
        self._executor.reduce_only = halted or self._is_failing
        if halted:
            self._venue.refuse_risk("halted")
        elif not self._is_failing:
            self._venue.allow_risk()
        if state is TradingState.TRADING:
            self._database.clear_latch("engine", self._clock.now_ms())

    def on_failure(self, error: AmlError | str) -> None:
        """The disk is full, or the database away: no new entry, the position stays managed, loudly."""
        if not self._is_failing:
            log.error("the journal cannot be written, entries stop: %s", error)
            self._is_failing = True
            self._executor.reduce_only, self._executor.refusal = True, "journal failing"
            if self._core.state.trading is TradingState.TRADING:
                self._post(Command(CommandName.PAUSE, f"{JOURNAL_FAILING}: {error}", self._clock.now_ms()))

    def look_at_journal(self) -> None:
        """It fails without an order that waits for it, too; and once everything is written the pause it caused ends."""
        failure = self._database.failure
        if failure is not None:
            self.on_failure(failure)
        elif self._is_failing and not self._database.backlog:
            log.warning("the journal is written again, everything since is in it")
            self._is_failing, self._executor.refusal = False, "halted"
            self._on_state(self._core.state.trading)
        if not self._is_failing:
            self._end_own_pause()

    def _end_own_pause(self) -> None:
        """What the journal paused goes on, also where an earlier run did; never before the breaker's pause is over."""
        state = self._core.state
        ours = state.trading is TradingState.PAUSED and state.paused_by.startswith(JOURNAL_FAILING)
        if not ours:
            self._has_resumed = False
        elif not self._has_resumed and not self._core.risk.state.breaker_until_ms:  # whose pause it would end as well
            self._has_resumed = True
            self._post(Command(CommandName.RESUME, BY_ENGINE + "journal written again", self._clock.now_ms()))
