"""A state in PostgreSQL keeps what a state.db keeps: the same tests on a real server, and what only a server can do."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlmodel import SQLModel

from aml100.domain.errors import StateError, UsageError
from aml100.storage.address import NOTE, note_address, parse_database_url, read_address
from aml100.storage.database import Database, JournalFailed, StateReader, backup
from aml100.storage.migrations import SCHEMA_VERSION
from aml100.storage.postgres import PostgresWriter
from aml100.storage.stores import has_state, store_of
from aml100.storage.verifying import verify
from aml100.trading.ledger import apply_fill
from tests.postgres import Server
from tests.unit.storage import test_database as on_a_file
from tests.unit.storage import test_verifying as books
from tests.unit.storage.test_database import ACCOUNT, opened, posted

# The behaviour of the journal that does not depend on where the rows lie.
test_what_was_journalled_is_read_back_equal = on_a_file.test_what_was_journalled_is_read_back_equal
test_repeated_fills_and_ledger_rows_count_once = on_a_file.test_repeated_fills_and_ledger_rows_count_once
test_balance_is_the_exact_sum = on_a_file.test_balance_is_the_exact_sum
test_one_decision_a_coin_and_bar = on_a_file.test_one_decision_a_coin_and_bar
test_every_decision_has_its_reason_in_the_histogram = on_a_file.test_every_decision_has_its_reason_in_the_histogram
test_a_halt_is_latched_and_stays = on_a_file.test_a_halt_is_latched_with_the_step_that_halted_and_stays
test_resume_without_an_engine = on_a_file.test_resume_without_an_engine_clears_the_latch_and_is_journalled
test_paper_and_venue_share_a_state_but_no_row = on_a_file.test_paper_and_venue_share_a_file_but_no_row
test_a_value_that_is_not_finite_spoils_its_own_step = on_a_file.test_a_value_that_is_not_finite_spoils_its_own_step_only
test_numbers_go_on_after_a_restart = on_a_file.test_numbers_go_on_after_a_restart
test_another_network_or_account_is_refused = on_a_file.test_another_network_or_account_is_refused
test_event_lines_are_kept_as_they_were_written = on_a_file.test_event_lines_are_kept_as_they_were_written


@pytest.fixture
def path(server: Server, tmp_path: Path) -> Path:
    return note_address(parse_database_url(server.url), tmp_path)


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with opened(path) as db:  # type: ignore[attr-defined]
        yield db


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    address = read_address(path)
    with psycopg.connect(address.url, autocommit=True) as session:
        session.execute(f'SET search_path TO "{address.schema}"')
        return session.execute(sql).fetchall()


def test_books_worked_out_by_hand_verify(path: Path) -> None:
    books.bought_and_sold(path)
    books.test_books_worked_out_by_hand_verify(path)


def test_books_are_verified_apart(path: Path) -> None:
    books.bought_and_sold(path)
    books.test_books_are_verified_apart(path)


# --- the note ----------------------------------------------------------------------------------------------------


def test_a_home_keeps_its_schema_and_no_other_database(server: Server, tmp_path: Path) -> None:
    first = note_address(parse_database_url(server.url), tmp_path / "a")
    other = note_address(parse_database_url(server.url), tmp_path / "b")
    assert read_address(first).schema != read_address(other).schema
    assert first.stat().st_mode & 0o777 == 0o600
    moved = (tmp_path / "a").rename(tmp_path / "c")
    assert read_address(note_address(parse_database_url(server.url), moved)) == read_address(moved / NOTE)
    with pytest.raises(UsageError, match="its rows lie in"):
        note_address(parse_database_url(server.url.replace("/postgres?", "/elsewhere?")), moved)
    with pytest.raises(UsageError, match="its rows lie in"):
        note_address(parse_database_url(server.url + "&schema=elsewhere"), moved)


def test_a_password_is_kept_but_never_shown(tmp_path: Path) -> None:
    url = parse_database_url("postgresql+psycopg://me:s3cret@db.example/aml?schema=btc")
    address = read_address(note_address(url, tmp_path))
    assert "s3cret" in address.url
    assert str(address) == "postgresql://me@db.example/aml schema btc"
    assert "s3cret" not in repr(address) + repr(url)


@pytest.mark.parametrize("text", ["mysql://h/db", "postgresql+psycopg://h:port/db", "postgresql://h/db?schema=A B"])
def test_what_is_no_url_of_postgresql_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed"):
        parse_database_url(text)


# --- the schema --------------------------------------------------------------------------------------------------


def test_migrations_make_what_the_table_classes_say(path: Path, database: Database) -> None:
    schema = read_address(path).schema
    for name, table in SQLModel.metadata.tables.items():
        columns = rows(
            path,
            "SELECT column_name, is_nullable = 'YES', data_type FROM information_schema.columns "
            f"WHERE table_schema = '{schema}' AND table_name = '{name}' AND column_name <> 'rowid' "
            "ORDER BY ordinal_position",
        )
        assert [(c[0], c[1]) for c in columns] == [(c.name, c.nullable) for c in table.columns], name
        assert {c[2] for c in columns} <= {"bigint", "text", "double precision", "bytea"}
        indexes = rows(path, f"SELECT indexname FROM pg_indexes WHERE schemaname = '{schema}' AND tablename = '{name}'")
        assert {index for (index,) in indexes if not str(index).endswith("_pkey")} == {i.name for i in table.indexes}
    assert database.meta("schema_version") == str(SCHEMA_VERSION)


def test_rows_come_back_in_the_order_in_which_they_came(database: Database) -> None:
    """Where times are equal too; SQLite has its rowid for that."""
    from aml100.storage.entries import Training

    for name in ("c", "a", "b"):
        database.record_training(Training(name, 1, "done", "schedule", 1, 0, 1))
    database.record_training(Training("c", 1, "failed", "schedule", 1, 0, 1))
    database.flush()
    assert [one.id for one in database.trainings()] == ["c", "a", "b"]


def test_there_is_no_state_before_the_first_run_and_foreign_tables_are_left_alone(path: Path) -> None:
    assert not has_state(path)
    with pytest.raises(StateError, match="no state here"), StateReader.read(path):
        pass
    schema = read_address(path).schema
    with psycopg.connect(read_address(path).url, autocommit=True) as session:
        session.execute(f'CREATE SCHEMA "{schema}"')
        session.execute(f'CREATE TABLE "{schema}".orders (x int)')
    with pytest.raises(StateError, match="another program"), opened(path):  # type: ignore[attr-defined]
        pass
    assert rows(path, f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'") == [
        ("orders",)
    ]


def test_a_newer_schema_is_refused_and_left_untouched(path: Path) -> None:
    with opened(path):  # type: ignore[attr-defined]
        pass
    with psycopg.connect(read_address(path).url, autocommit=True) as session:
        session.execute(f"UPDATE \"{read_address(path).schema}\".meta SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(StateError, match="version 99"), opened(path):  # type: ignore[attr-defined]
        pass


def test_a_reader_cannot_write(path: Path, database: Database) -> None:
    reader = store_of(path).connect_read()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader.execute("DELETE FROM meta")
    reader.close()


# --- one writer --------------------------------------------------------------------------------------------------


def test_a_second_engine_is_refused_whatever_its_home(server: Server, path: Path, tmp_path: Path) -> None:
    same = note_address(parse_database_url(f"{server.url}&schema={read_address(path).schema}"), tmp_path / "other")
    with opened(path) as database:  # type: ignore[attr-defined]
        refused = f"another engine .aml100 pid {os.getpid()} on .* holds schema"
        with pytest.raises(StateError, match=refused), impatient(same):
            pass
        database.journal([posted("deposit", "1", "a")]).result()  # the first is not disturbed


def test_two_engines_never_trade_one_account(server: Server, tmp_path: Path) -> None:
    homes = [note_address(parse_database_url(server.url), tmp_path / name) for name in ("a", "b", "c")]
    with opened(homes[0], network="testnet"):  # type: ignore[attr-defined]
        with pytest.raises(StateError, match="holds testnet account"), impatient(homes[1], network="testnet"):
            pass
        with opened(homes[2], network="mainnet"):  # type: ignore[attr-defined]
            pass
    with opened(homes[1], network="testnet"):  # type: ignore[attr-defined]
        pass


def impatient(path: Path, **other: object) -> object:
    """Opens without waiting for the session of a killed engine to end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aml100.storage.postgres.LOCK_WAIT_S", 0.0)
        opening = opened(path, **other)
        opening.__enter__()  # type: ignore[attr-defined]
        return opening


_WRITES_UNTIL_KILLED = """
    import sys
    from decimal import Decimal
    from pathlib import Path
    from aml100.domain.events import LedgerPosted
    from aml100.storage.database import Database
    with Database.open(Path(sys.argv[1]), "FULL", "testnet", sys.argv[2], "venue") as database:
        for number in range(1_000_000):
            database.journal([LedgerPosted(number, "deposit", None, Decimal(1), str(number))], b"core").result()
            print(number, flush=True)
"""


def test_d2_a_killed_writer_frees_its_locks_and_nothing_that_was_acknowledged_is_lost(path: Path) -> None:
    code = [sys.executable, "-c", textwrap.dedent(_WRITES_UNTIL_KILLED), str(path), ACCOUNT]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(20)]
        os.kill(child.pid, signal.SIGKILL)
        told += [int(line) for line in child.stdout]
    with opened(path, network="testnet") as database:  # type: ignore[attr-defined]
        assert database.balance() in (len(told), len(told) + 1)  # the last may be kept without having been told
        assert [check for check in verify(path, apply_fill) if not check.ok] == []


# --- the server goes away ----------------------------------------------------------------------------------------


def test_d3_while_the_server_is_away_steps_fail_and_are_kept_and_written_when_it_is_back(
    server: Server, path: Path
) -> None:
    with opened(path) as database:  # type: ignore[attr-defined]
        database.journal([posted("deposit", "1", "a")]).result()
        server.kill()
        try:
            failed = database.journal([posted("deposit", "2", "b")], event_lines=[LINE]).exception()
            assert isinstance(failed, JournalFailed), failed
            assert isinstance(database.journal([posted("deposit", "3", "c")]).exception(), JournalFailed)
            assert (database.backlog, bool(database.failure)) == (2, True)
        finally:
            server.start()
        until(lambda: database.backlog == 0)
        assert (database.balance(), database.failure) == (6, None)
        assert database.event_lines() == (LINE,)
        assert [row.ref for row in database.ledger_rows()] == ["a", "b", "c"]
        database.journal([posted("deposit", "4", "d")]).result()


LINE = '{"seq": 1, "time_ms": 60000, "type": "bar"}'


@pytest.mark.parametrize("is_carried_out", [True, False])
def test_d3_a_commit_whose_answer_was_lost_is_neither_doubled_nor_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch, is_carried_out: bool
) -> None:
    """Event lines have no key of their own: written twice they would be there twice."""
    with opened(path) as database:  # type: ignore[attr-defined]
        database.journal([posted("deposit", "1", "a")], event_lines=[LINE]).result()
        whole = PostgresWriter.execute

        def cut(self: PostgresWriter, sql: str, values: tuple[object, ...] = ()) -> object:
            if sql == "COMMIT":
                monkeypatch.undo()
                if is_carried_out:
                    whole(self, sql, values)
                self._session.close()  # type: ignore[union-attr]
            return whole(self, sql, values)

        monkeypatch.setattr(PostgresWriter, "execute", cut)
        batch = [posted("deposit", "2", "b")]
        assert isinstance(database.journal(batch, event_lines=[LINE]).exception(), JournalFailed)
        until(lambda: database.backlog == 0)
        database.journal([posted("deposit", "4", "c")], event_lines=[LINE]).result()
        assert database.balance() == 7
        assert database.event_lines() == (LINE, LINE, LINE)


def until(happened: object) -> None:
    import time

    for _ in range(300):
        if happened():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("not seen in 15 s")


# --- a copy ------------------------------------------------------------------------------------------------------


def test_a_backup_is_a_state_file_with_every_row(path: Path, tmp_path: Path) -> None:
    books.bought_and_sold(path)
    target = tmp_path / "copy.db"
    backup(path, target)
    with StateReader.read(path) as ours, StateReader.read(target) as copied:
        assert copied.fills() == ours.fills() != ()
        assert copied.ledger_rows() == ours.ledger_rows()
        assert copied.equity_curve() == ours.equity_curve()
        assert copied.load_core_state() == ours.load_core_state()
    assert [check for check in verify(target, apply_fill) if not check.ok] == []
    with sqlite3.connect(target) as file:
        counts = {name: file.execute(f"SELECT count(*) FROM {name}").fetchone() for name in SQLModel.metadata.tables}
    file.close()
    for name, count in counts.items():
        assert rows(path, f"SELECT count(*) FROM {name}") == [count], name
