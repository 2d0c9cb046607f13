"""state.db, open: one writer, many questions.

`journal` is the only door by which anything enters, and what enters together is kept together or not at all. Whoever
must not act before it is on disk waits for the future; whoever reports telemetry drops it.

    with Database.open(path, synchronous="FULL", network="mainnet", account="0x…", book="venue") as database:
        database.journal(records, state=core.export_state()).result()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from aml100.domain.errors import SafetyRefusal, StateError
from aml100.domain.units import Coin
from aml100.storage import entries, inputs
from aml100.storage.copying import backup
from aml100.storage.inputs import InputSource
from aml100.storage.reader import EquityPoint, StateReader
from aml100.storage.rows import COMMAND_SQL, Fact, Stamp
from aml100.storage.store import Connection, Synchronous
from aml100.storage.stores import store_of
from aml100.storage.verifying import Check, Fold, verify
from aml100.storage.writer import Batch, JournalFailed, Writer

_NO_MARKS: Final[Mapping[Coin, Decimal]] = MappingProxyType({})
_NUMBERED: Final = (
    *("orders", "fills", "equity", "decisions", "trades", "events", "phases", "inputs", "model_events"),
)


def _next_seq(connection: Connection) -> int:
    latest = [connection.execute(f"SELECT max(seq) FROM {table}").fetchone()[0] for table in (*_NUMBERED, "core_state")]
    latest.append(connection.execute("SELECT max(id) FROM ledger").fetchone()[0])
    return 1 + max(number or 0 for number in latest)


class Database(StateReader):
    """A state.db being written by this process. Made by `open` only."""

    def __init__(self, reader: Connection, writer: Writer, path: Path, book: str) -> None:
        super().__init__(reader, path, book)
        self._writer = writer
        self._inputs: InputSource | None = None

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        synchronous: Synchronous,
        network: str,
        account: str,
        book: str,
        *,
        busy_timeout_ms: int = 5_000,
    ) -> Iterator[Database]:
        """Check, migrate and open for writing; a new file is made where there is none.

        Args:
            synchronous: FULL survives a power cut at every commit, NORMAL a killed process.
            network: sim, testnet or mainnet; with `account`, whom the file belongs to from its first opening on.
            book: `venue` or `paper`.

        Raises:
            StateError: damaged, newer than this program, or not writable; left untouched.
            SafetyRefusal: of another network or account; left untouched.
            JournalFailed: on leaving, where something could not be written until then.
        """
        store = store_of(path)
        connection = store.open_writer(synchronous, network, account, busy_timeout_ms)
        writer = Writer(connection, Stamp(book, network, "", _next_seq(connection)))
        writer.start()
        reader = store.connect_read(busy_timeout_ms)
        try:
            yield cls(reader, writer, path, book)
        finally:
            reader.close()
            writer.close()

    def journal(
        self,
        records: Sequence[Fact],
        state: bytes | None = None,
        event_lines: Sequence[str] = (),
        marks: Mapping[Coin, Decimal] = _NO_MARKS,
    ) -> Future[None]:
        """Queue one transaction; costs the caller about a microsecond and never blocks.

        Args:
            records: what the core recorded in one step, in order. Repeated fills, ledger rows, decisions and trades
                change nothing; an order takes its latest state.
            state: the core's exported state after the step.
            event_lines: the lines of the headless event stream (JSON with seq, time_ms, type) to keep.
            marks: what open positions were valued at, kept with an `EquityMarked` among the records.

        Returns:
            Resolved after the commit; fails with JournalFailed (kept, tried again) or InvariantBroken (dropped).
        """
        entered = () if self._inputs is None else self._inputs.take()
        kept = dict(marks) if marks else _NO_MARKS
        future: Future[None] = Future()
        self._writer.put(Batch(tuple(records), state, event_lines, kept, entered, None, future))
        return future

    def note(
        self, records: Sequence[Fact], state: bytes | None = None, marks: Mapping[Coin, Decimal] = _NO_MARKS
    ) -> None:
        """`journal` for what nobody waits for: in the same order, some 10 ms later, for a fraction of the cost."""
        entered = () if self._inputs is None else self._inputs.take()
        self._writer.put(Batch(tuple(records), state, (), dict(marks) if marks else _NO_MARKS, entered))

    def record_inputs(self, source: InputSource) -> None:
        """From now on every transaction holds what `source` has recorded since the one before."""
        self._inputs, self._writer.pack = source, source.pack

    def archive_inputs(self, before_ms: int) -> int:
        """Move the recorded inputs of all days that ended before `before_ms` (wall time) into one file a day.

        Blocks: to be called from a thread. Answers how many days were moved.

        Raises:
            DataFileError: an archive cannot be written; its rows stay where they are.
        """
        days = 0
        while (day := inputs.archive_day(self, before_ms)) is not None:
            done: Future[None] = Future()
            self._writer.put(Batch((), None, (), _NO_MARKS, work=partial(_forget_inputs, day), future=done))
            done.result()
            days += 1
        return days

    def flush(self) -> None:
        """Wait until everything journalled so far is committed; raises what the journal failed with."""
        self.journal(()).result()

    @property
    def failure(self) -> str | None:
        """Why the journal cannot be written just now; None while it is sound (GUARANTEES D3)."""
        return self._writer.failure

    @property
    def backlog(self) -> int:
        """Failed steps that are kept and tried again."""
        return self._writer.backlog

    # --- the engine's own facts ---

    def start_run(self, run: entries.Run) -> Future[None]:
        """From here on rows carry this run's id."""
        return self.journal((run,))

    def stop_run(self, stop: entries.RunStopped) -> Future[None]:
        return self.journal((stop,))

    def record_training(self, training: entries.Training) -> Future[None]:
        return self.journal((training,))

    def clear_latch(self, by: str, time_ms: int) -> Future[None]:
        """A person resumed; the command itself is journalled as a `CommandDone`."""
        return self.journal((entries.HaltCleared(by, time_ms),))


def _forget_inputs(day: tuple[int, int], connection: Connection) -> None:
    """Delete a day that an archive holds now."""
    connection.execute("DELETE FROM inputs WHERE wall_ms >= ? AND wall_ms < ?", day)


def clear_halt_latch(path: Path, by: str, time_ms: int) -> bool:
    """Resume without an engine: clear the latch and note who did it. False where nothing was halted.

    Raises:
        StateError: no state.db there, or it cannot be used.
        SafetyRefusal: the file HALT lies beside it.
    """
    store = store_of(path)
    if store.version() == 0:
        raise StateError(f"{store}: no state here; allowed: one that `run` has made")
    halt = path.parent / "HALT"
    if halt.exists():
        raise SafetyRefusal(f"{halt} is there; remove it first, then resume")
    connection = store.open_writer("FULL", "", "", 5_000)
    try:
        connection.begin()
        latched = connection.execute("DELETE FROM meta WHERE key = 'halt_latch'").rowcount > 0
        result = "resumed; no engine was running" if latched else "was not halted"
        connection.execute(COMMAND_SQL, (time_ms, "resume", by, result))
        connection.commit()
    except connection.failures as error:
        raise StateError(f"{store}: cannot be written ({error})") from None
    finally:
        connection.close()
    return latched


__all__ = [
    "Check",
    "Database",
    "EquityPoint",
    "Fold",
    "JournalFailed",
    "StateReader",
    "backup",
    "clear_halt_latch",
    "verify",
]
