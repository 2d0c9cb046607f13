"""The one writer of state.db: a thread with a queue before it.

Whoever journals pays for one append to the queue. The thread takes everything that waits, writes it in one
transaction and resolves the futures after the commit, so that under load many steps share one trip to the disk
while the order of steps is kept. A batch is never torn.

Waking a thread costs whoever does it ten times the append. So a batch that nobody waits for wakes the thread only
from sleep: having written, it looks for more by itself every 10 ms, and sleeps after half a second without.

When the disk is full, read-only or locked, or the database server is away, the batches of the group are failed at once
with `JournalFailed` (so that no order leaves that is not on disk) but are kept: they are written, before anything
newer, as soon as it works again. Where only the answer to a commit was lost, the store is asked what became of it
before anything is written a second time.

A batch that can never be written, because a value in it is not finite or a rule of the tables is broken, fails with
`InvariantBroken` and is dropped; nothing else is affected.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec

from aml100.domain.clock import wall_ms
from aml100.domain.errors import AmlError, InvariantBroken
from aml100.domain.events import Decision, EquityMarked, FillRecorded, LedgerPosted, OrderRecorded
from aml100.domain.units import Coin
from aml100.storage.entries import Run
from aml100.storage.inputs import Packed
from aml100.storage.rows import (
    CORE_STATE_SQL,
    EQUITY_SQL,
    EVENT_SQL,
    INPUT_SQL,
    KEEPS,
    Fact,
    Stamp,
    Values,
    equity_values,
)
from aml100.storage.store import Connection

_GROUP: Final = 512
"""Batches that share a commit at most."""
_IDLE_S: Final = 1.0
_LOOK_S: Final = 0.01
_LOOKS: Final = 50
"""How often, and how many times, the thread looks by itself for what nobody waits for."""
_MISTAKES: Final[tuple[type[Exception], ...]] = (
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    msgspec.MsgspecError,
)
"""What making rows of facts raises where a value is none."""


_NAMED: Final = (
    (FillRecorded, "fills"),
    (LedgerPosted, "ledger rows"),
    (OrderRecorded, "order states"),
    (Decision, "decisions"),
)


class JournalFailed(AmlError):
    """The journal could not be written now; nothing may be sent that depends on it. It is tried again."""

    recoverable: ClassVar[bool] = True


class Batch(msgspec.Struct, eq=False, gc=False):
    """What belongs together: all of it is kept, or none. Without `future` nobody waits for it.

    A struct that the collector passes over: one is made on the event loop for every step, and refers to nothing that
    could refer to it.
    """

    facts: Sequence[Fact]
    state: bytes | None
    event_lines: Sequence[str]
    marks: Mapping[Coin, Decimal]
    inputs: Sequence[tuple[int, Any]] = ()
    work: Callable[[Connection], None] | None = None
    """Done inside the transaction, after the rows."""
    future: Future[None] | None = None

    def begins(self) -> bool:
        """Writing it begins; False where whoever waited has given up."""
        return self.future is not None and self.future.set_running_or_notify_cancel()

    def succeeds(self) -> None:
        if self.future is not None:
            self.future.set_result(None)

    def fails(self, error: AmlError) -> None:
        if self.future is not None:
            self.future.set_exception(error)


def _what_is_in(batches: Sequence[Batch]) -> str:
    """What of money and orders is in these, in words."""
    counts = Counter(type(fact) for batch in batches for fact in batch.facts)
    words = [f"{counts[kind]} {name}" for kind, name in _NAMED if counts[kind]]
    return ", ".join(words) or "no order, fill or ledger row among them"


class _EventHead(msgspec.Struct):
    seq: int
    time_ms: int
    type: str


_event_head = msgspec.json.Decoder(_EventHead)


def statements(
    batches: Iterable[Batch], stamp: Stamp, pack: Callable[[Sequence[tuple[int, Any]]], Packed] | None = None
) -> dict[str, list[Values]]:
    """Rows by statement, in order; `stamp.seq` moves on by one a row. `pack` makes one row of all their inputs."""
    rows: dict[str, list[Values]] = {}
    inputs: list[tuple[int, Any]] = []
    for batch in batches:
        for fact in batch.facts:
            if type(fact) is EquityMarked:
                sql, values = EQUITY_SQL, equity_values(fact, stamp, batch.marks)
            else:
                if type(fact) is Run:
                    stamp.run_id = fact.run_id
                keep = KEEPS.get(type(fact))
                if keep is None:
                    continue
                kept = keep.values(fact, stamp)
                if kept is None:
                    continue
                sql, values = keep.sql, kept
            rows.setdefault(sql, []).append(values)
            stamp.seq += 1
        for line in batch.event_lines:
            head = _event_head.decode(line)
            event: Values = (stamp.seq, head.seq, head.time_ms, head.type, line, stamp.run_id, stamp.book)
            rows.setdefault(EVENT_SQL, []).append(event)
            stamp.seq += 1
        if batch.state is not None:
            rows[CORE_STATE_SQL] = [(stamp.book, stamp.seq, batch.state)]
        inputs += batch.inputs
    if inputs and pack is not None:
        packed = pack(inputs)
        written = (stamp.seq, stamp.run_id, stamp.book, wall_ms())
        rows[INPUT_SQL] = [(*written, packed.from_ms, packed.to_ms, packed.count, int(packed.begins), packed.data)]
        stamp.seq += 1
    return rows


class Writer:
    """Owns the writing connection from `start` to `close`; both are called by the one who opened the file."""

    def __init__(self, connection: Connection, stamp: Stamp) -> None:
        self._connection = connection
        self._failures = connection.failures
        self._never_writable: tuple[type[Exception], ...] = (*connection.refusals, *_MISTAKES)
        self._troubles: tuple[type[Exception], ...] = (*self._failures, *self._never_writable)
        self._stamp = stamp
        self._waiting: deque[Batch | None] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._sleeps = False
        self._backlog: list[Batch] = []
        self._doubt: tuple[int, int] | None = None
        """The first so many of the backlog may be written already, and the number of the next row if they are."""
        self._dirty = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self.pack: Callable[[Sequence[tuple[int, Any]]], Packed] | None = None
        """Makes a row of recorded inputs; None where none are recorded."""
        self.failure: str | None = None
        """Why the latest commit failed; None while the journal is sound."""

    def start(self) -> None:
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Queue a batch; its future resolves after the commit. Where it has none that may be 10 ms later."""
        if self._ended.is_set():
            batch.fails(JournalFailed("the journal is closed; nothing more is written"))
            return
        self._waiting.append(batch)
        if batch.future is not None or self._sleeps:
            self._sleeps = False
            self._bell.put(None)
        if self._ended.is_set():
            self._fail_waiting()

    def close(self) -> None:
        """Write what waits and end the thread. JournalFailed where something could not be written."""
        self._waiting.append(None)
        self._bell.put(None)
        self._thread.join()
        lost = self._backlog
        self._connection.close()
        if lost:
            raise JournalFailed(
                f"{len(lost)} steps could not be written to the journal and are lost ({_what_is_in(lost)}): "
                f"{self.failure}; the next start goes on from what is written and asks the venue what happened since"
            )

    @property
    def backlog(self) -> int:
        """Steps that failed and wait to be written."""
        return len(self._backlog)

    def _run(self) -> None:
        try:
            while self._take_group():
                pass
        finally:
            self._ended.set()
            self._fail_waiting()

    def _take_group(self) -> bool:
        """One round: wait, drain, commit. False after the end was asked for."""
        if not self._comes():
            self._idle()
            return True
        group: list[Batch] = []
        goes_on = True
        while self._waiting and len(group) < _GROUP and goes_on:
            item = self._waiting.popleft()
            if item is None:
                goes_on = False
            else:
                group.append(item)
        self._write(group)
        return goes_on

    def _comes(self) -> bool:
        """Wait until something is there; False where nothing came and there is house to keep."""
        for _ in range(_LOOKS):
            if self._waiting:
                return True
            with suppress(queue.Empty):
                self._bell.get(timeout=_LOOK_S)
        while True:
            self._sleeps = True  # from here on whoever puts rings: he sees this, or we see what he put
            if self._waiting:
                self._sleeps = False
                return True
            try:
                self._bell.get(timeout=_IDLE_S if self._dirty or self._backlog else None)
            except queue.Empty:
                self._sleeps = False
                return bool(self._waiting)

    def _idle(self) -> None:
        if self._backlog:
            self._write([])
            return
        try:
            self._connection.tidy()
        except self._failures as error:
            self.failure = f"checkpoint: {error}"
        self._dirty = False

    def _write(self, group: list[Batch]) -> None:
        live = [batch for batch in group if batch.begins()]
        try:
            self._settle()
            self._commit([*self._backlog, *group])
        except self._never_writable:
            self._write_singly(group, live)
            return
        except self._failures as error:
            self._hold_back(group, live, error)
            return
        self._backlog = []
        self.failure = None
        for batch in live:
            batch.succeeds()

    def _write_singly(self, group: list[Batch], live: list[Batch]) -> None:
        """Find the batch that spoils the group: each by itself, in order."""
        waiting, self._backlog = [*self._backlog, *group], []
        for number, batch in enumerate(waiting):
            alive = [batch] if batch in live else []
            try:
                self._commit([batch])
            except self._never_writable as error:
                self.failure = f"a step cannot be written: {error}"
                for one in alive:
                    one.fails(InvariantBroken(f"journal: {self.failure}"))
            except self._failures as error:
                rest = waiting[number:]
                self._hold_back(rest, [b for b in rest if b in live], error)
                return
            else:
                for one in alive:
                    one.succeeds()

    def _hold_back(self, group: list[Batch], live: list[Batch], error: Exception) -> None:
        self._backlog.extend(group)
        self.failure = str(error)
        for batch in live:
            batch.fails(JournalFailed(f"journal: cannot be written ({error}); kept and tried again"))

    def _settle(self) -> None:
        """Take out of the backlog what was written although the answer to its commit was lost."""
        if self._doubt is not None:
            count, next_seq = self._doubt
            if self._connection.did_commit():
                del self._backlog[:count]
                self._stamp.seq = next_seq
            self._doubt = None

    def _commit(self, batches: list[Batch]) -> None:
        connection, before, asked = self._connection, self._stamp.seq, False
        try:
            rows = statements(batches, self._stamp, self.pack)
            connection.begin()
            for sql, values in rows.items():
                connection.executemany(sql, values)
            for batch in batches:
                if batch.work is not None:
                    batch.work(connection)
            asked = True
            connection.commit()
        except self._troubles:
            if asked:
                self._doubt = len(batches), self._stamp.seq
            self._stamp.seq = before
            connection.rollback()
            raise
        self._dirty = True

    def _fail_waiting(self) -> None:
        """Nobody may wait for ever, whatever ended the thread."""
        while True:
            try:
                batch = self._waiting.popleft()
            except IndexError:
                return
            if batch is not None and batch.begins():
                batch.fails(JournalFailed("the journal is closed; nothing more is written"))
