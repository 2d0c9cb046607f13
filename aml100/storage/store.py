"""What the storage asks of whatever holds the rows: a SQLite file, or a schema of a PostgreSQL database.

A `Store` is named by a path, beside which an engine's other files lie. It says whether there is a state, opens
connections, and copies itself. The statements are the same for both; a `Connection` carries what differs: how a
transaction begins and ends, which errors mean "not now" and which "never", and what became of a commit whose answer
was lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

Synchronous: TypeAlias = Literal["NORMAL", "FULL"]


class Cursor(Protocol):
    """Rows of one statement."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchmany(self, size: int = ..., /) -> list[Any]: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """One session. Outside `begin` and `commit` every statement stands alone."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What a statement raises that could not be carried out just now, and may be later."""

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        """What it raises where a value or a rule of the tables forbids it, now and always."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Cursor: ...

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> Any: ...

    def begin(self) -> None:
        """A transaction that writes."""

    def begin_reading(self) -> None:
        """A transaction that sees one state of everything, whoever writes meanwhile."""

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def did_commit(self) -> bool:
        """Whether a commit that failed was carried out nevertheless; raises a failure where that is not known yet."""

    def tidy(self) -> None:
        """What is better done while nothing waits."""

    def close(self) -> None: ...


class Store(Protocol):
    """Where the rows of one state are."""

    path: Path

    def version(self) -> int:
        """The schema version; 0 where there is no state yet.

        Raises:
            StateError: damaged, another program's, or newer than this one; left untouched.
        """

    def connect_read(self, busy_timeout_ms: int = 5_000) -> Connection:
        """A session that cannot write; usable from any thread, one at a time."""

    def open_writer(self, synchronous: Synchronous, network: str, account: str, busy_timeout_ms: int) -> Connection:
        """The one writing session: checked, migrated, owned.

        Raises:
            StateError: see `version`; or it cannot be written, or another engine writes to it.
            SafetyRefusal: it belongs to another network or account.
        """

    def check_belongs(self, network: str, account: str) -> None:
        """Refuse, before anything is opened, what `open_writer` would refuse; nothing where there is no state yet."""

    def soundness(self, connection: Connection) -> tuple[bool, str]:
        """Whether the store itself is whole, and in words what was looked at."""

    def size_bytes(self) -> int: ...

    def written_ms(self) -> int:
        """Wall time of the latest write, about."""

    def __str__(self) -> str:
        """For people."""
