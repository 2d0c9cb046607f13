"""state.db: what goes in comes out, once, together, or not at all."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random

import msgspec
import pytest
from sqlmodel import SQLModel

from aml100.domain.errors import InvariantBroken, SafetyRefusal, StateError, UsageError
from aml100.domain.events import (
    CommandDone,
    Decision,
    EquityMarked,
    FillRecorded,
    Gate,
    LedgerPosted,
    OrderRecorded,
    StateChanged,
    TradeClosed,
    TradingState,
)
from aml100.domain.orders import Action, Fill, Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import Cloid, Coin
from aml100.storage import entries, tables
from aml100.storage.database import Database, JournalFailed, StateReader, backup, clear_halt_latch
from aml100.storage.migrations import SCHEMA_VERSION
from aml100.storage.rows import Fact

BTC = Coin("BTC")
ACCOUNT = "0x" + "Ab" * 20


def cloid(number: int) -> Cloid:
    return Cloid(f"0x{number:032x}")


def order(number: int = 1, status: OrderStatus = OrderStatus.CREATED, oid: int | None = None) -> OrderRecorded:
    asked = Order(
        cloid(number),
        BTC,
        Side.BUY,
        OrderKind.ENTRY,
        Decimal("0.5"),
        Decimal("65000.0"),
        reduce_only=False,
        tif=TimeInForce.IOC,
        reason="signal",
        created_ms=1_000,
    )
    return OrderRecorded(asked, status, oid, "", 1_000 if status is OrderStatus.CREATED else 1_500)


def fill(tid: int = 7, size: str = "0.5", realised: str = "0", after: str = "0.5") -> FillRecorded:
    made = Fill(
        BTC, Side.BUY, Decimal("65000"), Decimal(size), Decimal("14.625"), 1_600, tid, 99, cloid(1), is_taker=True
    )
    return FillRecorded(made, OrderKind.ENTRY, "signal", Decimal(realised), Decimal(after))


def decision(
    bar_ms: int, action: Action = Action.HOLD, gates: tuple[Gate, ...] = (), outcome: str = "none"
) -> Decision:
    return Decision(BTC, bar_ms, bar_ms + 60_000, action, (0.25, -1.5, 0.1), "calm", 0.5, outcome, gates)


def posted(kind: str, amount: str, ref: str, coin: Coin | None = BTC) -> LedgerPosted:
    return LedgerPosted(1_600, kind, coin, Decimal(amount), ref)


def opened(path: Path, **other: object) -> object:
    options = {"synchronous": "NORMAL", "network": "sim", "account": ACCOUNT, "book": "venue"} | other
    return Database.open(path, **options)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with opened(path) as db:  # type: ignore[attr-defined]
        yield db


def test_what_was_journalled_is_read_back_equal(database: Database) -> None:
    trade = TradeClosed(
        BTC,
        Side.BUY,
        1,
        Decimal("1.5"),
        2,
        Decimal("1.75"),
        Decimal(3),
        Decimal("0.75"),
        Decimal("0.1"),
        Decimal(0),
        "time",
        4,
    )
    equity = EquityMarked(60_000, Decimal("10000.5"), Decimal("10000"), 0.01, Decimal("10100"))
    gates = (Gate("cooldown", ok=False, reason="2 losses"), Gate("halt", ok=True))
    decided = decision(0, Action.BUY, gates)
    database.journal(
        [
            order(),
            fill(),
            posted("fee", "-14.625", "f"),
            decided,
            trade,
            equity,
            CommandDone("halt", "cli:me", "flat", 5),
        ],
        state=b"\x00core",
        marks={BTC: Decimal("65001.5")},
    ).result()
    assert database.orders() == (msgspec.structs.replace(order(), reason="signal"),)
    assert database.fills() == (fill(),)
    assert database.ledger_rows() == (posted("fee", "-14.625", "f"),)
    assert database.decisions() == (decided,)
    assert database.trades() == (trade,)
    (point,) = database.equity_curve()
    assert (point.time_ms, point.equity, point.balance, point.drawdown_pct) == (
        60_000,
        Decimal("10000.5"),
        Decimal("10000"),
        1.0,
    )
    assert point.marks == ((BTC, Decimal("65001.5")),)
    assert database.commands() == (CommandDone("halt", "cli:me", "flat", 5),)
    assert database.load_core_state() == b"\x00core"


def test_repeated_fills_and_ledger_rows_count_once(database: Database) -> None:
    """D16: what a reconnect brings twice is kept once, deposits without a coin included."""
    for _ in range(3):
        database.journal([fill(), posted("fee", "-1", "f"), posted("deposit", "10000", "first", None)])
    database.flush()
    assert len(database.fills()) == 1
    assert database.balance() == Decimal("9999")


def test_balance_is_the_exact_sum(database: Database) -> None:
    """More digits than a default decimal context holds."""
    tiny = "0.0000000000000000000000000001"
    database.journal([posted("deposit", "1000000000", "a", None), posted("realised", tiny, "b")]).result()
    assert database.balance() == Decimal("1000000000.0000000000000000000000000001")


def test_an_order_takes_its_latest_state_and_keeps_when_it_was_sent(database: Database, path: Path) -> None:
    database.journal([order(status=OrderStatus.CREATED)])
    database.journal([order(status=OrderStatus.SENT)])
    database.journal([order(status=OrderStatus.RESTING, oid=42)])
    database.flush()
    assert [o.status for o in database.open_orders()] == [OrderStatus.RESTING]
    late = msgspec.structs.replace(order(status=OrderStatus.FILLED), time_ms=9_000)
    database.journal([late]).result()
    assert database.open_orders() == ()
    row = sqlite3.connect(path).execute("SELECT oid, created_ms, sent_ms, updated_ms, status FROM orders").fetchall()
    assert row == [(42, 1_000, 1_500, 9_000, "filled")]


def test_many_facts_in_one_step_leave_what_they_leave_one_by_one(tmp_path: Path) -> None:
    """Where many wait one statement inserts several rows; later ones still change what earlier ones wrote."""
    random = Random(1)
    facts: list[Fact] = []
    for step in range(400):
        number, time_ms = random.randrange(20), 60_000 * random.randrange(150)
        facts += [
            msgspec.structs.replace(order(number, random.choice(list(OrderStatus)), step), time_ms=step),
            fill(tid=random.randrange(200), size=str(number + 1)),
            EquityMarked(time_ms, Decimal(step), Decimal(number), 0.01, Decimal(400)),
            decision(time_ms, random.choice(list(Action))),
        ]
    kept, written = [], ("orders", "fills", "equity", "decisions")
    for name, size in (("together", len(facts)), ("singly", 1)):
        with opened(tmp_path / f"{name}.db") as database:
            for first in range(0, len(facts), size):
                database.journal(facts[first : first + size]).result()
        connection = sqlite3.connect(tmp_path / f"{name}.db")
        kept.append([connection.execute(f"SELECT * FROM {t} ORDER BY seq").fetchall() for t in written])
    for table, together, singly in zip(written, *kept, strict=True):
        assert together == singly, table
        assert 20 <= len(together) < 200, "many of the 400 came again"


def test_an_order_refused_before_it_left_has_no_time_of_sending(database: Database, path: Path) -> None:
    database.journal([order(), order(status=OrderStatus.REJECTED)]).result()
    assert sqlite3.connect(path).execute("SELECT sent_ms FROM orders").fetchall() == [(None,)]


def test_one_decision_a_coin_and_bar(database: Database) -> None:
    database.journal([decision(60_000), decision(60_000, Action.SELL)]).result()
    assert [d.action for d in database.decisions()] == [Action.HOLD]


def test_every_decision_has_its_reason_in_the_histogram(database: Database) -> None:
    """B2: trades and explained non-trades are all decisions."""
    stale = (Gate("halt", ok=True), Gate("stale", ok=False, reason="31 s"))
    database.journal(
        [
            decision(0),
            decision(1, Action.BUY, outcome="order"),
            decision(2, Action.SELL, stale),
            decision(3, Action.BUY, stale),
            decision(4, Action.BUY, stale),
        ]
    ).result()
    assert database.why_histogram() == (("stale", 3), ("hold", 1), ("order", 1))
    assert database.why_histogram(Coin("ETH")) == ()
    assert [d.bar_ms for d in database.last_decisions(BTC, 2)] == [4, 3]
    assert database.action_counts() == (1, 3, 1)


def test_a_halt_is_latched_with_the_step_that_halted_and_stays(path: Path) -> None:
    with opened(path) as database:  # type: ignore[attr-defined]
        assert not database.has_halt_latch()
        database.journal([StateChanged(TradingState.HALTED, "hard stop", 77)])
        database.journal([StateChanged(TradingState.STOPPED, "end of run", 78)])
    with opened(path) as database:  # type: ignore[attr-defined]
        assert database.halt_latch() == entries.HaltLatched("core", "hard stop", 77)
        database.clear_latch("console:me", 80).result()
        assert not database.has_halt_latch()


def test_resume_without_an_engine_clears_the_latch_and_is_journalled(path: Path) -> None:
    with opened(path) as database:  # type: ignore[attr-defined]
        database.journal([entries.HaltLatched("file:HALT", "HALT", 5)])
    (path.parent / "HALT").touch()
    with pytest.raises(SafetyRefusal, match="HALT"):
        clear_halt_latch(path, "cli:me", 6)
    (path.parent / "HALT").unlink()
    assert clear_halt_latch(path, "cli:me", 6)
    assert not clear_halt_latch(path, "cli:me", 7)
    with StateReader.read(path) as reader:
        assert not reader.has_halt_latch()
        assert [(c.name, c.by, c.time_ms) for c in reader.commands()] == [
            ("resume", "cli:me", 6),
            ("resume", "cli:me", 7),
        ]


def test_paper_and_venue_share_a_file_but_no_row(path: Path) -> None:
    for book, amount in (("venue", "1"), ("paper", "20")):
        with opened(path, book=book) as database:  # type: ignore[attr-defined]
            database.journal([posted("deposit", amount, "x"), fill(), order(), decision(0)], state=book.encode())
    with opened(path, book="paper") as database:  # type: ignore[attr-defined]
        assert database.balance() == 20
        assert database.load_core_state() == b"paper"
    with StateReader.read(path, "venue") as reader:
        assert reader.balance() == 1
        assert len(reader.fills()) == len(reader.orders()) == len(reader.decisions()) == 1


def test_a_value_that_is_not_finite_spoils_its_own_step_only(database: Database) -> None:
    """D9: nothing of that step is kept, and the steps beside it are."""
    before = database.journal([posted("deposit", "5", "a")])
    bad = database.journal([posted("deposit", "7", "b"), posted("realised", "NaN", "c")], state=b"bad")
    after = database.journal([posted("deposit", "6", "d")])
    assert isinstance(bad.exception(), InvariantBroken)
    before.result()
    after.result()
    assert database.balance() == 11
    assert database.load_core_state() is None


@pytest.mark.parametrize("pragma", ["query_only = 1", "max_page_count = 1"])
def test_a_journal_that_cannot_be_written_says_so_and_loses_nothing(path: Path, pragma: str) -> None:
    """D3: read-only or full disk: the future fails, the step is kept and written when it works again."""
    with opened(path) as database:  # type: ignore[attr-defined]
        connection = database._writer._connection
        connection.execute(f"PRAGMA {pragma}")
        big = "x" * 2_000_000
        failed = [database.journal([posted("deposit", "1", f"{n}{big}")]) for n in range(2)]
        for future in failed:
            with pytest.raises(JournalFailed, match="cannot be written"):
                future.result()
        assert database.failure is not None
        assert database.backlog == 2
        assert database.balance() == 0
        connection.execute("PRAGMA query_only = 0")
        connection.execute("PRAGMA max_page_count = 1000000")
        database.journal([posted("deposit", "1", "last")]).result()
        assert (database.failure, database.backlog) == (None, 0)
        assert [row.ref[0] for row in database.ledger_rows()] == ["0", "1", "l"]


def test_leaving_with_unwritten_steps_is_loud(path: Path) -> None:
    session = opened(path)
    database = session.__enter__()  # type: ignore[attr-defined]
    database._writer._connection.execute("PRAGMA query_only = 1")
    assert database.journal([posted("deposit", "1", "a")]).exception() is not None
    with pytest.raises(JournalFailed, match="1 steps could not be written"):
        session.__exit__(None, None, None)  # type: ignore[attr-defined]


def test_a_locked_database_fails_the_step_and_recovers(path: Path) -> None:
    with opened(path, busy_timeout_ms=10) as database:  # type: ignore[attr-defined]
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalFailed, match="locked"):
            database.journal([posted("deposit", "1", "a")]).result()
        other.execute("ROLLBACK")
        other.close()
        database.flush()
        assert database.balance() == 1


def test_journalling_after_the_end_fails_at_once(path: Path) -> None:
    with opened(path) as database:  # type: ignore[attr-defined]
        pass
    assert isinstance(database.journal([]).exception(), JournalFailed)


def test_what_nobody_waits_for_is_written_in_its_place_and_by_itself(path: Path) -> None:
    with opened(path) as database:
        database.journal([posted("deposit", "1", "awake")]).result()
        database.note([order()])
        database.journal([order(status=OrderStatus.RESTING, oid=7)]).result()
        assert database.orders()[0].status is OrderStatus.RESTING, "later than what was noted before"
        for number in range(100):
            database.note([posted("deposit", "1", str(number))])
            if number == 60:
                time.sleep(0.7)  # the thread sleeps by now
        for _ in range(500):
            if len(database.ledger_rows()) == 101:
                return
            time.sleep(0.01)
        pytest.fail("never written")


def test_what_was_noted_last_is_there_after_the_end(path: Path) -> None:
    with opened(path) as database:
        database.note([posted("deposit", "1", "last")])
    with opened(path) as database:
        assert [row.ref for row in database.ledger_rows()] == ["last"]


def test_a_caller_who_gave_up_waiting_changes_nothing(database: Database) -> None:
    future = database.journal([posted("deposit", "1", "a")])
    future.cancel()
    database.flush()
    assert database.balance() == 1


def test_numbers_go_on_after_a_restart(path: Path) -> None:
    for n in range(3):
        with opened(path) as database:  # type: ignore[attr-defined]
            database.journal([posted("deposit", "1", str(n)), decision(n), CommandDone("pause", "x", "done", n)])
    with StateReader.read(path) as reader:
        assert [row.ref for row in reader.ledger_rows()] == ["0", "1", "2"]
        assert reader.balance() == 3


@pytest.mark.parametrize("damage", ["garbage", "cut", "page", "foreign", "short"])
def test_a_damaged_file_is_refused_and_left_untouched(path: Path, damage: str) -> None:
    with opened(path) as database:  # type: ignore[attr-defined]
        database.journal([decision(n) for n in range(2_000)])
    content = path.read_bytes()
    if damage == "garbage":
        content = b"this is not a database at all " * 200
    elif damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "page":
        content = content[:8192] + b"\xff" * 4096 * 4 + content[8192 + 4096 * 4 :]
    elif damage == "short":
        content = content[:50]
    path.write_bytes(content)
    if damage == "foreign":
        path.unlink()
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE orders (x)")
        other.commit()
        other.close()
        content = path.read_bytes()
    with pytest.raises(StateError) as refusal, opened(path):  # type: ignore[attr-defined]
        pass
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert path.read_bytes() == content
    with pytest.raises(StateError):
        clear_halt_latch(path, "x", 0)


def test_a_newer_schema_is_refused_and_left_untouched(path: Path) -> None:
    with opened(path):  # type: ignore[attr-defined]
        pass
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(StateError, match=f"schema version {SCHEMA_VERSION + 1}; allowed: at most"), opened(path):  # type: ignore[attr-defined]
        pass
    assert path.read_bytes() == content


@pytest.mark.parametrize(("option", "value"), [("network", "mainnet"), ("account", "0x" + "cd" * 20)])
def test_another_network_or_account_is_refused(path: Path, option: str, value: str) -> None:
    with opened(path):  # type: ignore[attr-defined]
        pass
    content = path.read_bytes()
    with pytest.raises(SafetyRefusal, match=option), opened(path, **{option: value}):  # type: ignore[attr-defined]
        pass
    assert path.read_bytes() == content
    with opened(path, account=ACCOUNT.upper().replace("0X", "0x")):  # type: ignore[attr-defined]
        pass


def test_an_empty_file_is_a_new_state(path: Path) -> None:
    path.touch()
    with opened(path) as database:  # type: ignore[attr-defined]
        assert database.balance() == 0
        assert database.meta("schema_version") == str(SCHEMA_VERSION)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="nowhere"), opened(tmp_path / "nowhere" / "state.db"):  # type: ignore[attr-defined]
        pass


def test_migrations_make_what_the_table_classes_say(path: Path) -> None:
    with opened(path):  # type: ignore[attr-defined]
        pass
    connection = sqlite3.connect(path)
    assert tables.MetaRow.__tablename__ == "meta"
    made = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert made == set(SQLModel.metadata.tables)
    for name, table in SQLModel.metadata.tables.items():
        columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
        assert [(c[1], bool(c[3]), bool(c[5])) for c in columns] == [
            (c.name, not c.nullable, c.primary_key) for c in table.columns
        ]
        indexes = {row[1] for row in connection.execute(f"PRAGMA index_list({name})") if row[3] == "c"}
        assert indexes == {index.name for index in table.indexes}


def test_the_engines_own_facts_come_back_equal(path: Path) -> None:
    run = entries.Run("r1", 5, "sim", "venue", (BTC, Coin("ETH")), "synthetic:regimes", "flat", 3, 4242, '{"speed": 1}')
    cycle = entries.Cycle(1, "Foundation", 0, 10, "realised", "PASS", True, '{"sharpe": 1}', "m1", "sim")
    step = entries.PhaseStep(10, "Foundation", "Growth", "3 cycles", True, "sim")
    model = entries.ModelVersion("m1", 1, 2, "champion", "models/m1", None, 7, "{}", "won")
    training = entries.Training("t1", 1, "running", "bootstrap", 7, 3, 500)
    trial = entries.Trial("x1", 4, "optimize", "done", 1, 0.5, 90, -0.1, 3.2, "{}")
    with opened(path) as database:  # type: ignore[attr-defined]
        database.start_run(run)
        database.journal([dataclasses.replace(cycle, verdict="FAIL"), cycle, step])
        database.journal([dataclasses.replace(model, state="challenger", created_ms=1), model])
        database.journal([training, dataclasses.replace(training, state="done", ended_ms=9, model="m1"), trial])
        database.journal([order()])
        database.stop_run(entries.RunStopped("r1", 90, "end of data", 0, Decimal("10001.5")))
        database.flush()
        stopped = dataclasses.replace(run, stopped_ms=90, reason="end of data", exit_code=0, equity=Decimal("10001.5"))
        assert database.runs() == (stopped,)
        assert database.cycles() == (cycle,)
        assert database.phases() == (step,)
        assert database.models() == (model,)
        assert database.champion() == model
        assert database.trainings() == (dataclasses.replace(training, state="done", ended_ms=9, model="m1"),)
        assert database.trials() == (trial,)
    assert sqlite3.connect(path).execute("SELECT run_id FROM orders").fetchall() == [("r1",)]


def test_event_lines_are_kept_as_they_were_written(database: Database) -> None:
    line = '{"seq": 1, "time_ms": 60000, "type": "bar", "coin": "BTC"}'
    database.journal([], event_lines=[line, line.replace('"seq": 1', '"seq": 2')]).result()
    assert database.event_lines(type_="bar")[0] == line
    assert database.event_lines(type_="fill") == ()
    assert isinstance(database.journal([], event_lines=["no json"]).exception(), InvariantBroken)


def test_a_backup_of_a_running_engine_is_whole_and_one_file(database: Database, path: Path, tmp_path: Path) -> None:
    database.journal([posted("deposit", "5", "a")]).result()
    target = tmp_path / "copy.db"
    backup(path, target)
    assert {p.name for p in tmp_path.iterdir() if p.name.startswith("copy")} == {"copy.db"}
    with StateReader.read(target) as reader:
        assert reader.balance() == 5
    with pytest.raises(UsageError, match="exists"):
        backup(path, target)
    with pytest.raises(StateError):
        backup(tmp_path / "none.db", tmp_path / "other.db")


def test_reading_needs_a_state(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no state"), StateReader.read(tmp_path / "state.db"):
        pass
    assert list(tmp_path.iterdir()) == []
