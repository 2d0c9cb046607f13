"""The one writer of state.db: a thread with a queue before it.

Whoever journals pays for one append to the queue. The thread takes everything that waits, writes it in one
transaction and resolves the futures after the commit, so that under load many steps share one trip to the disk
while the order of steps is kept. A batch is never torn.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec

from aml100.domain.clock import wall_ms
from aml100.domain.errors import AmlError, InvariantBroken
from aml100.domain.events import EquityMarked
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
_MISTAKES: Final[tuple[type[Exception], ...]] = (
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    msgspec.MsgspecError,
)
"""What making rows of facts raises where a value is none."""


class JournalFailed(AmlError):
    """The journal could not be written now; nothing may be sent that depends on it. It is tried again."""

    recoverable: ClassVar[bool] = True


@dataclass(slots=True, eq=False)
class Batch:
    """What belongs together: all of it is kept, or none. (Not frozen: made on the event loop, this halves its cost.)"""

    facts: Sequence[Fact]
    state: bytes | None
    event_lines: Sequence[str]
    marks: Mapping[Coin, Decimal]
    inputs: Sequence[tuple[int, Any]] = ()
    work: Callable[[Connection], None] | None = None
    """Done inside the transaction, after the rows."""
    future: Future[None] = field(default_factory=Future)


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
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
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
        """Queue a batch; its future resolves after the commit."""
        if self._ended.is_set():
            batch.future.set_exception(JournalFailed("the journal is closed; nothing more is written"))
            return
        self._queue.put(batch)
        if self._ended.is_set():
            self._fail_waiting()

    def close(self) -> None:
        """Write what waits and end the thread. JournalFailed where something could not be written."""
        self._queue.put(None)
        self._thread.join()
        lost = len(self._backlog)
        self._connection.close()
        if lost:
            raise JournalFailed(f"{lost} steps could not be written to the journal: {self.failure}")

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
        waits = self._dirty or bool(self._backlog)
        try:
            first = self._queue.get(timeout=_IDLE_S) if waits else self._queue.get()
        except queue.Empty:
            self._idle()
            return True
        group: list[Batch] = []
        item: Batch | None = first
        while item is not None:
            group.append(item)
            if len(group) >= _GROUP:
                break
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
        self._write(group)
        return item is not None

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
        live = [batch for batch in group if batch.future.set_running_or_notify_cancel()]
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
            batch.future.set_result(None)

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
                    one.future.set_exception(InvariantBroken(f"journal: {self.failure}"))
            except self._failures as error:
                rest = waiting[number:]
                self._hold_back(rest, [b for b in rest if b in live], error)
                return
            else:
                for one in alive:
                    one.future.set_result(None)

    def _hold_back(self, group: list[Batch], live: list[Batch], error: Exception) -> None:
        self._backlog.extend(group)
        self.failure = str(error)
        for batch in live:
            batch.future.set_exception(JournalFailed(f"journal: cannot be written ({error}); kept and tried again"))

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
                batch = self._queue.get_nowait()
            except queue.Empty:
                return
            if batch is not None and batch.future.set_running_or_notify_cancel():
                batch.future.set_exception(JournalFailed("the journal is closed; nothing more is written"))
