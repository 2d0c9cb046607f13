"""What a bad line must not change: the run with cuts, lost and repeated messages and lost answers is the quiet one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from aml100.sim.faults import Fault
from aml100.storage.verifying import verify
from aml100.trading.ledger import apply_fill
from aml100.trading.policies import Random
from tests.sim.live import Heard, embedded, wandering


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Random, "every", 4)


def story(heard: Heard) -> tuple[object, ...]:
    fills = [(d.fill.time_ms, d.kind, d.fill.side, d.fill.price, d.fill.size, d.fill.fee) for d in heard.fills]
    return [(bar.open_ms, bar.open, bar.high, bar.low, bar.close) for bar in heard.bars], fills


async def test_d16_ten_cuts_change_no_bar_and_no_fill(tmp_path: Path) -> None:
    tape = [wandering(500)]
    quiet = await embedded(tape, tmp_path / "quiet.db")
    cut = await embedded(tape, tmp_path / "cut.db", [Fault("disconnect", every=120, times=10)])
    assert len(quiet.fills) > 30
    assert len(quiet.bars) == 260
    assert cut.contract.kinds >= {"started", "bar", "feed", "stopped"}
    assert story(cut) == story(quiet)
    assert all(check.ok for check in verify(tmp_path / "cut.db", apply_fill))


async def test_d1_where_every_third_order_loses_its_answer_each_exists_once(tmp_path: Path) -> None:
    tape = [wandering(480)]
    quiet = await embedded(tape, tmp_path / "quiet.db")
    lost = await embedded(tape, tmp_path / "lost.db", [Fault("no_answer", request="order", every=3)])
    assert story(lost) == story(quiet)
    with sqlite3.connect(tmp_path / "lost.db") as connection:
        rows = connection.execute("SELECT cloid, oid FROM orders").fetchall()
    connection.close()
    assert len({cloid for cloid, _ in rows}) == len(rows)
    known = [oid for _, oid in rows if oid is not None]
    assert len(set(known)) == len(known)
    assert all(check.ok for check in verify(tmp_path / "lost.db", apply_fill))


async def test_messages_lost_doubled_and_garbled_change_nothing(tmp_path: Path) -> None:
    tape = [wandering(480)]
    quiet = await embedded(tape, tmp_path / "quiet.db")
    faults = [
        Fault("duplicate", channel="userFills", every=2),
        Fault("duplicate", channel="candle", every=3),
        Fault("garble", channel="orderUpdates", every=5),
        Fault("garble", channel="bbo", every=4),
    ]
    loud = await embedded(tape, tmp_path / "loud.db", faults)
    assert story(loud) == story(quiet)
