"""Verify finds what does not add up, and only that."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from aml100.domain.errors import StateError
from aml100.domain.events import Decision, EquityMarked, FillRecorded, LedgerPosted, OrderRecorded
from aml100.domain.orders import Action, Fill, Order, OrderKind, OrderStatus, Side
from aml100.domain.units import Cloid, Coin
from aml100.storage.database import Database, StateReader, verify
from aml100.trading.ledger import apply_fill

BTC = Coin("BTC")


def cloid(number: int) -> Cloid:
    return Cloid(f"0x{number:032x}")


def bought_and_sold(path: Path) -> None:
    """Deposit 10000; buy 2 at 100 (fee 0.09), mark 105; sell 1 at 110 (fee 0.05), mark 112.

    By hand: after the first bar balance 9999.91, equity 9999.91 + 2 x 5 = 10009.91. The sale realises 10, so balance
    10009.86, and with 1 left at entry 100 equity 10009.86 + 12 = 10021.86.
    """
    with Database.open(path, "NORMAL", "sim", "0xa", "venue") as database:
        database.journal([LedgerPosted(0, "deposit", None, Decimal(10000), "initial")])
        for number, (side, size, price, fee, realised, after) in enumerate(
            [(Side.BUY, "2", "100", "0.09", "0", "2"), (Side.SELL, "1", "110", "0.05", "10", "1")], start=1
        ):
            time_ms = number * 60_000
            kind = OrderKind.ENTRY if side is Side.BUY else OrderKind.EXIT
            order = Order(cloid(number), BTC, side, kind, Decimal(size), Decimal(price), side is Side.SELL)
            fill = Fill(
                BTC, side, Decimal(price), Decimal(size), Decimal(fee), time_ms, number, number, order.cloid, True
            )
            posted = [LedgerPosted(time_ms, "fee", BTC, -fill.fee, fill.fill_id)]
            if side is Side.SELL:
                posted.append(LedgerPosted(time_ms, "realised", BTC, Decimal(realised), fill.fill_id))
            database.journal([OrderRecorded(order, OrderStatus.CREATED, None, "", time_ms)])
            database.journal(
                [
                    OrderRecorded(order, OrderStatus.FILLED, number, "", time_ms),
                    FillRecorded(fill, kind, "signal", Decimal(realised), Decimal(after)),
                    *posted,
                ],
                state=after.encode(),
            )
            balance, equity, mark = [("9999.91", "10009.91", "105"), ("10009.86", "10021.86", "112")][number - 1]
            database.journal(
                [
                    Decision(BTC, time_ms, time_ms, Action.HOLD, None, "", 0.0, "none", ()),
                    EquityMarked(time_ms, Decimal(equity), Decimal(balance), 0.0, Decimal(equity)),
                ],
                marks={BTC: Decimal(mark)},
            )


def positions_in(state: bytes) -> dict[Coin, Decimal]:
    return {BTC: Decimal(state.decode())}


def failures(path: Path) -> list[str]:
    return [check.name for check in verify(path, apply_fill, positions_in) if not check.ok]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    bought_and_sold(path)
    return path


def tamper(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute(sql).rowcount > 0
    connection.close()


def test_books_worked_out_by_hand_verify(path: Path) -> None:
    checks = verify(path, apply_fill, positions_in)
    assert [check.name for check in checks if not check.ok] == []
    named = {check.name: check.detail for check in checks}
    assert named["venue: balance"] == "2 equity rows against the sum of the ledger"
    assert named["venue: realised"] == "2 fills against their ledger rows"
    with StateReader.read(path) as reader:
        assert reader.balance() == Decimal("10009.86")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("UPDATE ledger SET amount = '10001' WHERE kind = 'deposit'", {"balance", "equity"}),
        ("UPDATE ledger SET amount = '10.000001' WHERE kind = 'realised'", {"balance", "realised", "equity"}),
        ("DELETE FROM ledger WHERE kind = 'realised'", {"balance", "realised", "equity"}),
        ("DELETE FROM ledger WHERE kind = 'fee' AND time_ms = 60000", {"balance", "fee", "equity"}),
        ("UPDATE ledger SET ref = 'other' WHERE kind = 'fee' AND time_ms = 60000", {"fee"}),
        ("UPDATE fills SET price = '101' WHERE tid = 1", {"positions", "realised", "equity"}),
        ("UPDATE fills SET size = '1.5' WHERE tid = 1", {"positions", "equity"}),
        ("UPDATE fills SET size = '3' WHERE tid = 1", {"positions", "equity", "orders"}),
        ("DELETE FROM fills WHERE tid = 1", {"positions", "realised", "fee", "equity"}),
        ("UPDATE core_state SET state = X'32'", {"positions"}),
        ("UPDATE core_state SET state = X'786D'", {"positions"}),
        ("UPDATE ledger SET amount = 'much' WHERE kind = 'deposit'", {"values"}),
        ("UPDATE equity SET marks = 'none'", {"values"}),
        ("UPDATE equity SET equity = '10009.910000002' WHERE time_ms = 60000", {"equity"}),
        ("UPDATE equity SET balance = '9999.92' WHERE time_ms = 60000", {"balance"}),
        ("UPDATE equity SET time_ms = 0 WHERE time_ms = 120000", {"times"}),
        ("UPDATE decisions SET bar_ms = 30000 WHERE bar_ms = 120000", {"times"}),
        ("DELETE FROM orders WHERE cloid LIKE '%1'", {"orders"}),
        ("UPDATE orders SET status = 'rejected' WHERE cloid LIKE '%1'", {"orders"}),
    ],
)
def test_every_difference_is_found(path: Path, sql: str, expected: set[str]) -> None:
    """B10: a journal that was tampered with, or lost a row, does not verify."""
    tamper(path, sql)
    assert set(failures(path)) == {f"venue: {name}" for name in expected}


def test_rows_that_occur_twice_are_found(path: Path) -> None:
    """D2: the unique rules gone, a second order, fill or decision is still seen."""
    connection = sqlite3.connect(path)
    for table, index in (("orders", "orders_cloid"), ("fills", "fills_fill_id"), ("decisions", "decisions_bar")):
        connection.execute(f"DROP INDEX {index}")
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "seq"]
        connection.execute(
            f"INSERT INTO {table} (seq, {', '.join(columns)}) "
            f"SELECT seq + 1000, {', '.join(columns)} FROM {table} ORDER BY seq LIMIT 1"
        )
    connection.commit()
    connection.close()
    assert {"venue: cloids", "venue: fill ids", "venue: decisions"} <= set(failures(path))


def test_equity_tolerates_what_division_rounds(path: Path) -> None:
    tamper(path, "UPDATE equity SET equity = '10009.9100000005' WHERE time_ms = 60000")
    assert failures(path) == []


def test_positions_without_marks_are_said_to_be_unchecked(path: Path) -> None:
    tamper(path, "UPDATE equity SET marks = '{}' WHERE time_ms = 60000")
    (equity,) = [check for check in verify(path, apply_fill) if check.name == "venue: equity"]
    assert equity.ok
    assert "1 with positions whose marks were not kept" in equity.detail


def test_verify_never_writes(path: Path) -> None:
    content = path.read_bytes()
    verify(path, apply_fill, positions_in)
    assert path.read_bytes() == content


def test_books_are_verified_apart(path: Path) -> None:
    with Database.open(path, "NORMAL", "sim", "0xa", "paper") as database:
        database.journal(
            [
                LedgerPosted(0, "deposit", None, Decimal(5), "initial"),
                EquityMarked(60_000, Decimal(6), Decimal(6), 0.0, Decimal(6)),
            ]
        )
    assert failures(path) == ["paper: balance", "paper: equity"]


def test_there_must_be_something_to_verify(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no state"):
        verify(tmp_path / "state.db", apply_fill)


WRITER = """
import sys
from decimal import Decimal
from pathlib import Path
from aml100.domain.events import EquityMarked, FillRecorded, LedgerPosted, OrderRecorded
from aml100.domain.orders import Fill, Order, OrderKind, OrderStatus, Side
from aml100.storage.database import Database

with Database.open(Path(sys.argv[1]), "NORMAL", "sim", "0xa", "venue") as database:
    database.journal([LedgerPosted(0, "deposit", None, Decimal(10000), "initial")])
    balance, number = Decimal(10000), 0
    while True:
        number += 1
        side = Side.BUY if number % 2 else Side.SELL
        order = Order(f"0x{number:032x}", "BTC", side, OrderKind.ENTRY, Decimal(1), Decimal(100), False)
        database.journal([OrderRecorded(order, OrderStatus.CREATED, None, "", number)])
        fill = Fill("BTC", side, Decimal(100), Decimal(1), Decimal("0.01"), number, number, number, order.cloid, True)
        posted = [LedgerPosted(number, "fee", "BTC", Decimal("-0.01"), fill.fill_id)]
        balance -= Decimal("0.01")
        done = database.journal(
            [OrderRecorded(order, OrderStatus.FILLED, 1, "", number),
             FillRecorded(fill, OrderKind.ENTRY, "", Decimal(0), Decimal(number % 2)), *posted,
             EquityMarked(number, balance, balance, 0.0, balance)],
            state=str(number % 2).encode(), marks={"BTC": Decimal(100)},
        )
        if number % 50 == 0:
            done.result()
            print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 3, 7])
def test_a_killed_writer_leaves_books_that_verify_with_all_it_was_told_is_kept(tmp_path: Path, lines: int) -> None:
    """B10, D2: kill -9 in mid-write; whatever a future had confirmed is there, and nothing is half there."""
    path = tmp_path / "state.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(lines)]
        writer.kill()
    checks = verify(path, apply_fill, positions_in)
    assert [check for check in checks if not check.ok] == []
    with StateReader.read(path) as reader:
        assert len(reader.fills()) >= told[-1]
    with Database.open(path, "NORMAL", "sim", "0xa", "venue") as database:
        database.journal([LedgerPosted(0, "deposit", None, Decimal(10000), "initial")]).result()
        assert database.balance() == 10000 - Decimal("0.01") * len(database.fills())
