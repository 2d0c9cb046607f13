"""Alerts outlive the engine that raised them, and a console knows what it missed."""

from __future__ import annotations

from pathlib import Path

from aml100.control.alerts import KEPT, RUNBOOK, AlertBook, Change, append


def test_alert_counts_up_and_is_over() -> None:
    book = AlertBook()
    assert book.raise_("feed_stale", "BTC candle is silent", 1_000, key="BTC candle")
    assert not book.raise_("feed_stale", "BTC candle is silent", 2_000, key="BTC candle")
    assert not book.raise_("feed_stale", "BTC candle is silent", 70_000, key="BTC candle")
    (one,) = book.views()
    assert (one.count, one.first_ms, one.last_ms, one.active) == (2, 1_000, 70_000, True)
    book.clear("feed_stale", 80_000, key="BTC candle")
    assert not book.active()
    assert book.raise_("feed_stale", "BTC candle is silent", 90_000, key="BTC candle")
    assert book.views()[0].count == 3


def test_alerts_of_other_coins_stand_apart() -> None:
    book = AlertBook()
    book.raise_("feed_stale", "a", 1, key="BTC candle")
    book.raise_("feed_stale", "b", 2, key="ETH candle")
    book.clear("feed_stale", 3, key="BTC candle")
    assert [one.text for one in book.active()] == ["b"]
    book.clear_all("feed_stale", 4)
    assert book.active() == ()


def test_alerts_and_the_last_look_survive_a_restart(tmp_path: Path) -> None:
    """C29: what came after the last console left was missed."""
    path = tmp_path / "alerts.jsonl"
    book = AlertBook(path)
    book.raise_("halted", "by ann", 10, level="alarm")
    book.console_left(20)
    append(path, Change(30, "engine_dead", level="alarm", text="pid 7 is gone"))
    again = AlertBook(path)
    again.load()
    assert again.seen_ms == 20
    assert [(one.code, one.last_ms > again.seen_ms) for one in again.views()] == [
        ("engine_dead", True),
        ("halted", False),
    ]


def test_damaged_lines_are_skipped_and_the_file_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_bytes(b"{nonsense\n" * (5 * KEPT))
    append(path, Change(1, "halted", level="alarm", text="last"))
    book = AlertBook(path)
    book.load()
    assert [one.text for one in book.views()] == ["last"]
    assert len(path.read_bytes().splitlines()) == KEPT


def test_a_full_disk_loses_the_line_and_nothing_else(tmp_path: Path) -> None:
    book = AlertBook(tmp_path / "no such folder" / "alerts.jsonl")
    assert book.raise_("halted", "by ann", 1)
    assert len(book.active()) == 1


def test_book_is_bounded() -> None:
    book = AlertBook()
    for at in range(2 * KEPT):
        book.raise_("order_unknown", "x", at, key=str(at))
    assert len(book.active()) == KEPT


def test_every_alert_has_its_place_in_the_runbook() -> None:
    guide = Path(__file__).resolve().parents[3] / "docs" / "operating.md"
    text = guide.read_text()
    assert [code for code in RUNBOOK if f"### {code}\n" not in text] == []
